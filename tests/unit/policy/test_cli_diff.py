"""`policy diff` from the command line: folders and git revisions, each format, exit codes, and the ledger's past."""

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from typer.testing import CliRunner

from broker.authoring.compare.markdown import LARGEST, MARK
from broker.cli.policy import app
from broker.documents import parse
from broker.issuers import ISSUERS
from broker.ledger import events
from broker.ledger.records import Entry, Event
from broker.policy.trial import next_document
from tests.unit.ledger.story import open_ledger
from tests.unit.policy.world import policy_text
from tests.unit.sources.repository import Repository

CONFIGS = Path(__file__).parents[3] / "configs"
MAIN = policy_text(job="ref: refs/heads/main", backend="token", grant="with: {audience: 'https://a.example'}")
OPEN = MAIN.replace("ref: refs/heads/main", "ref: {glob: 'refs/heads/*'}")
TAGS = MAIN.replace("ref: refs/heads/main", "ref: refs/tags/v1")
CONFIG = """\
url: http://127.0.0.1:8400
data: ./data
policies: ./policies
guardrails: ./guardrails.yaml
issuers: {github: {kind: github}}
backends: {token: {kind: identity-token}}
"""
LIMITS = "longest_ttl: {identity-token: 15m}\n"
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run() -> Run:
    def invoke(*arguments: str | Path) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["diff", *(str(argument) for argument in arguments)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return invoke


@pytest.fixture
def folders(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    def write(old: str, new: str, *, name: str = "p.yaml") -> tuple[Path, Path]:
        for side, text in (("old", old), ("new", new)):
            (tmp_path / side).mkdir(exist_ok=True)
            (tmp_path / side / name).write_text(text)
        return tmp_path / "old", tmp_path / "new"

    return write


Folders = Callable[..., tuple[Path, Path]]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A repository with one commit of everything, and the shell in it."""
    made = Repository(tmp_path / "checkout")
    made.commit({"policies/p.yaml": MAIN, "guardrails.yaml": LIMITS, "broker.yaml": CONFIG})
    monkeypatch.chdir(made.folder)
    return made


def test_folders(run: Run, folders: Folders) -> None:
    old, new = folders(MAIN, OPEN)
    code, out = run(old, new)
    assert code == 1
    lines = out.splitlines()
    assert lines[0] == "policy change: 1 grant newly allowed to some job"
    assert lines[1] == f"{old} to {new}: 1 changed grant"
    assert "payments/deploy (changed)" in lines
    assert "  newly allowed, e.g. a job of github, by trust[0]" in lines
    assert any(
        line.startswith("    OLD refuses it: trust[0] job.ref: expected refs/heads/main, got ") for line in lines
    )
    assert lines[-1] == "not checked: backends and their options (`with`), for want of --config broker.yaml"


@pytest.mark.parametrize(
    ("old", "new", "options", "code"),
    [
        (MAIN, OPEN, [], 1), (OPEN, MAIN, [], 0), (MAIN, MAIN, [], 0), (MAIN, OPEN, ["--exit-zero"], 0),
        (MAIN, MAIN.replace("ttl: 15m", "ttl: 16m"), [], 1), (MAIN, MAIN.replace("ttl: 15m", "ttl: 14m"), [], 0),
        (MAIN, MAIN.replace("a.example", "b.example"), [], 1), (MAIN, "policy: [", [], 2), ("policy: [", MAIN, ["--exit-zero"], 2),
        (MAIN, MAIN, ["--replay", "3"], 2),
    ],
)  # fmt: skip
def test_exit_codes_are_the_same_in_every_format(
    run: Run, folders: Folders, *, old: str, new: str, options: list[str], code: int
) -> None:
    sides = folders(old, new)
    assert {run(*sides, *options, "--format", form)[0] for form in ("text", "markdown", "json")} == {code}


def test_a_side_that_does_not_load_is_shown_where_it_is_wrong(run: Run, folders: Folders) -> None:
    old, new = folders(MAIN, MAIN.replace("  ref:", "  reff:").replace("ref: refs", "reff: refs"))
    code, out = run(old, new)
    assert code == 2
    lines = out.splitlines()
    assert lines[0].startswith(f"{new}/p.yaml:8:7: trust[0].job.reff: a job has no 'reff'")
    assert lines[1:3] == ["    8 |       reff: refs/heads/main", "      |       ^"]
    assert lines[-1] == f"{new} does not load, so there is nothing to compare"


def test_revisions(run: Run, checkout: Repository) -> None:
    checkout.commit({"policies/p.yaml": OPEN}, message="wider")
    code, out = run("HEAD~1", "HEAD", "-p", "policies")
    assert (code, out.splitlines()[0]) == (1, "policy change: 1 grant newly allowed to some job")
    assert run("HEAD", "HEAD~1")[0] == 0  # policies/ is where they are by custom
    assert run("main~1", ".")[0] == 1
    checkout.write({"policies/p.yaml": MAIN})
    code, out = run("HEAD", ".", "--config", "broker.yaml")  # the working tree, by broker.yaml
    assert code == 0, out
    assert "HEAD (" in out
    assert "newly refused, e.g. a job of github" in out
    assert run("HEAD", "policies")[0] == 0


def test_the_commit_is_in_the_json(run: Run, checkout: Repository) -> None:
    first = checkout("rev-parse", "HEAD")
    code, out = run("HEAD", ".", "--format", "json", "-c", "broker.yaml")
    told = json.loads(out)
    assert (code, told["old"]["commit"], told["new"]["commit"]) == (0, first, None)
    assert told["not_checked"] == []
    assert told["newly_allowed"] == "none"


def test_guardrails_are_those_of_each_revision(run: Run, checkout: Repository) -> None:
    wide = MAIN.replace("ttl: 15m", "ttl: 1h")
    checkout.commit({"guardrails.yaml": LIMITS.replace("15m", "2h"), "policies/p.yaml": wide})
    code, out = run("HEAD~1", "HEAD", "--config", "broker.yaml")
    assert code == 1
    assert "the guardrails give policies more room" in out.splitlines()[0]
    assert "  longest_ttl.identity-token: 15m becomes 2h: policies may say more" in out.splitlines()
    assert "payments uses that room; before it would not load: p.yaml:" in out
    code, out = run("HEAD~1", "HEAD", "--guardrails", "guardrails.yaml")
    assert "longest_ttl.identity-token" in out
    checkout.commit({"guardrails.yaml": LIMITS})
    code, out = run("HEAD~1", "HEAD", "--config", "broker.yaml")  # a policy over the new limit
    assert code == 2
    assert "p.yaml:13:5: grants.deploy.ttl: the guardrails let identity-token credentials live 15m at most" in out
    assert "   13 |     ttl: 1h" in out
    checkout.commit({"guardrails.yaml": None, "policies/p.yaml": MAIN})
    code, out = run("HEAD~2", "HEAD", "--guardrails", "guardrails.yaml")
    assert "longest_ttl.identity-token: 2h is gone: policies may say more" in out


def test_a_broker_that_follows_a_repository_names_paths_inside_it(run: Run, checkout: Repository) -> None:
    source = "policies: {git: 'https://git.acme.example/policies.git', path: teams, guardrails: limits.yaml}\n"
    checkout.commit({
        "broker.yaml": CONFIG.replace("policies: ./policies\nguardrails: ./guardrails.yaml\n", source),
        "teams/p.yaml": MAIN, "policies/p.yaml": None, "guardrails.yaml": None, "limits.yaml": LIMITS,
    })  # fmt: skip
    checkout.commit({"teams/p.yaml": TAGS, "limits.yaml": LIMITS.replace("15m", "30m")})
    for new in ("HEAD", ".", "teams"):
        code, out = run("HEAD~1", new, "--config", "broker.yaml")
        assert code == 1, out
        assert "1 grant newly allowed to some job; the guardrails give policies more room" in out
        assert "longest_ttl.identity-token: 15m becomes 30m" in out


def test_guardrails_of_two_folders(run: Run, folders: Folders, tmp_path: Path) -> None:
    old, new = folders(MAIN, MAIN)
    for name, text in (("old.yaml", LIMITS), ("new.yaml", LIMITS + "triggers_never_allowed: [issue_comment]\n")):
        (tmp_path / name).write_text(text)
    code, out = run(old, new, "--guardrails", tmp_path / "new.yaml", "--old-guardrails", tmp_path / "old.yaml")
    assert code == 0
    assert "triggers_never_allowed: none becomes issue_comment: policies may say less" in out
    code, out = run(old, new, "--guardrails", tmp_path / "old.yaml", "--old-guardrails", tmp_path / "new.yaml")
    assert code == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing", "HEAD"], "there is no commit 'nothing' here"),
        (["HEAD", "HEAD", "-p", "elsewhere"], "there is no such folder at this commit"),
        (["HEAD", "HEAD", "-p", "../.."], "outside the repository"),
        (["--", "-evil", "HEAD"], "'-evil' is no revision"),
        (["HEAD", ".", "--guardrails", "none.yaml"], "none.yaml:1:1: cannot be read"),
    ],
)
def test_a_question_that_makes_no_sense(run: Run, checkout: Repository, arguments: list[str], says: str) -> None:
    code, out = run(*arguments)
    assert code == 2, out
    assert says in out
    assert checkout("status", "--porcelain") == ""


def test_outside_of_any_repository(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    code, out = run("main", "HEAD")
    assert code == 2
    assert "not a git repository" in out


# ---- Markdown that is posted where others read it


HOSTILE = [
    "`</code></details><script>alert(1)</script>`", "``` ```` `a` ``", "@acme/everyone #1 ![x](https://e.example/x.png)",
    "[click](javascript:alert(1)) <a href=x>", "| a | b \\| c |", "\\`code\\` **bold** _i_ ~~s~~ www.evil.example",
    "--> <!-- x", "&lt;b&gt; &#96;", "# heading", "`", "a`b``c", " `", "\\",
]  # fmt: skip


def flat(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from flat(token.children or [])


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_nothing_that_others_wrote_is_read_as_markup(run: Run, folders: Folders, tmp_path: Path, text: str) -> None:
    """Parsed by a CommonMark parser that is not ours: what is quoted is code, and the only HTML is our own."""
    quoted = json.dumps(text)
    example = f"- {{name: {quoted}, claims: {{$like: github-fork}}, expect: refuse}}"
    new = policy_text(
        job=f"ref: {quoted}\nenvironment: {json.dumps('production' + text)}",
        backend="token",
        grant=f"with: {{audience: {json.dumps('https://a.example/' + text)}}}",
        examples=example,
        rest="when: " + json.dumps(f"claims.x == {quoted}"),
    ).replace("team@acme.example", f"team@acme.example, {json.dumps(text.replace(' ', '_'))}")
    old, changed = folders(MAIN, new)
    code, out = run(old, changed, "--format", "markdown")
    assert code == 1, out
    parsed = list(flat(MarkdownIt("commonmark", {"html": True}).enable("table").parse(out)))
    ours = {"<details>", "</details>", "<summary>", "</summary>", "<code>", "</code>"}
    for token in parsed:
        assert token.type not in {"link_open", "image", "s_open"}, token
        if token.type in {"html_block", "html_inline"}:
            left = token.content.replace(MARK, "")
            for tag in ours:
                left = left.replace(tag, "")
            assert "<" not in left, token.content
            assert set(left) <= set("abcdefghijklmnopqrstuvwxyz/ \n"), left
    code_text = [token.content for token in parsed if token.type in {"code_inline", "fence"}]
    assert any(text.strip() in one for one in code_text)
    plainly = " ".join(token.content for token in parsed if token.type == "text")
    assert text.strip() not in plainly or len(text.strip()) == 1
    headings = [token for token in parsed if token.type.startswith("heading")]
    assert not headings


def test_markdown_begins_with_the_answer_and_has_a_table(run: Run, folders: Folders) -> None:
    code, out = run(*folders(MAIN, OPEN), "--format", "markdown")
    assert code == 1
    lines = out.splitlines()
    assert lines[:2] == [MARK, "**Policy change: 1 grant newly allowed to some job**"]
    assert "| `payments/deploy` | changed | **e.g. below** | no identity: proved |  |" in lines
    parsed = MarkdownIt("commonmark", {"html": True}).enable("table").parse(out)
    assert [token.type for token in parsed].count("table_open") == 1
    fences = [json.loads(token.content) for token in flat(parsed) if token.type == "fence"]
    assert fences[0]["repository_id"] == "512345678"


def test_markdown_fits_a_comment(run: Run, tmp_path: Path) -> None:
    for side, text in (("old", MAIN), ("new", OPEN)):
        (tmp_path / side).mkdir()
        for number in range(150):
            (tmp_path / side / f"{number}.yaml").write_text(text.replace("policy: payments", f"policy: p{number}"))
    code, out = run(tmp_path / "old", tmp_path / "new", "--format", "markdown")
    assert code == 1
    assert LARGEST * 0.8 < len(out) < LARGEST + 500
    assert "more that do not fit here" in out.splitlines()[-3] + out.splitlines()[-1]
    assert out.count("<details>") == out.count("</details>") > 10


def test_a_terminal_gets_no_control_characters(run: Run, folders: Folders) -> None:
    hostile = MAIN.replace("https://a.example", "https://a.example/\u202e").replace(
        "name: a stranger", 'name: "x [red]"'
    )
    code, out = run(*folders(MAIN, hostile))
    assert code == 1
    assert "\u202e" not in out
    assert "https://a.example/\\u202e" in out
    assert "example: x [red] is new" in out


# ---- the past, judged again


def refused(number: int, *, ago: timedelta, **changed: Any) -> Event:
    claims = {**ISSUERS["github"].examples["github-branch"], "run_id": str(number), **changed}
    job = ISSUERS["github"].identity(claims).present()
    return events.refused(
        case=f"case_{number}", code="no-statement", grants=["payments/deploy"], issuer="github", job=job, claims=claims,
        reason="", policy_set="sha256:0", now=datetime.now(UTC) - ago,
    )  # fmt: skip


async def test_replay_reads_the_ledger_beside_a_running_broker(run: Run, tmp_path: Path) -> None:
    import asyncio

    (tmp_path / "data").mkdir()
    (tmp_path / "broker.yaml").write_text(CONFIG)
    (tmp_path / "guardrails.yaml").write_text(LIMITS)
    for side, text in (("policies", TAGS), ("new", OPEN)):
        (tmp_path / side).mkdir()
        (tmp_path / side / "p.yaml").write_text(text)
    ledger = await open_ledger(tmp_path / "data")  # and stays open: it is live
    try:
        hour = timedelta(hours=1)
        for number in range(1_200):  # several pages
            await ledger.write(Entry(events=(refused(number, ago=hour, sha=str(number)),)))
        await ledger.write(Entry(events=(refused(1_200, ago=timedelta(days=9)),)))
        await ledger.write(Entry(events=(refused(1_201, ago=hour, ref="refs/tags/v2"),)))
        before = (tmp_path / "data/ledger.db").read_bytes()
        arguments = (tmp_path / "policies", tmp_path / "new", "--config", tmp_path / "broker.yaml", "--replay", "3")
        code, out = await asyncio.to_thread(run, *arguments)
        told = json.loads((await asyncio.to_thread(run, *arguments, "--format", "json"))[1])["replay"]
        markdown = (await asyncio.to_thread(run, *arguments, "--format", "markdown"))[1]
        assert (tmp_path / "data/ledger.db").read_bytes() == before
    finally:
        await ledger.close()
    headline = "1,201 requests in the last 3 days judged again: 1,200 from 1,200 jobs would come out otherwise"
    assert code == 1
    assert headline in out.splitlines()
    assert "  1,200 requests: refused becomes allowed" in out.splitlines()
    assert f"<summary>{headline}</summary>" in markdown
    assert (told["events"], told["jobs"]) == (1_201, 1_200)
    assert told["changed"] == [{"before": "refused", "after": "allowed", "requests": 1_200}]
    first = told["shown"][0]
    assert (first["project"], first["run"], first["grants"]) == ("acme/payments", "0", ["payments/deploy"])
    assert first["event"].startswith("evt_")
    assert told["unused"] == {"policies": [], "grants": [], "statements": []}


def test_replay_without_a_ledger_says_so(run: Run, checkout: Repository) -> None:
    code, out = run("HEAD", ".", "--config", "broker.yaml", "--replay", "3")
    assert code == 2
    assert "there is no ledger here" in out
    shutil.rmtree(checkout.folder / "policies")


# ---- a version on trial, as if it decided


NEXT = """\
next:
  trust: [{issuer: github, job: {project_id: "512345678", ref: {glob: "refs/heads/*"}, environment: production}}]
  examples: [{name: nobody, claims: {$like: github-fork, repository_id: "1"}, expect: refuse}]
"""


def decided(text: str) -> str:
    """The file as its author would write it on the day of the switch."""
    document = parse(text.encode(), "p.yaml")
    return json.dumps(next_document(document).value)


@pytest.mark.parametrize("form", ["text", "markdown", "json"])
def test_a_version_on_trial_is_compared_as_if_it_decided(run: Run, folders: Folders, form: str) -> None:
    old, _ = folders(MAIN + NEXT, MAIN)
    code, out = run(old, "--next", "--format", form)
    assert code == 1
    _, switch = folders(MAIN + NEXT, decided(MAIN + NEXT))
    really, said = run(old, switch, "--format", form)
    assert really == code
    if form == "json":
        told, real = json.loads(out), json.loads(said)
        assert told["new"]["next"] is True
        assert real["new"]["next"] is False
        assert told["newly_allowed"] == "some"
        assert told["grants"] == real["grants"], "the same proof as for the switch itself"
        assert (told["policies"][0]["next"], told["policies"][0]["next_decides"]) == ("removed", True)
    else:
        assert "its versions on trial in force" in out
        assert "what was on trial decides" in out
        assert out.splitlines()[4:] == said.splitlines()[4:]


def test_old_without_a_trial_and_new_with_one(run: Run, folders: Folders) -> None:
    old, new = folders(MAIN, MAIN + NEXT)
    assert run(old, new)[0] == 0, "a trial lets nobody in"
    code, out = run(old, new, "--next")
    assert (code, out.splitlines()[0]) == (1, "policy change: 1 grant newly allowed to some job")
    assert run(new, new, "--next")[1] == run(new, "--next")[1]


@pytest.mark.parametrize(
    ("new", "options", "says"),
    [(True, ["--next"], "has a version on trial"), (False, [], "give NEW, or --next for OLD's own")],
)
def test_a_switch_of_nothing(run: Run, folders: Folders, new: bool, options: list[str], says: str) -> None:
    sides = folders(MAIN, MAIN)
    code, out = run(*sides[: 1 + new], *options)
    assert code == 2
    assert says in out


# ---- the claims of a witness


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (MAIN, OPEN),
        (MAIN, TAGS),
        (MAIN, MAIN.replace("ref: refs/heads/main", "environment: prod")),
        (MAIN, MAIN.replace('project_id: "512345678"', 'project_id: "7"').replace("ref: refs/heads/main", "ref: {regex: x+}")),
        (TAGS, MAIN.replace("ref: refs/heads/main", "environment: {absent: true}")),
    ],
)  # fmt: skip
def test_the_line_of_claims_is_the_job_that_was_proved(
    run: Run, folders: Folders, tmp_path: Path, old: str, new: str
) -> None:
    old, new = (text.replace("expect: {allow: [deploy]}", "expect: refuse") for text in (old, new))
    sides = folders(old, new)
    _, out = run(*sides)
    jobs = [
        json.loads(line.removeprefix("    claims: ")) for line in out.splitlines() if line.startswith("    claims: ")
    ]
    (grant,) = json.loads(run(*sides, "--format", "json")[1])["grants"]
    proved = [grant[side]["job"]["claims"] for side in ("newly_allowed", "newly_refused") if grant[side]["job"]]
    assert len(jobs) == len(proved) > 0
    for job, claims in zip(jobs, proved, strict=True):
        like = ISSUERS["github"].examples.get(job.pop("$like", ""), {})
        assert {**like, **job} == claims
        assert len(job) < len(claims), "what the example has is not said again"
    claims_file = tmp_path / "claims.json"
    claims_file.write_text(next(line for line in out.splitlines() if "claims: " in line).partition("claims: ")[2])
    args = ["explain", "--claims", str(claims_file), "--policies", str(sides[1]), "--grant", "payments/deploy"]
    said = CliRunner().invoke(app, args)
    allowed = grant["newly_allowed"]["verdict"] == "some"
    assert (said.exit_code, "allowed: payments/deploy" in said.output) == ((0, True) if allowed else (1, False)), (
        said.output
    )
