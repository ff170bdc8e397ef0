"""`policy check` as teams run it: options, exit codes, reports, fixes, the pre-commit hook, the recipes, the samples."""

import asyncio
import json
import os
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml
from typer.testing import CliRunner, Result

from broker.authoring.finding import Finding, Fix, Place, Severity
from broker.authoring.report import FORMATS, RuleInfo
from broker.cli.policy import app, linting
from broker.ledger import events
from broker.ledger.records import Entry, SessionChange
from broker.model import LeaseState
from broker.policy.load import Checked
from broker.policy.world import World
from tests.system import find, require
from tests.unit.ledger.story import issued, lease, move, open_ledger, session
from tests.unit.policy.world import policy_text

ROOT = Path(__file__).resolve().parents[3]
SAMPLES = ROOT / "docs/samples"
FILES = {
    "text": "policy-check.txt",
    "json": "policy-check.json",
    "sarif": "policy-check.sarif",
    "github": "policy-check.github.txt",
    "gitlab": "policy-check.gitlab.json",
    "junit": "policy-check.junit.xml",
}
CI_VARIABLES = (
    "CI_PROJECT_URL",
    "CI_COMMIT_SHA",
    "GITHUB_SERVER_URL",
    "GITHUB_REPOSITORY",
    "GITHUB_SHA",
    "JOBKEY_DOCS",
)
GOOD = """\
policy: payments
owners: [team@acme.example]
trust:
  - issuer: github
    job: {project: acme/payments, project_id: "512345678", ref: refs/heads/main, ref_protected: true}
grants:
  deploy: {backend: token, ttl: 5m, with: {audience: "https://x.example"}}
examples:
  - {name: main, claims: {$like: github-branch, repository: acme/payments, repository_id: "512345678"}, expect: {allow: [deploy]}}
  - {name: another, claims: {$like: github-branch, repository: acme/payments, repository_id: "1"}, expect: refuse}
  - {name: renamed, claims: {$like: github-branch, repository: acme/other, repository_id: "512345678"}, expect: refuse}
  - {name: a branch, claims: {$like: github-branch, repository: acme/payments, repository_id: "512345678", ref: refs/heads/x}, expect: refuse}
"""


@pytest.fixture(autouse=True)
def no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CI_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies/payments.yaml").write_text(GOOD)
    return tmp_path


