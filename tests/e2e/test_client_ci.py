"""The client in pipelines that really run: a GitHub workflow by `act` on this host, and the other CIs' own scripts."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.act import run_workflow
from tests.fakes.broker import Authority, FakeBroker, Scripted, TokenService, make_token, running

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / "clients"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    folder = tmp_path / "ca"
    folder.mkdir()
    return Authority(folder)


@pytest.fixture
def broker(authority: Authority) -> Iterator[FakeBroker]:
    with running(authority) as fake:
        yield fake


@pytest.fixture
def service() -> Iterator[TokenService]:
    fake = TokenService()
    yield fake
    fake.close()


@pytest.fixture
def workflow(tmp_path: Path, service: TokenService, authority: Authority) -> Any:
    """Run the steps of one job on this host."""
    given = {"JOBKEY_CA_FILE": str(authority.ca_file)}
    return lambda steps: run_workflow(tmp_path, steps, {**service.github_env(), **given})


def spread(log: str, broker: FakeBroker, service: TokenService) -> list[str]:
    """Which of all secrets stand in the log, in clear."""
    return [secret for secret in {*broker.secrets, *service.given} if secret in log]


def test_a_workflow_runs_one_command_with_a_credential(
    workflow: Any, broker: FakeBroker, service: TokenService
) -> None:
    done = workflow(
        [
            {"uses": "./clients/github-action", "with": {"broker": broker.url}},
            {"run": "jobkey exec payments/deploy -- sh -c 'echo \"key=$AWS_SECRET_ACCESS_KEY id=$AWS_ACCESS_KEY_ID\"'"},
            {"run": 'test -z "$AWS_SECRET_ACCESS_KEY"'},
        ]
    )
    log = done.stdout + done.stderr
    assert done.returncode == 0, log
    assert "key=*** id=ASIAEXAMPLE" in log
    assert not spread(log, broker, service)
    assert len(broker.leases) == 1
    assert not broker.active()


def test_variables_of_later_steps_are_masked_and_revoked_at_the_end(
    workflow: Any, broker: FakeBroker, service: TokenService
) -> None:
    """Here the runner's own mask does it: the later step is none of ours, and prints the value on purpose."""
    done = workflow(
        [
            {
                "uses": "./clients/github-action",
                "with": {"broker": broker.url, "grants": "payments/deploy", "export": "env"},
            },
            {"run": 'test -n "$AWS_SESSION_TOKEN" && echo "session=$AWS_SESSION_TOKEN"'},
        ]
    )
    log = done.stdout + done.stderr
    assert done.returncode == 0, log
    assert "session=***" in log
    assert not spread(log, broker, service)
    assert len(broker.leases) == 1
    assert not broker.active()  # by the action's post step
    assert broker.requests[-1] == ("DELETE", "/v1/session")


def test_a_job_that_fails_is_cleaned_up_too(workflow: Any, broker: FakeBroker, service: TokenService) -> None:
    action = {
        "id": "jobkey",
        "uses": "./clients/github-action",
        "with": {"broker": broker.url, "grants": "payments/token payments/deploy", "export": "file"},
    }
    done = workflow(
        [
            action,
            {
                "run": 'stat -c mode=%a "${{ steps.jobkey.outputs.file }}"; cat "${{ steps.jobkey.outputs.file }}"; exit 3'
            },
        ]
    )
    log = done.stdout + done.stderr
    assert done.returncode != 0
    assert "mode=600" in log
    assert not spread(log, broker, service)
    assert len(broker.leases) == 2
    assert not broker.active()


def test_a_refusal_tells_the_case_in_the_log(workflow: Any, broker: FakeBroker, service: TokenService) -> None:
    service.claims = {"event_name": "pull_request"}
    done = workflow(
        [
            {"uses": "./clients/github-action", "with": {"broker": broker.url}},
            {"run": "jobkey exec payments/deploy -- echo never"},
        ]
    )
    log = done.stdout + done.stderr
    assert done.returncode != 0
    assert "case_0123" in log
    assert not re.search(r"\| never", log)
    assert not broker.leases


