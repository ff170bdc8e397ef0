"""Every CI of the table, with its own variables, programs and endpoints; and what happens where one gives no token."""

import json
import os
import sys
from pathlib import Path

import pytest
from jobkey import ambient
from jobkey.errors import ConfigError, JobkeyError, Problem, ProtocolError
from jobkey.wire import ConnectionFailed

from tests.fakes.broker import FakeBroker, TokenService, make_token
from tests.unit.client.conftest import Run

AUDIENCE = "https://broker.example#S256.x"


def program(folder: Path, name: str, body: str) -> None:
    """A fake CI program: a real executable that checks how it is called."""
    path = folder / name
    path.write_text(f"#!{sys.executable}\nimport json, os, sys\nargv = sys.argv[1:]\n{body}\n")
    path.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    prints = f"import sys\nsys.path.insert(0, {str(Path(__file__).parents[3])!r})\nfrom tests.fakes.broker import make_token\n"
    program(
        folder,
        "circleci",
        prints + "assert argv[:4] == ['run', 'oidc', 'get', '--claims']\nprint(make_token(json.loads(argv[4])['aud']))",
    )
    program(
        folder,
        "buildkite-agent",
        prints
        + "if argv[:1] == ['redactor']:\n"
        + "    assert argv == ['redactor', 'add', '--format', 'json']\n"
        + "    open(os.environ['REDACTED'], 'a').write(sys.stdin.read() + '\\n')\n"
        + "else:\n"
        + "    assert argv[:3] == ['oidc', 'request-token', '--audience']\n"
        + "    assert argv[4:] == ['--claim', 'organization_id,pipeline_id']\n"
        + "    print(make_token(argv[3]))",
    )
    return folder


def surroundings(name: str, service: TokenService, programs: Path, tmp_path: Path, audience: str) -> dict[str, str]:
    """What a job of this CI sees."""
    token = make_token(audience)
    (tmp_path / "token").write_text(token + "\n")
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return {
        "generic": {"JOBKEY_SUBJECT_TOKEN": token},
        "generic-file": {"JOBKEY_SUBJECT_TOKEN_FILE": str(tmp_path / "token")},
        "kubernetes": {"JOBKEY_TOKEN_FILE": str(tmp_path / "token"), "HOSTNAME": "pod-1"},
        "github": service.github_env(),
        "forgejo": {**service.github_env(), "FORGEJO_ACTIONS": "true"},
        "gitlab": {"GITLAB_CI": "true", "JOBKEY_ID_TOKEN": token, "CI_JOB_ID": "1"},
        "gitlab-named": {"GITLAB_CI": "true", "JOBKEY_TOKEN_VARIABLE": "MY_TOKEN", "MY_TOKEN": token},
        "circleci": {"CIRCLECI": "true", "PATH": path},
        "buildkite": {"BUILDKITE": "true", "PATH": path, "REDACTED": str(tmp_path / "redacted")},
        "bitbucket": {"BITBUCKET_BUILD_NUMBER": "4", "BITBUCKET_STEP_OIDC_TOKEN": token},
        "azure-devops": {
            "TF_BUILD": "True",
            "SYSTEM_OIDCREQUESTURI": f"{service.url}/azure",
            "SYSTEM_ACCESSTOKEN": service.BEARER,
        },
        "terraform-cloud": {"TFC_RUN_ID": "run-1", "TFC_WORKLOAD_IDENTITY_TOKEN_JOBKEY": token},
        "jenkins": {"JENKINS_URL": "https://jenkins.example", "JOBKEY_ID_TOKEN": token},
        "jenkins-file": {"JENKINS_URL": "https://jenkins.example", "JOBKEY_ID_TOKEN_FILE": str(tmp_path / "token")},
        "google": {"GCE_METADATA_HOST": service.url.removeprefix("http://")},
    }[name]


CASES = [
    "generic", "generic-file", "kubernetes", "github", "forgejo", "gitlab", "gitlab-named", "circleci", "buildkite",
    "bitbucket", "azure-devops", "terraform-cloud", "jenkins", "jenkins-file", "google",
]  # fmt: skip


