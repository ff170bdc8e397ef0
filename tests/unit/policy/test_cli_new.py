"""`policy new` from a terminal: what it reads, what it says, and what it never repeats."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from broker.cli.policy import app
from broker.issuers import ISSUERS

CONFIG = Path(__file__).parents[3] / "configs" / "broker.yaml"
GITHUB = ISSUERS["github"]
CLAIMS = {
    **GITHUB.examples["github-environment"],
    "iss": GITHUB.url,
    "aud": "https://broker.acme.example",
    "iat": 1,
    "exp": 2,
}
ASKED = ("payments", "--owner", "team@acme.example", "--backend", "token")
Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    def invoke(*arguments: str | Path, stdin: str = "") -> Result:
        result = CliRunner().invoke(app, ["new", *map(str, arguments)], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


def whoami(claims: dict[str, Any] = CLAIMS, kind: str = "github", **named: Any) -> str:
    job = ISSUERS[kind].identity(claims).present()
    return json.dumps({
        "ci": "GitHub Actions", "broker": "https://broker.acme.example", "presents": claims,
        "named": {"issuer": kind, "kind": kind, "job": job, "unsafe_triggers": [], "bound_audience": False, "expires_at": "2026-11-22T12:00:00Z", **named},
    })  # fmt: skip


def jwt(claims: dict[str, Any]) -> str:
    parts = ({"alg": "RS256", "kid": "1"}, claims)
    return ".".join(urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts) + ".c2lnbmVk"


def test_from_whoami_to_a_policy_that_checks(run: Run, tmp_path: Path) -> None:
    written = run(*ASKED, "--config", CONFIG, stdin=whoami())
    assert written.exit_code == 0, written.stderr
    assert written.stdout.startswith("# yaml-language-server: $schema=../schemas/trust-policy.schema.json\n")
    assert '      project_id: "512345678"  ' in written.stdout
    assert "claims: as its broker named it\n" in written.stderr
    assert "holds placeholders: audience" in written.stderr
    (tmp_path / "payments.yaml").write_text(written.stdout)
    checked = CliRunner().invoke(app, ["check", str(tmp_path / "payments.yaml"), "--config", str(CONFIG)])
    assert checked.exit_code == 0, checked.output


def test_a_file_an_answer_of_the_broker_claims_and_a_token_say_the_same(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "whoami.json"
    file.write_text(whoami())
    from_file = run(*ASKED[:1], file, *ASKED[1:]).stdout
    named = json.dumps(json.loads(whoami())["named"])
    texts = {
        from_file,
        *(run(*ASKED, stdin=text).stdout for text in (whoami(), named, json.dumps(CLAIMS), jwt(CLAIMS) + "\n")),
    }
    assert len(texts) == 1
    assert "policy: payments" in from_file


def test_a_token_is_not_checked_and_never_repeated(run: Run) -> None:
    token = jwt(CLAIMS)
    said = run(*ASKED, stdin=token)
    assert "its signature was not checked" in said.stderr
    assert token.rpartition(".")[2] not in said.output
    assert token.split(".")[1] not in said.output
    for broken in (token[:40], token + ".x.y", "a." + token.split(".")[1][:-9] + ".b", token.replace(".", " ")):
        said = run(*ASKED, stdin=broken)
        assert said.exit_code == 2
        assert said.stdout == ""
        assert not any(part in said.output for part in broken.split(".") if len(part) > 3)


def test_without_a_config_the_kinds_are_the_issuers_and_the_backend_is_taken_at_its_word(run: Run) -> None:
    said = run("payments", "-o", "a@b", "-b", "aws-prod", stdin=whoami(issuer="ghe"))
    assert said.exit_code == 0, said.stderr
    assert "- issuer: ghe" in said.stdout
    assert "give --config broker.yaml" in said.stderr


@pytest.mark.parametrize("kind", [name for name in ISSUERS if name != "generic"])
def test_the_words_of_every_kind_lead_back_to_claims(run: Run, kind: str) -> None:
    """What GET /v1/whoami answers is enough, and is checked by the kind itself."""
    known = ISSUERS[kind]
    safe = next(claims for claims in known.examples.values() if not known.unsafe_triggers(claims))
    told = json.loads(json.dumps(safe).replace("payments", "refunds").replace("5678", "9999"))
    job = known.identity(told).present()
    said = run(*ASKED, stdin=json.dumps({"issuer": kind, "kind": kind, "job": job}))
    assert said.exit_code == 0, said.stderr
    for word in ("project", "project_id", "owner_id"):
        if word in job and word in (*known.immutable, "project"):
            assert f"{word}: " in said.stdout
            assert str(job[word]) in said.stdout


@pytest.mark.parametrize(
    ("stdin", "said"),
    [
        ("", "nothing is there; did the command before the pipe fail?"),
        ("hello", "neither JSON nor a token"),
        ("[1]", "a JSON object is expected"),
        ("{", "neither JSON nor a token"),
        ("[" * 100_000, "neither JSON nor a token"),
        ('{"iss": "https://nobody.example"}', "no single issuer has this URL; say --issuer"),
        (json.dumps({"iss": GITHUB.url, "sub": "x"}), "signs event_name, repository,"),
        (json.dumps({"issuer": "g", "kind": "nokind", "job": {}}), "of the kind 'nokind'"),
        (json.dumps({"issuer": "g", "kind": "generic", "job": {"project": "x"}}), "stands in broker.yaml; give --config"),
        (json.dumps({"issuer": "github", "kind": "github", "job": {"project": "x", "ref": 1}}), "not what a broker answers at /v1/whoami"),
        (json.dumps({"issuer": "github", "kind": "github", "job": {"ref": "main"}}), "the claims cannot be told"),
        (json.dumps({"issuer": "github", "kind": "gitlab", "job": {}}), "which it is not here"),
        (json.dumps({"presents": CLAIMS, "named": {"issuer": "github", "kind": "github", "job": {"ref": "refs/heads/x"}}}), "is not what the claims beside it say"),
        ("x" * ((1 << 20) + 1), "larger than 1 MiB"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_one_clear_line(run: Run, stdin: str, said: str) -> None:
    result = run(*ASKED, stdin=stdin)
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(("standard input:1:", "-:1:"))
    assert said in line


def test_a_job_that_should_not_be_trusted_is_a_no(run: Run) -> None:
    claims = {**GITHUB.examples["github-pull-request"], "iss": GITHUB.url}
    said = run(*ASKED, stdin=json.dumps(claims))
    assert (said.exit_code, said.stdout) == (1, "")
    assert "no policy is written: this job came from 'pull_request': runs the pull request's own code" in said.stderr


def test_a_broker_that_did_not_accept_the_token_is_said(run: Run) -> None:
    said = run(*ASKED, stdin=json.dumps({"ci": "x", "broker": "y", "presents": CLAIMS, "named": None}))
    assert said.exit_code == 0
    assert "did not accept its token" in said.stderr


def test_the_askers_own_mistakes(run: Run, tmp_path: Path) -> None:
    for arguments, why in (
        (
            ("payments", "-o", "a@b", "-b", "tokn", "-c", CONFIG),
            "no backend 'tokn' is configured; did you mean 'token'?",
        ),
        (("payments", "-o", "mallory@evil.example", "-b", "token", "-c", CONFIG), "may not own a policy"),
        (("Payments!", *ASKED[1:]), "policy: String should match pattern"),
        (("payments", tmp_path / "none.json", *ASKED[1:]), "cannot be read: No such file"),
        ((*ASKED, "--issuer", "gitub"), "no issuer 'gitub' is configured; did you mean 'github'?"),
    ):
        said = run(*arguments, stdin=json.dumps(CLAIMS))
        assert said.exit_code == 2
        assert why in said.stderr
        assert said.stdout == ""
