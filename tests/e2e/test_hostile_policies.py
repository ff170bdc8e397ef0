"""Broken, hostile and huge inputs end in clear lines and an exit code, within bounded time and memory, never a traceback.

Every `policy` command reads every input, each in a process of its own with hard limits (tests/e2e/hostile/driver.py).
A running broker that finds such files among its policies goes on with its last good set.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import typer

from broker.cli.policy import app
from tests.e2e.broker_process import JOB, ROOT, BrokerProcess, ask, until
from tests.e2e.hostile.inputs import CLAIMS, GUARDRAILS, NAMES, POLICIES, TEXTS, THINGS, good, write
from tests.e2e.issuer_process import IssuerProcess

pytestmark = pytest.mark.slow
PATIENCE = 60  # seconds on the wall, for a machine with other work
CPU = 45.0  # seconds, on the slowest machine; the largest input here takes five
MEMORY = 512 << 20  # bytes resident, of which the program itself takes 120 MiB
LONGEST = 2_000  # characters of a line
MOST = 4_000  # lines
LARGEST = 4 << 20  # characters, of anything
CODES = {0, 1, 2, 78}

BROKER = """\
url: https://broker.acme.example
policies: ./policies
issuers:
  github: {kind: github}
backends:
  token: {kind: identity-token}