def test_every_line_of_the_table_is_a_case() -> None:
    covered = {case.replace("-", "_") for case in CASES}
    assert {name for name, _ in ambient.TABLE} <= covered


@pytest.mark.parametrize("case", CASES)
def test_a_job_gets_its_credential(  # noqa: PLR0917 - fixtures
    case: str,
    broker: FakeBroker,
    service: TokenService,
    programs: Path,
    tmp_path: Path,
    env: dict[str, str],
    jobkey: Run,
) -> None:
    broker.audience = "api://AzureADTokenExchange" if case == "azure-devops" else broker.url
    del env["JOBKEY_SUBJECT_TOKEN"]
    env.update(surroundings(case, service, programs, tmp_path, broker.url))
    done = jobkey("exec", "payments/token", "--", "sh", "-c", 'echo "$JOBKEY_TOKEN"')
    assert (done.returncode, done.stdout) == (0, "***\n"), done.stderr
    chooses = case in ("github", "forgejo", "circleci", "buildkite", "google")
    assert ("verifier" in broker.bodies[0]) is chooses  # a bound audience wherever the job may choose one
    assert not broker.active()
    if case == "buildkite":
        redacted = (tmp_path / "redacted").read_text()
        assert all(secret in redacted for secret in broker.secrets)


@pytest.mark.parametrize("case", CASES)
def test_whoami_never_shows_the_token(  # noqa: PLR0917 - fixtures
    case: str,
    broker: FakeBroker,
    service: TokenService,
    programs: Path,
    tmp_path: Path,
    env: dict[str, str],
    jobkey: Run,
) -> None:
    broker.audience = "api://AzureADTokenExchange" if case == "azure-devops" else broker.url
    del env["JOBKEY_SUBJECT_TOKEN"]
    given = surroundings(case, service, programs, tmp_path, broker.url)
    env.update(given)
    done = jobkey("whoami", "--json")
    shown = json.loads(done.stdout)
    assert shown["ci"] == {"forgejo": "github"}.get(case, case.removesuffix("-file").removesuffix("-named"))
    assert shown["presents"]["sub"] == "repo:acme/payments"
    assert shown["named"]["job"]["project"] == "acme/payments"
    tokens = [
        *service.given,
        (tmp_path / "token").read_text().strip(),
        *(v for v in given.values() if v.count(".") == 2),
    ]
    unmasked = [
        line for line in (done.stdout + done.stderr).splitlines() if not line.startswith(("::add-mask::", "##vso"))
    ]
    assert not any(token in line for token in tokens for line in unmasked)
    assert not broker.sessions  # asking who one is spends nothing


@pytest.mark.parametrize(
    ("env", "hint"),
    [
        ({}, "JOBKEY_SUBJECT_TOKEN"),
        ({"GITHUB_ACTIONS": "true"}, "id-token: write"),
        ({"GITHUB_ACTIONS": "true", "FORGEJO_ACTIONS": "true"}, "enable-openid-connect"),
        ({"GITLAB_CI": "true"}, "id_tokens"),
        ({"CIRCLECI": "true", "PATH": "/nowhere"}, "CircleCI CLI"),
        ({"BUILDKITE": "true", "PATH": "/nowhere"}, "buildkite-agent"),
        ({"BITBUCKET_BUILD_NUMBER": "1"}, "oidc:"),
        ({"TF_BUILD": "True", "SYSTEM_OIDCREQUESTURI": "https://x.example"}, "System.AccessToken"),
        ({"TFC_RUN_ID": "run-1"}, "TFC_WORKLOAD_IDENTITY_AUDIENCE"),
        ({"JENKINS_URL": "https://j.example"}, "withCredentials"),
        ({"JOBKEY_TOKEN_FILE": "/nowhere/token"}, "Mount"),
        ({"JOBKEY_CI": "kubernetes"}, "serviceAccountToken"),
        ({"JOBKEY_CI": "travis"}, "github"),
    ],
)
def test_a_ci_without_a_token_says_what_to_change(env: dict[str, str], hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ambient.source(env).token(env, AUDIENCE, 5)
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    "where",
    [
        "http://token.example/x?y=1",  # plain http
        "http://127.0.0.1.evil.example/x",
        "http://localhost.evil.example/x",
        "https://user@token.example/x",
        "https://token.example\\@evil.example/x",
        "https://token.example/x y",
        "https://token.example/x\r\nEvil: 1",
        "file:///etc/passwd",
        "https://",
        "https://[::1/x",
        "https://token.example:99999/",
        "//token.example/",
    ],
)
def test_request_urls_from_the_environment_are_judged(where: str) -> None:
    env = {"GITHUB_ACTIONS": "true", "ACTIONS_ID_TOKEN_REQUEST_URL": where, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "t"}
    with pytest.raises(ConfigError) as caught:
        ambient.source(env).token(env, AUDIENCE, 5)
    assert "ACTIONS_ID_TOKEN_REQUEST_URL" in str(caught.value)