def check(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(app, ["check", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_good_policy_has_no_finding(here: Path) -> None:
    result = check("policies")
    assert (result.exit_code, result.output.splitlines()[0]) == (
        0,
        "good: 1 policy, 1 statement, 1 grant; every example came out as it says",
    )


def test_what_loads_is_linted_beside_what_does_not(here: Path) -> None:
    (here / "policies/bad.yaml").write_text("policy: bad\n")
    (here / "policies/names.yaml").write_text(
        policy_text(job='ref: {glob: "refs/heads/*"}').replace("payments", "names")
    )
    result = check("policies")
    assert result.exit_code == 1
    assert "bad.yaml:1:1: the key 'trust' is required" in result.output
    assert re.search(r"names\.yaml:\d+:\d+: warning: .* \[unprotected-branch\]", result.output)
    assert "= why: jobkey-broker policy rule unprotected-branch" in result.output
    last = next(line for line in result.output.splitlines() if "nothing would be loaded" in line)
    assert last.endswith("in what loads")


def test_strict_fails_on_warnings_and_rules_can_be_chosen(here: Path) -> None:
    (here / "policies/payments.yaml").write_text(policy_text(job='ref: {glob: "refs/heads/*"}'))
    found = json.loads(check("policies", "-f", "json").stdout)["findings"]
    assert {one["severity"] for one in found} == {"warning"}
    assert check("policies").exit_code == 0
    assert check("policies", "--strict").exit_code == 1
    ignored = [part for rule in {one["rule"] for one in found} for part in ("--ignore", rule)]
    assert check("policies", "--strict", *ignored).exit_code == 0
    only = json.loads(check("policies", "--rule", "unprotected-branch", "-f", "json").stdout)
    assert {one["rule"] for one in only["findings"]} == {"unprotected-branch"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-f", "xml"], "'xml' is no format; there are: text, json, sarif, github, gitlab, junit"),
        (["--report", "sarif"], "write FORMAT=FILE"),
        (["--report", "xml=x"], "'xml' is no format"),
        (["--report", "json=x", "--report", "sarif=./x"], "two reports cannot go to one file"),
        (["--rule", "nope"], "no rule is called 'nope'"),
        (["--ignore", "\x1b[31m"], "no rule is called"),
        (["--docs", "javascript:x"], "an https URL is expected"),
        (["-o", "policies/payments.yaml"], "this file is being checked"),
        (["-o", "link.yaml"], "this file is being checked"),
        (["-o", "policies"], "cannot be written: Is a directory"),
        (["-o", "no/such/folder"], "cannot be written: No such file or directory"),
    ],
)
def test_a_wrong_question_ends_with_2_and_writes_nothing(here: Path, arguments: list[str], said: str) -> None:
    (here / "link.yaml").symlink_to("policies/payments.yaml")
    result = check("policies", *arguments)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert said in line
    assert line.isprintable()
    assert (here / "policies/payments.yaml").read_text() == GOOD


def test_several_reports_in_one_run_each_whole(here: Path) -> None:
    (here / "policies/bad.yaml").write_text("policy: bad\n")
    reports = [part for form in FORMATS for part in ("--report", f"{form}=out.{form}")]
    result = check("policies", "-f", "gitlab", "-o", "first.json", *reports)
    assert result.exit_code == 1
    assert result.stdout == (here / "out.text").read_text()
    assert (here / "first.json").read_text() == (here / "out.gitlab").read_text()
    assert json.loads((here / "out.sarif").read_text())["version"] == "2.1.0"
    assert ET.parse(here / "out.junit").getroot().get("errors") == "1"
    assert stat.S_IMODE((here / "out.json").stat().st_mode) == 0o666 & ~umask()
    assert not list(here.glob(".out*"))


def umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def test_a_broken_config_or_guardrails_is_a_finding_with_its_place(here: Path) -> None:
    (here / "guardrails.yaml").write_text("longest_tll: {}\n")
    result = check("policies", "--guardrails", "guardrails.yaml", "-f", "github")
    assert result.exit_code == 1
    assert result.stdout.startswith("::error file=guardrails.yaml,line=1,")


def test_files_are_named_from_the_root_and_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "policies/bad.yaml").write_text("policy: bad\n")
    monkeypatch.chdir(here / "policies")
    found = check(".", "bad.yaml", "--root", "..", "-f", "gitlab")
    assert {one["location"]["path"] for one in json.loads(found.stdout)} == {"policies/bad.yaml"}
    assert len(json.loads(found.stdout)) == len({one["fingerprint"] for one in json.loads(found.stdout)})


def test_rules_have_pages_where_somebody_says_where(here: Path) -> None:
    (here / "policies/payments.yaml").write_text(policy_text(job='ref: {glob: "refs/heads/*"}'))
    result = check("policies", "-f", "sarif", "--docs", "https://git.acme.example/jobkey/-/blob/main")
    rules = json.loads(result.stdout)["runs"][0]["tool"]["driver"]["rules"]
    assert all(rule["helpUri"].startswith("https://git.acme.example/jobkey/-/blob/main/docs/") for rule in rules)
    for rule in linting.rules().values():
        page, _, anchor = rule.page.partition("#")
        assert (ROOT / page).is_file(), page
        assert not anchor or f"## {anchor.capitalize()}\n" in (ROOT / page).read_text()


# ---- --fix

COMMENT = "  # jobkey: allow long-ttl because it was slow\n"


@pytest.fixture
def fixable(here: Path) -> Path:
    """A comment that silences nothing; its removal is the linter's own fix."""
    path = here / "policies/payments.yaml"
    path.write_text(GOOD.replace("  deploy:", f"{COMMENT}  deploy:"))
    path.chmod(0o640)
    (here / "broker.yaml").write_text(
        "url: https://broker.acme.example\npolicies: ./policies\nissuers: {github: {kind: github}}\nbackends: {token: {kind: identity-token}}\n"
    )
    return path


def test_a_fix_is_applied_shown_and_keeps_the_mode(fixable: Path) -> None:
    before = check("policies", "-c", "broker.yaml")
    assert "[silence-without-effect]" in before.output, before.output
    dry = check("policies", "-c", "broker.yaml", "--fix", "--dry-run")
    assert f"-{COMMENT.rstrip()}" in dry.output.splitlines()
    assert COMMENT in fixable.read_text()
    result = check("policies", "-c", "broker.yaml", "--fix")
    assert f"-{COMMENT.rstrip()}" in result.output.splitlines()
    assert ": fixed: " in result.output
    assert "[silence-without-effect]" not in result.output
    assert fixable.read_text() == GOOD
    assert stat.S_IMODE(fixable.stat().st_mode) == 0o640
    assert check("policies", "-c", "broker.yaml", "--fix").output.startswith("good: ")


def test_with_a_machines_format_fixes_are_told_on_standard_error(fixable: Path) -> None:
    result = check("policies", "-c", "broker.yaml", "--fix", "-f", "json")
    assert json.loads(result.stdout)["good"] is True
    assert ": fixed: " in result.stderr


def test_windows_line_ends_stay(fixable: Path) -> None:
    fixable.write_bytes(fixable.read_bytes().replace(b"\n", b"\r\n"))
    check("policies", "-c", "broker.yaml", "--fix")
    assert fixable.read_bytes() == GOOD.replace("\n", "\r\n").encode()


def test_a_link_is_not_followed_by_a_fix(fixable: Path, here: Path) -> None:
    text = fixable.read_text()
    target = here / "target.yaml"
    target.write_text(text)
    fixable.unlink()
    fixable.symlink_to(target)
    result = check("policies/payments.yaml", "-c", "broker.yaml", "--fix")
    assert "not fixed: a link; check the file it leads to" in result.output
    assert target.read_text() == text
    assert fixable.is_symlink()


@pytest.fixture
def suggest(monkeypatch: pytest.MonkeyPatch) -> Callable[[Fix], None]:
    """A linter that has just these fixes to suggest."""
    fixes: list[Fix] = []

    def lint(_checked: object, _world: World, more: object) -> Iterator[Finding]:
        for fix in fixes:
            place = Place(file=fix.file, line=fix.first, column=1)
            yield Finding(rule="made-up", severity=Severity.NOTE, message="m", place=place, fix=fix)

    monkeypatch.setattr("broker.cli.policy.check.lint", lint)
    return fixes.append


def test_a_fix_after_which_an_example_comes_out_otherwise_is_not_applied(
    here: Path, suggest: Callable[[Fix], None]
) -> None:
    file = "policies/payments.yaml"
    wider = '    job: {project: acme/payments, project_id: "512345678"}'
    suggest(Fix(title="loosen it", file=file, first=5, last=5, lines=(wider,)))
    suggest(Fix(title="name it", file=file, first=2, last=2, lines=("owners: [a@acme.example]",)))
    result = check("policies", "--fix")
    assert (
        f"{file}:5: not fixed (loosen it): the file would not load with it: examples[3].expect: 'a branch': expected a refusal"
        in result.output
    )
    assert (here / file).read_text() == GOOD.replace("team@acme", "a@acme")


@pytest.mark.parametrize("file", ["outside.yaml", "guardrails.yaml", "policies/../outside.yaml"])
def test_only_files_that_were_named_are_written(here: Path, suggest: Callable[[Fix], None], file: str) -> None:
    for name in ("outside.yaml", "guardrails.yaml"):
        (here / name).write_text("require_immutable_id: true\n")
    suggest(Fix(title="t", file=file, first=1, last=1, lines=("x: 1",)))
    check("policies", "--guardrails", "guardrails.yaml", "--fix")
    assert (
        (here / "outside.yaml").read_text() == (here / "guardrails.yaml").read_text() == "require_immutable_id: true\n"
    )


def test_a_file_that_changes_meanwhile_is_left_alone(
    here: Path, suggest: Callable[[Fix], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from broker.cli.policy import fixing

    suggest(Fix(title="t", file="policies/payments.yaml", first=2, last=2, lines=("owners: [b@acme.example]",)))
    first = fixing.check_text

    def while_somebody_writes(*arguments: object) -> Checked:
        (here / "policies/payments.yaml").write_text("changed by an editor\n")
        return first(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(fixing, "check_text", while_somebody_writes)
    assert "not fixed: " in check("policies", "--fix").output
    assert (here / "policies/payments.yaml").read_text() == "changed by an editor\n"


# ---- the hook

HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
# https://pre-commit.com/#creating-new-hooks: the members a hook may have here, and what they are
HOOK = {
    "id": str,
    "name": str,
    "description": str,
    "entry": str,
    "language": str,
    "files": str,
    "pass_filenames": bool,
    "args": list,
}


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook["id"])
def test_the_hook_fails_a_commit_of_a_bad_policy_and_no_other(here: Path, hook: dict[str, object]) -> None:
    """Runs what pre-commit would run for a staged file: the entry, its args, no file names."""
    (git,) = require("git")
    assert set(hook) == set(HOOK)
    assert all(isinstance(value, HOOK[member]) for member, value in hook.items())
    assert hook["language"] == "python"
    program, *entry = shlex.split(str(hook["entry"]))
    assert program == "jobkey-broker"
    assert hook["pass_filenames"] is False

    def commit() -> subprocess.CompletedProcess[str]:
        subprocess.run([git, "add", "-A"], check=True)
        staged = subprocess.run(
            [git, "diff", "--staged", "--name-only"], check=True, capture_output=True, text=True
        ).stdout.split()
        assert any(re.search(str(hook["files"]), name) for name in staged)
        command = [sys.executable, "-m", "broker", *entry, *hook["args"]]  # type: ignore[misc]  # checked above
        return subprocess.run(
            command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
        )

    subprocess.run([git, "init", "-q"], check=True)
    assert commit().returncode == 0
    (here / "policies/payments.yaml").write_text(GOOD.replace("ref:", "reff:"))
    said = commit()
    assert said.returncode == 1
    assert "policies/payments.yaml:5:" in said.stdout


def test_pre_commit_itself_takes_the_manifest() -> None:
    """A bonus where pre-commit is installed."""
    program = find("pre-commit")
    if program is not None:
        subprocess.run([program, "validate-manifest", ROOT / ".pre-commit-hooks.yaml"], check=True)


# ---- the recipes

GITHUB = yaml.safe_load((ROOT / "configs/ci/github-policy-check.yml").read_text())
GITLAB = yaml.safe_load((ROOT / "configs/ci/gitlab-policy-check.yml").read_text())


@pytest.fixture
def checkout(here: Path) -> Path:
    """A repository with a broker.yaml, policies, and a change that is not committed."""
    (git,) = require("git")
    require("bash")
    (here / "broker.yaml").write_text(
        "url: https://broker.acme.example\npolicies: ./policies\nissuers: {github: {kind: github}}\nbackends: {token: {kind: identity-token}}\n"
    )
    for arguments in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=a", "-c", "user.email=a@b.example", "commit", "-qm", "one"],
    ):
        subprocess.run([git, *arguments], check=True)
    wider = GOOD.replace(", ref: refs/heads/main, ref_protected: true", "")
    (here / "policies/payments.yaml").write_text(wider[: wider.index("  - {name: a branch")])
    return here


def script(folder: Path, text: str, **env: str) -> subprocess.CompletedProcess[str]:
    """As a runner does it: bash -e, with `jobkey-broker` on the path."""
    shims = folder / ".shims"
    shims.mkdir(exist_ok=True)
    shim = shims / "jobkey-broker"
    shim.write_text(
        f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -m broker "$@"\n'
    )
    shim.chmod(0o755)
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", text], cwd=folder, capture_output=True, text=True, check=False,
        env={"PATH": f"{shims}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder), **env},
    )  # fmt: skip


def steps() -> dict[str, dict[str, object]]:
    (job,) = GITHUB["jobs"].values()
    return {str(step.get("name", step.get("uses"))): step for step in job["steps"]}


def test_the_github_recipe_does_what_it_says(checkout: Path) -> None:
    said = script(checkout, str(steps()["Check"]["run"]))
    assert said.returncode == 0, said.stdout + said.stderr
    assert "::warning file=policies/payments.yaml," in said.stdout
    assert json.loads((checkout / "policy-check.sarif").read_text())["runs"][0]["results"]
    assert ET.parse(checkout / "policy-examples.xml").getroot().get("failures") == "0"
    said = script(
        checkout,
        str(steps()["Prove what the change does"]["run"]),
        BASE="HEAD",
        GITHUB_STEP_SUMMARY=str(checkout / "summary"),
    )
    assert said.returncode == 0, said.stdout + said.stderr
    assert "payments/deploy" in (checkout / "summary").read_text()


def test_the_github_recipe_gives_a_pull_request_nothing_to_take() -> None:
    assert GITHUB["permissions"] == {}
    assert "pull_request_target" not in GITHUB[True]  # YAML 1.1 reads `on` so
    for step in steps().values():
        assert "${{" not in str(step.get("run", ""))  # what a pull request names reaches no shell as text
        uses = str(step.get("uses", "actions/x@v1"))
        assert re.fullmatch(r"[\w-]+/[\w/-]+@(v[0-9]+|[0-9a-f]{40})", uses)
    reports = [flag for flag in shlex.split(str(steps()["Check"]["run"])) if "=" in flag]
    assert steps()["Show under code scanning"]["with"]["sarif_file"] in {flag.partition("=")[2] for flag in reports}  # type: ignore[index]


def test_the_gitlab_recipe_does_what_it_says(checkout: Path) -> None:
    job = GITLAB["policy-check"]
    said = script(checkout, "\n".join(job["script"]))
    assert said.returncode == 0, said.stdout + said.stderr
    reports = job["artifacts"]["reports"]
    (first, *_) = json.loads((checkout / reports["codequality"]).read_text())
    assert first["location"]["path"] == "policies/payments.yaml"
    assert ET.parse(checkout / reports["junit"]).getroot().get("tests") == "3"
    install, diff, post = GITLAB["policy-diff"]["script"]
    assert install.startswith("apt-get")
    said = script(checkout, f"{diff}\n{post}", CI_MERGE_REQUEST_DIFF_BASE_SHA="HEAD")
    assert said.returncode == 0, said.stdout + said.stderr
    assert "payments/deploy" in (checkout / GITLAB["policy-diff"]["artifacts"]["paths"][0]).read_text()


# ---- the samples


@pytest.mark.parametrize("form", FORMATS)
def test_the_samples_are_what_the_command_makes(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`JOBKEY_WRITE_SAMPLES=1` writes them; read the difference before it is committed."""
    monkeypatch.chdir(ROOT)
    result = check("docs/samples/policies", "-f", form)
    assert result.exit_code == 1
    assert set(FILES) == set(FORMATS)
    path = SAMPLES / FILES[form]
    if os.environ.get("JOBKEY_WRITE_SAMPLES"):
        path.write_text(result.stdout)
    assert result.stdout == path.read_text(), "run this test again with JOBKEY_WRITE_SAMPLES=1"


def test_the_samples_show_every_kind_of_finding() -> None:
    body = json.loads((SAMPLES / FILES["json"]).read_text())
    assert {one["severity"] for one in body["findings"]} >= {"error", "warning"}
    assert {one["rule"] == "load" for one in body["findings"]} == {True, False}
    assert any(not one["as_expected"] for one in body["examples"])
    assert RuleInfo(id="x", title="x", page="x").severity is Severity.ERROR


# ---- a ledger, and lists of owners


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a broker in which 25 jobs used payments/deploy for 40 seconds each."""
    folder = tmp_path_factory.mktemp("past")
    began = datetime.now(UTC).replace(microsecond=0) - timedelta(days=10)

    async def write() -> None:
        ledger = await open_ledger(folder)
        for number in range(25):
            start = began + timedelta(hours=number)
            opened = session(start)
            one = lease(opened, start)
            await ledger.write(Entry(claim=opened, leases=(one,), events=(issued(opened, one, now=start),)))
            end = start + timedelta(seconds=40)
            over = move(one, LeaseState.REVOKED, LeaseState.ACTIVE, reason="the job ended")
            told = (
                events.session_ended(session=opened.id, why="the job ended", at=end),
                events.revoked(lease=one.id, why="the job ended", by="job", attempts=1, now=end),
            )
            ending = SessionChange(session=opened.id, ended_at=end)
            await ledger.write(Entry(sessions=(ending,), changes=(over,), events=told))
        await ledger.close()

    asyncio.run(write())
    return folder


def test_a_ttl_is_held_against_what_jobs_used(here: Path, past: Path) -> None:
    long = GOOD.replace("deploy: {backend: token, ttl: 5m, with", "deploy:\n    backend: token\n    ttl: 30m\n    with")
    (here / "policies/payments.yaml").write_text(long.replace('x.example"}}', 'x.example"}'))
    before = {path.name: path.read_bytes() for path in past.iterdir() if path.is_file()}
    silent = check("policies")
    assert "ttl-beyond-history" not in silent.output
    assert "used:" not in silent.output
    for ledger in (past, past / "ledger.db"):
        result = check("policies", "--ledger", ledger)
        assert result.exit_code == 0, result.output
        assert re.search(
            r"payments\.yaml:9:\d+: warning: no job was seen to use this for longer than 40s", result.output
        )
        began = rf"used: the ledger {re.escape(str(ledger))}, its last 90 days \(ttl-beyond-history\): 25 credentials of 1 grant since "
        assert re.search(began + r"\d{4}-\d\d-\d\d, 20 or more of 1 grant\n", result.output)
    assert json.loads(check("policies", "--ledger", past, "-f", "json").stdout)["used"][0].startswith("the ledger ")
    assert {path.name: path.read_bytes() for path in past.iterdir() if path.is_file()} == before, "only read"
    fixed = check("policies", "--ledger", past, "--fix")
    assert "ttl: 3m" in (here / "policies/payments.yaml").read_text(), fixed.output
    assert "ttl-beyond-history]" not in check("policies", "--ledger", past).output


def test_a_ledger_that_is_none_is_a_wrong_question(here: Path, tmp_path: Path) -> None:
    for ledger, said in (("nowhere", "there is no ledger here"), ("policies/payments.yaml", "not a readable ledger")):
        result = check("policies", "--ledger", ledger)
        assert result.exit_code == 2
        assert said in result.stderr


def test_an_owner_that_is_in_no_list_is_found(here: Path) -> None:
    (here / "people.txt").write_text("team-web@acme.example\nteams@acme.example  # payments\n")
    (here / "CODEOWNERS").write_text("* team@acme.example\n")
    result = check("policies", "--owners", "people.txt")
    assert "team@acme.example is not in the lists of owners (teams@acme.example is)" in result.output
    assert "[unresolved-owner]" in result.output
    assert "used: 2 owners of people.txt (unresolved-owner)\n" in result.output
    both = check("policies", "--owners", "people.txt", "--owners", "CODEOWNERS")
    assert "unresolved-owner]" not in both.output
    assert "used: 1 owner of CODEOWNERS (unresolved-owner)\n" in both.output


@pytest.mark.parametrize("text", [b"", b"# only this\n", b"\xff\xfe"])
def test_a_list_that_names_nobody_is_a_wrong_question(here: Path, text: bytes) -> None:
    (here / "people.txt").write_bytes(text)
    result = check("policies", "--owners", "people.txt")
    assert result.exit_code == 2
    assert result.stderr.startswith("people.txt:1:1: ")


def test_a_finding_of_a_version_on_trial_names_its_place(here: Path) -> None:
    trial = """\
next:
  trust:
    - issuer: github
      job: {project_id: "512345678", ref: {glob: "refs/heads/*"}}
  examples:
    - {name: no, claims: {$like: github-branch, repository_id: "1"}, expect: refuse}
    - {name: yes, claims: {$like: github-branch}, expect: {allow: [deploy]}}
"""
    (here / "policies/payments.yaml").write_text(GOOD + trial)
    (found,) = json.loads(check("policies", "-f", "json").stdout)["findings"]
    assert (found["rule"], found["path"]) == ("unprotected-branch", "next.trust[0].job.ref")
