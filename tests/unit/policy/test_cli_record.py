"""`policy record` from a terminal: from claims, from a token, from the ledger; to the terminal, and into a policy."""

import asyncio
import hashlib
import json
import sys
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from broker import ids
from broker.authoring.write.insert import with_examples
from broker.cli.policy import app
from broker.issuers import ISSUERS
from broker.ledger import events
from broker.ledger.records import Entry
from tests.unit.ledger.story import NOON, issued, lease, open_ledger, session

CONFIGS = Path(__file__).parents[3] / "configs"
GITHUB = ISSUERS["github"]
MAIN = {
    **GITHUB.examples["github-environment"],
    "iss": GITHUB.url,
    "actor": "kim",
    "actor_id": "8801202",
    "sha": "c0ffee",
    "run_id": "77",
}
FORK = {**GITHUB.examples["github-fork"], "iss": GITHUB.url, "actor": "trudy"}
Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    def invoke(*arguments: str | Path, stdin: str = "") -> Result:
        result = CliRunner().invoke(app, ["record", *map(str, arguments)], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    file = tmp_path / "payments.yaml"
    file.write_bytes((CONFIGS / "policies/payments.yaml").read_bytes())
    file.chmod(0o640)
    return file


def test_to_the_terminal(run: Run) -> None:
    said = run("--expect", "refuse", stdin=json.dumps(FORK))
    assert said.exit_code == 0
    assert said.stdout == (
        "  - name: pull_request on refs/pull/77/merge\n    issuer: github\n    claims: {$like: github-fork}\n    expect: refuse\n"
    )
    assert "nobody checked them" in said.stderr


def test_a_token_is_decoded_not_checked_and_not_repeated(run: Run) -> None:
    body = urlsafe_b64encode(json.dumps(FORK).encode()).rstrip(b"=").decode()
    said = run("-", "--expect", "refuse", stdin=f"eyJhbGciOiJSUzI1NiJ9.{body}.c2lnbmVk")
    assert "$like: github-fork" in said.stdout
    assert "its signature was not checked" in said.stderr
    assert body not in said.output
    assert "c2lnbmVk" not in said.output


def test_into_a_policy_that_keeps_its_comments_its_layout_and_its_mode(run: Run, policy: Path, tmp_path: Path) -> None:
    before = policy.read_text()
    said = run("--into", policy, "--name", "Kim's push", "--expect", "allow:identity,shell", stdin=json.dumps(MAIN))
    assert said.exit_code == 0, said.output
    after = policy.read_text()
    assert after.startswith(before)
    assert after.endswith(
        '  - name: "Kim\'s push"\n    claims: {$like: github-environment}\n    expect: {allow: [identity, shell]}\n'
    )
    assert policy.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [policy]
    checked = CliRunner().invoke(app, ["test", str(policy), "--config", str(CONFIGS / "broker.yaml")])
    assert checked.exit_code == 0, checked.output


def test_what_does_not_agree_is_told_and_nothing_is_written(run: Run, policy: Path) -> None:
    before = policy.read_bytes()
    said = run("--into", policy, "--expect", "allow:identity", stdin=json.dumps(FORK))
    assert (said.exit_code, said.stdout) == (1, "")
    assert "nothing is written: expected identity and nothing else, but payments says" in said.stderr
    assert "  identity: refused: trust[0] job.ref: expected refs/heads/main, got refs/pull/77/merge" in said.stderr
    said = run("--into", policy, "--expect", "refuse", stdin=json.dumps(MAIN))
    assert said.exit_code == 1
    assert "expected a refusal of everything" in said.stderr
    assert "  shell: allowed" in said.stderr
    assert run("--into", policy, "--expect", "allow:shell", stdin=json.dumps(MAIN)).exit_code == 1
    assert policy.read_bytes() == before


def test_a_linked_policy_stays_a_link(run: Run, policy: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.yaml"
    link.symlink_to(policy)
    assert run("--into", link, "--expect", "refuse", stdin=json.dumps(FORK)).exit_code == 0
    assert link.is_symlink()
    assert "pull_request on refs/pull/77/merge" in policy.read_text()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A ledger with an issuance, a refusal, and an event that is about nobody."""
    folder = tmp_path_factory.mktemp("data")
    names: dict[str, str] = {}

    async def write() -> None:
        ledger = await open_ledger(folder)
        opened = session()
        leases = [lease(opened, grant=f"payments/{name}") for name in ("identity", "shell")]
        leases = [lease(opened, grant=one.grant, issuance=leases[0].issuance) for one in leases]
        event = issued(opened, *leases)
        event.body["claims"] = MAIN
        names["issued"], names["case"] = leases[0].issuance, ids.new("case")
        refused = events.refused(
            case=names["case"], code="GrantRefused", grants=["payments/identity"], issuer="github", job={}, claims=FORK,
            reason="no", policy_set="sha256:0", now=NOON,
        )  # fmt: skip
        flood = events.refused_many(
            case=ids.new("case"), issuer="github", owner="acme", count=9, since=NOON, sample={"job": {}, "claims": FORK}, now=NOON
        )  # fmt: skip
        names["flood"] = flood.body["case"]
        await ledger.write(Entry(events=(event, refused, flood)))
        await ledger.close()

    asyncio.run(write())
    return folder, names


def digest(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}


def test_a_refusal_of_the_ledger_becomes_a_refusal_example(
    run: Run, policy: Path, data: tuple[Path, dict[str, str]]
) -> None:
    folder, names = data
    before = digest(folder)
    said = run("--event", names["case"], "--data", folder, "--into", policy)
    assert said.exit_code == 0, said.output
    assert "of the ledger; its broker verified the token" in said.stderr
    assert policy.read_text().endswith("claims: {$like: github-fork}\n    expect: refuse\n")
    assert digest(folder) == before, "the ledger is only read"


def test_a_counted_flood_gives_its_sample(run: Run, data: tuple[Path, dict[str, str]]) -> None:
    said = run("--event", data[1]["flood"], "--data", data[0])
    assert said.exit_code == 0, said.output
    assert "$like: github-fork" in said.stdout
    assert said.stdout.endswith("expect: refuse\n")


def test_an_issuance_of_the_ledger_expects_what_it_gave(
    run: Run, policy: Path, data: tuple[Path, dict[str, str]]
) -> None:
    folder, names = data
    said = run("--event", names["issued"], "--data", folder, "--into", policy)
    assert said.exit_code == 0, said.output
    assert policy.read_text().endswith("claims: {$like: github-environment}\n    expect: {allow: [identity, shell]}\n")
    again = run("--event", names["issued"], "--data", folder, "--into", policy, "--expect", "refuse")
    assert again.exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        ((), MAIN, "--expect: say what has to become of this job"),
        (("--expect", "allow"), MAIN, "--expect: write refuse, or allow:GRANT"),
        (("--expect", "yes"), MAIN, "--expect: write refuse, or allow:GRANT"),
        (("--expect", "refuse", "--event", "case_x", "claims.json"), MAIN, "give --event or a file, not both"),
        (("--expect", "refuse"), {"iss": "https://nobody.example"}, "no single issuer has this URL"),
        (("--expect", "refuse", "--into", "none.yaml"), MAIN, "none.yaml:1:1: cannot be read"),
    ],
    ids=str,
)
def test_a_wrong_question(run: Run, arguments: tuple[str, ...], stdin: dict[str, Any], said: str) -> None:
    result = run(*arguments, stdin=json.dumps(stdin))
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_a_wrong_question_about_a_policy_or_a_ledger(run: Run, policy: Path, data: tuple[Path, dict[str, str]]) -> None:
    before = policy.read_bytes()
    for arguments, why in (
        (("--into", policy, "--expect", "allow:deploy"), "payments has no grant 'deploy'; it has identity, shell"),
        (("--into", policy, "--expect", "refuse", "--name", "a pull request gets nothing"), "is there already"),
        (("--event", ids.new("case"), "--data", data[0]), "the ledger holds nothing of this id"),
        (("--event", "case_nonsense", "--data", data[0]), "the ledger holds nothing of this id"),
    ):
        result = run(*arguments, stdin=json.dumps(FORK))
        assert (result.exit_code, why in result.stderr) == (2, True), result.output
    policy.write_text("policy: [")
    result = run("--into", policy, "--expect", "refuse", stdin=json.dumps(FORK))
    assert result.exit_code == 2
    assert policy.read_text() == "policy: ["
    assert before


def test_a_file_that_changes_meanwhile_is_not_overwritten(
    run: Run, policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = with_examples

    def and_somebody_saves(data: bytes, name: str, examples: list[Any]) -> bytes:
        policy.write_bytes(data + b"# saved by somebody\n")
        return original(data, name, examples)

    monkeypatch.setattr(sys.modules["broker.cli.policy.record"], "with_examples", and_somebody_saves)
    result = run("--into", policy, "--expect", "refuse", stdin=json.dumps(FORK))
    assert result.exit_code == 2
    assert "somebody changed the file in the meantime" in result.stderr
    assert policy.read_text().endswith("# saved by somebody\n")