def test_only_google_s_metadata_host_may_be_plain() -> None:
    env = {"GCE_METADATA_HOST": "evil.example"}
    with pytest.raises(ConfigError):
        ambient.source(env).token(env, AUDIENCE, 5)


def test_no_redirect_is_followed_with_the_bearer(service: TokenService) -> None:
    env = {**service.github_env(), "ACTIONS_ID_TOKEN_REQUEST_URL": f"{service.url}/redirect"}
    with pytest.raises(Problem) as caught:
        ambient.source(env).token(env, AUDIENCE, 5)
    assert caught.value.status == 302
    assert not service.given


def test_the_token_service_is_tried_again(
    service: TokenService, broker: FakeBroker, env: dict[str, str], jobkey: Run
) -> None:
    del env["JOBKEY_SUBJECT_TOKEN"]
    env.update(service.github_env())
    service.failures = 2
    assert jobkey("exec", "payments/token", "--", "true").returncode == 0


def test_a_token_service_that_is_not_there(tmp_path: Path) -> None:
    env = {
        "GITHUB_ACTIONS": "true",
        "ACTIONS_ID_TOKEN_REQUEST_URL": "http://127.0.0.1:9/x",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "t",
    }
    with pytest.raises(ConnectionFailed):
        ambient.source(env).token(env, AUDIENCE, 2)


@pytest.mark.parametrize("text", ["", " ", "two words", "new\nline", "nul\0", "grüße", "x" * 70_000])
def test_what_is_no_token(text: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(text)
    env = {"JOBKEY_SUBJECT_TOKEN_FILE": str(tmp_path / "token")}
    with pytest.raises(ProtocolError):
        ambient.source(env).token(env, AUDIENCE, 5)


def test_a_file_is_read_each_time(tmp_path: Path) -> None:
    env = {"JOBKEY_TOKEN_FILE": str(tmp_path / "token")}
    for text in ("a.b.c", "d.e.f"):
        (tmp_path / "token").write_text(text)
        assert ambient.source(env).token(env, AUDIENCE, 5) == text


def test_what_the_user_says_wins_and_the_log_is_still_the_ci_s() -> None:
    env = {"GITHUB_ACTIONS": "true", "JOBKEY_SUBJECT_TOKEN": "a.b.c"}
    place = ambient.place(env)
    assert ambient.source(env).name == "generic"
    assert place is not None
    assert place.mask == "github"


def test_errors_of_programs_do_not_repeat_what_they_printed(tmp_path: Path) -> None:
    program(tmp_path, "circleci", "print('s3cret-on-stdout'); sys.exit(3)")
    env = {"CIRCLECI": "true", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with pytest.raises(JobkeyError) as caught:
        ambient.source(env).token(env, AUDIENCE, 5)
    assert "exit code 3" in str(caught.value)
    assert "s3cret" not in str(caught.value)