def test_a_broker_that_is_away_does_not_fail_the_cleanup(
    workflow: Any, broker: FakeBroker, service: TokenService
) -> None:
    away = [Scripted(status=503, headers={"Retry-After": "600"}) for _ in range(8)]
    broker.grants["payments/last"] = lambda params, ttl: (
        broker.script.extend(away) or broker.grants["payments/token"](params, ttl)
    )
    done = workflow(
        [
            {
                "uses": "./clients/github-action",
                "with": {"broker": broker.url, "grants": "payments/last", "export": "env"},
            }
        ]
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(broker.active()) == 1  # ends by its own time
    assert not spread(done.stdout + done.stderr, broker, service)


# GitLab: the component's own lines, run by a shell as the runner runs them


def component(**inputs: str) -> dict[str, Any]:
    """The template with its inputs filled in, as GitLab does it (on the text)."""
    spec, template = (CLIENTS / "gitlab" / "templates" / "jobkey.yml").read_text().split("\n---\n")
    declared = yaml.safe_load(spec)["spec"]["inputs"]
    values = {name: inputs.get(name, (one or {}).get("default")) for name, one in declared.items()}
    assert set(inputs) <= set(declared)
    assert None not in values.values()
    for name, value in values.items():
        template = template.replace(f"$[[ inputs.{name} ]]", value)
    assert "$[[" not in template
    return yaml.safe_load(template)


def test_gitlab_component(broker: FakeBroker, authority: Authority, tmp_path: Path) -> None:
    job = component(broker=broker.url)[".jobkey"]
    assert job["id_tokens"]["JOBKEY_ID_TOKEN"] == {"aud": broker.url}
    checkout = tmp_path / "builds" / "payments"
    checkout.mkdir(parents=True)
    (tmp_path / "builds" / "payments.tmp").mkdir()
    binary = tmp_path / "bin"
    env = {
        "PATH": f"{binary}:/usr/bin:/bin",
        "GITLAB_CI": "true",
        "CI_JOB_ID": "12",
        "CI_PROJECT_DIR": str(checkout),
        "JOBKEY_CA_FILE": str(authority.ca_file),
        "JOBKEY_ID_TOKEN": make_token(broker.url),
        **job["variables"],
        "JOBKEY_INSTALL": f"{sys.executable} {CLIENTS}/python/build_pyz.py {binary}/jobkey",
    }

    def shell(lines: list[str]) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join(lines)],
            env=env,
            cwd=checkout,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    script = [
        "jobkey exec payments/deploy -- sh -c 'echo \"$AWS_SECRET_ACCESS_KEY\"'",
        'jobkey get payments/token --format file --output "$CI_PROJECT_DIR.tmp/token"',
        'test -s "$CI_PROJECT_DIR.tmp/token"',
        "exit 9",
    ]
    main = shell([*job["before_script"], *script])
    assert main.returncode == 9, main.stderr
    assert "***" in main.stdout
    assert len(broker.active()) == 1
    assert len(broker.sessions) == 1
    after = shell(job["after_script"])  # a shell of its own, without the variables of the first
    assert after.returncode == 0, after.stderr
    assert "1 credentials revoked" in after.stderr
    assert not broker.active()
    assert not list(checkout.iterdir())
    log = main.stdout + main.stderr + after.stdout + after.stderr
    assert not [secret for secret in broker.secrets if secret in log]


def test_buildkite_hooks(broker: FakeBroker, tmp_path: Path) -> None:
    hooks = CLIENTS / "buildkite-plugin" / "hooks"
    calls = tmp_path / "calls"
    (tmp_path / "jobkey").write_text(f'#!/bin/sh\necho "$JOBKEY_URL $*" >> {calls}\n')
    (tmp_path / "jobkey").chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "BUILDKITE_PLUGIN_JOBKEY_BROKER": broker.url}
    script = f". {hooks}/environment; {hooks}/pre-exit"
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], env=env, check=True)
    assert calls.read_text() == f"{broker.url} revoke\n"
    del env["BUILDKITE_PLUGIN_JOBKEY_BROKER"]
    refused = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=False)
    assert "needs its broker property" in refused.stderr
    assert os.access(hooks / "environment", os.X_OK)


def test_azure_template(broker: FakeBroker, tmp_path: Path) -> None:
    steps = yaml.safe_load((CLIENTS / "azure-pipelines" / "jobkey-steps.yml").read_text())["steps"]
    assert steps[1]["condition"] == "always()"
    (tmp_path / "jobkey").write_text('#!/bin/sh\nprintf "[%s]" "$@"\n')
    (tmp_path / "jobkey").chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "JOBKEY_GRANTS": "a/b c/*", "JOBKEY_COMMAND": 'echo "x y"; ls'}
    done = subprocess.run(
        ["bash", "-c", steps[0]["bash"]], env=env, capture_output=True, text=True, check=True, cwd="/"
    )
    assert done.stdout == '[exec][a/b][c/*][--][bash][-euo][pipefail][-c][echo "x y"; ls]'


def test_circleci_orb() -> None:
    orb = yaml.safe_load((CLIENTS / "circleci" / "orb.yml").read_text())
    assert orb["commands"]["revoke"]["steps"][0]["run"] == {
        "name": "Revoke credentials",
        "when": "always",
        "command": "jobkey revoke",
    }


def test_every_folder_says_what_it_is() -> None:
    index = (CLIENTS / "README.md").read_text()
    for folder in sorted(path for path in CLIENTS.iterdir() if path.is_dir()):
        assert (folder / "README.md").exists(), folder
        assert f"({folder.name}/)" in index, folder


def test_the_action_declares_what_it_reads() -> None:
    action = yaml.safe_load((CLIENTS / "github-action" / "action.yml").read_text())
    source = "".join(path.read_text() for path in (CLIENTS / "github-action").glob("*.js"))
    assert set(re.findall(r'input\("([a-z-]+)"\)', source)) == set(action["inputs"])
    assert set(re.findall(r'require\("([^"]+)"\)', source)) <= {
        "node:child_process", "node:crypto", "node:fs", "node:path", "./client.js",
    }  # fmt: skip
    assert action["runs"] == {"using": "node20", "main": "main.js", "post": "post.js", "post-if": "always()"}
    assert json.dumps(action)  # plain data