"""


@dataclass(frozen=True)
class Ended:
    """How one command ended."""

    code: int
    out: str
    err: str
    cpu: float
    memory: int

    @property
    def said(self) -> str:
        return self.out + self.err


class Driver:
    """Runs commands in `folder`."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        self._process, self.folder = process, folder

    def __call__(self, *argv: str | Path, stdin: Path | None = None) -> Ended:
        """Run it, and assert what holds of every command, whatever it reads."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        task = {
            "argv": [str(one) for one in argv],
            "cwd": str(self.folder),
            "stdin": stdin and str(stdin),
            "patience": PATIENCE,
        }
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        ended = Ended(**json.loads(self._process.stdout.readline()))
        shown = f"{' '.join(map(repr, task['argv']))} ended with {ended.code} after {ended.cpu:.1f} s, {ended.memory >> 20} MiB\n{ended.said[:3000]}"
        assert "Traceback" not in ended.said, shown
        assert ended.code in CODES, shown
        assert ended.cpu < CPU, shown
        assert ended.memory < MEMORY, shown
        assert ended.said.strip() or ended.code == 0, shown
        assert len(ended.said) < LARGEST, shown
        assert all(line.isprintable() for line in ended.said.split("\n")), repr(shown)
        # What a policy that loads says may be long; what is wrong are a few lines that a person can read.
        problems = (ended.err if ended.code in {0, 1} and "check" not in argv else ended.said).split("\n")
        assert len(problems) < MOST, f"{len(problems)} lines: {shown}"
        assert max(map(len, problems)) < LONGEST, f"{max(map(len, problems))} characters: {shown}"
        return ended


@pytest.fixture(scope="module")
def process() -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.hostile.driver"], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as started:  # fmt: skip
        yield started
        assert started.stdin is not None
        started.stdin.close()


@pytest.fixture
def run(process: "subprocess.Popen[str]", tmp_path: Path) -> Driver:
    (tmp_path / "policies").mkdir()
    (tmp_path / "broker.yaml").write_text(BROKER)
    (tmp_path / "good").mkdir()
    (tmp_path / "good/payments.yaml").write_text(good())
    (tmp_path / "claims.json").write_text('{"$like": "github-branch"}')
    return Driver(process, tmp_path)


# Each command, as it reads a folder of policies. A command that is not here fails the test below.
POLICY_COMMANDS: Mapping[str, list[list[str]]] = {
    "check": [
        ["check", "policies"],
        ["check", "policies", "-c", "broker.yaml", "-f", "github", "--report", "sarif=s", "--report", "junit=j"],
        ["check", "policies", "--fix", "-f", "json", "-o", "out.json"],
    ],
    "explain": [["explain", "-p", "policies", "--claims", "claims.json", "-g", "payments/deploy", "-i", "github"]],
    "diff": [["diff", "good", "policies"], ["diff", "policies", "good", "-c", "broker.yaml", "-f", "markdown"]],
    "record": [["record", "claims.json", "--into", "policies/hostile.yaml", "-n", "x", "-e", "refuse", "-i", "github"]],
    "rollout": [["rollout", "-c", "broker.yaml", "-p", "policies"]],
    "describe": [["describe", "policies"], ["describe", "policies", "-f", "html", "-c", "broker.yaml"]],
    "matrix": [["matrix", "policies"], ["matrix", "policies", "-c", "broker.yaml", "-f", "csv"]],
    "test": [["test", "policies", "-v"], ["test", "policies", "--mutate", "--add", "-c", "broker.yaml"]],
    "push": [["push", "policies", "--broker", "http://127.0.0.1:9", "--dry-run"]],  # nobody listens there
    "new": [],  # reads claims only
    "rule": [],  # reads nothing of a person
}
# Each command, as it reads claims.
CLAIMS_COMMANDS: Mapping[str, list[list[str]]] = {
    "explain": [
        ["explain", "-p", "good", "--claims", "hostile.json", "-g", "payments/deploy"],
        ["explain", "-p", "good", "--claims", "hostile.json", "-g", "payments/deploy", "-i", "github", "-f", "json"],
        ["explain", "-p", "good", "--claims", "-", "-g", "payments/deploy", "-i", "github"],
        ["explain", "-p", "good", "--token", "hostile.json", "-g", "payments/deploy", "-i", "github"],
    ],
    "new": [
        ["new", "payments", "hostile.json", "-o", "a@b.example", "-b", "token", "-i", "github"],
        ["new", "payments", "-", "-o", "a@b.example", "-b", "token", "-i", "github"],
    ],
    "record": [["record", "hostile.json", "-n", "x", "-e", "refuse", "-i", "github"]],
    **{name: [] for name in ("check", "diff", "rollout", "describe", "matrix", "test", "push", "rule")},  # read no claims
}  # fmt: skip


def test_no_command_is_forgotten() -> None:
    group = typer.main.get_group(app)
    commands = set(group.list_commands(typer.Context(group)))
    assert commands == set(POLICY_COMMANDS) == set(CLAIMS_COMMANDS)


@pytest.mark.parametrize("name", TEXTS | POLICIES | THINGS)
def test_a_hostile_policy(run: Driver, name: str) -> None:
    path = run.folder / "policies/hostile.yaml"
    what: Any = {**TEXTS, **POLICIES, **THINGS}[name]
    write(path, what)
    before = path.read_bytes() if path.is_file() and not callable(what) else None
    for commands in POLICY_COMMANDS.values():
        for command in commands:
            run("policy", *command)
    run("policy", "check", "policies/hostile.yaml")
    run("check", "-c", "broker.yaml")
    if before is not None and name != "a silence of comments":
        assert path.read_bytes() == before


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_file_with_a_hostile_name(run: Driver, name: str) -> None:
    (run.folder / "policies" / name).write_text("trust: \x1b\n")
    for form in ("text", "json", "sarif", "github", "gitlab", "junit"):
        ended = run("policy", "check", "policies", "-f", form)
        assert ended.code == 1
        if form == "github":
            assert ended.out.count("::error ") == len(ended.out.splitlines()) - 1
        elif form == "text":
            assert not any(line.lstrip().startswith("::") or "##[" in line for line in ended.out.splitlines())
    for commands in POLICY_COMMANDS.values():
        for command in commands:
            run("policy", *command)


@pytest.mark.parametrize("name", TEXTS | GUARDRAILS | THINGS)
def test_hostile_guardrails(run: Driver, name: str) -> None:
    write(run.folder / "guardrails.yaml", {**TEXTS, **GUARDRAILS, **THINGS}[name])
    (run.folder / "broker.yaml").write_text(BROKER + "guardrails: ./guardrails.yaml\n")
    run("policy", "check", "good", "--guardrails", "guardrails.yaml")
    run("policy", "check", "good", "-c", "broker.yaml", "-f", "github")
    run("policy", "diff", "good", "good", "--guardrails", "guardrails.yaml")
    run("policy", "explain", "-c", "broker.yaml", "-p", "good", "--claims", "claims.json", "-g", "payments/deploy")
    run("policy", "new", "payments", "claims.json", "-o", "a@b.example", "-b", "token", "-c", "broker.yaml")
    run("check", "-c", "broker.yaml")


@pytest.mark.parametrize("name", TEXTS | THINGS)
def test_a_hostile_broker_yaml(run: Driver, name: str) -> None:
    path = run.folder / "broker.yaml"
    path.unlink()
    write(path, {**TEXTS, **THINGS}[name])
    for commands in (*POLICY_COMMANDS.values(), *CLAIMS_COMMANDS.values()):
        for command in commands:
            if "broker.yaml" in command:
                assert run("policy", *command).code != 0
    assert run("policy", "check", "good", "-c", "broker.yaml").code != 0
    assert run("check", "-c", "broker.yaml").code != 0


@pytest.mark.parametrize("name", CLAIMS | THINGS)
def test_hostile_claims(run: Driver, name: str) -> None:
    path = run.folder / "hostile.json"
    write(path, {**CLAIMS, **THINGS}[name])
    stdin = path if path.is_file() else None
    for commands in CLAIMS_COMMANDS.values():
        for command in commands:
            run("policy", *command, stdin=stdin)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a": ' + "9" * 5_000 + "}", '{"a": "\\ud800\\u001b"}', "7", "", "{", '{"a":1,"a":2}']
)
def test_hostile_params(run: Driver, text: str) -> None:
    run(
        "policy",
        "explain",
        "-p",
        "good",
        "--claims",
        "claims.json",
        "-g",
        "payments/deploy",
        "-i",
        "github",
        "--params",
        text,
    )


# ---- a running broker


async def test_a_running_broker_keeps_its_last_good_set(ci: IssuerProcess, tmp_path: Path) -> None:
    """Everything at once and one by one: jobs go on, each rejection is recorded, and a good set is taken again."""
    with BrokerProcess(tmp_path, issuer=ci.url) as broker:
        async with aiohttp.ClientSession() as http:
            await _dropped(http, broker, ci)
            assert broker.verify().returncode == 0
        assert "Traceback" not in broker.log


async def _dropped(http: aiohttp.ClientSession, broker: BrokerProcess, ci: IssuerProcess) -> None:
    (before,) = {event["policy_set"] for event in broker.events(type="policy-changed")}
    folder = broker.folder / "policies"
    dropped: list[Path] = []
    for number, what in enumerate({**TEXTS, **POLICIES, **THINGS}.values()):
        path = folder / f"hostile-{number}.yaml"
        write(path, what)
        dropped += [path]
    for name in NAMES:
        (folder / name).write_text("trust: \x1b\n")
        dropped.append(folder / name)

    async def rejected() -> Any:
        return broker.events(type="policy-rejected")

    broker.hang_up()
    events = await until(rejected, patience=120)
    assert {event["policy_set"] for event in events} == {before}
    status, body = await ask(http, broker, ci.sign(JOB, audience=broker.url), "payments/deploy")
    assert status == 200, body
    async with http.get(broker.url + "/readyz") as answer:
        assert answer.status == 200
    for path in dropped:
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    broker.policy.write_text(broker.policy.read_text() + "# changed\n")

    async def taken() -> bool:
        return len({event["policy_set"] for event in broker.events(type="policy-changed")}) == 2

    broker.hang_up()
    await until(taken, patience=60)
    status, _ = await ask(http, broker, ci.sign(JOB, audience=broker.url), "payments/deploy")
    assert status == 200
