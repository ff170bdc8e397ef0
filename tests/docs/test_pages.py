"""Each page of the documentation, word for word: its commands are run, its files are loaded, its links lead somewhere."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from jobkey import errors as client_errors
from typer.testing import CliRunner

from broker.cli.policy import app as policy_app
from broker.documents import parse
from broker.issuers import ISSUERS
from broker.policy.guardrails import read_guardrails
from broker.settings import load_settings
from broker.web.problems import kebab
from tests.system import require
from tools import docs as generated
from tools.pages import ROOT, Block, Names, Practice, blocks, run_page, steps

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Pages with nothing to run. Everything else has to have a console block: a page whose commands are not run is not true for long.
WORDS_ONLY = {"docs/README.md"}
ELSEWHERE = {"docs/performance.md"}  # the bench's: minutes long, and other numbers each time
LANGUAGES = {"console", "yaml", "json", "text", "sh", "python", "groovy", "hcl"}
YAML_ROLES = {"policy", "broker", "guardrails", "ci", "kubernetes", "part", "bad", "good"}
NEEDED = {
    "docs/first-policy.md": ("git",),
    "docs/jobs.md": ("ssh-keygen",),
    "docs/backends.md": ("ssh-keygen",),
    "docs/policy-diff.md": ("git",),
}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def every(language: str) -> list[pytest.param]:
    return [
        pytest.param(path, block, id=f"{name(path)}:{block.line}")
        for path in PAGES
        for block in blocks(path.read_text())
        if block.language == language
    ]


def runs(path: Path) -> bool:
    return name(path) not in ELSEWHERE and any(block.language == "console" for block in blocks(path.read_text()))


@pytest.mark.parametrize("path", [path for path in PAGES if runs(path)], ids=name)
def test_commands_do_what_the_page_says(path: Path) -> None:
    require("bash", *NEEDED.get(name(path), ()))
    with Practice() as practice:
        differences = [str(one) for one in run_page(path.read_text(), practice)]
    assert not differences, "\n\n".join(differences)


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_no_command_stands_where_it_is_not_run(path: Path) -> None:
    found = blocks(path.read_text())
    assert not [
        block.line for block in found if block.language != "console" and "$ " in {line[:2] for line in block.lines}
    ]
    if name(path) in WORDS_ONLY | ELSEWHERE or path.parent.name in {"decisions", "rules"}:
        return
    assert runs(path), "write its commands as ```console blocks"


@pytest.mark.parametrize("path", [path for path in PAGES if name(path) not in ELSEWHERE], ids=name)
def test_every_block_is_of_a_kind_that_is_checked(path: Path) -> None:
    for block in blocks(path.read_text()):
        assert block.language in LANGUAGES, f"line {block.line}: {block.info!r}"


@pytest.mark.parametrize(("path", "block"), every("yaml"))
def test_yaml_is_loaded_by_what_will_load_it(path: Path, block: Block, tmp_path: Path) -> None:
    roles = YAML_ROLES & set(block.info.split())
    assert len(roles) == 1, f"say what it is, one of {sorted(YAML_ROLES)}"
    match roles.pop():
        case "broker":
            (tmp_path / "broker.yaml").write_text(block.text)
            assert load_settings(tmp_path / "broker.yaml").issuers
        case "guardrails":
            read_guardrails(block.text, name(path))
        case "policy":
            (tmp_path / "policy.yaml").write_text(block.text)
            checked = CliRunner().invoke(
                policy_app,
                ["check", str(tmp_path / "policy.yaml"), "--config", str(ROOT / "configs/broker-production.yaml")],
            )
            assert checked.exit_code == 0, checked.output
        case "part" | "bad" | "good":  # the last two are linted by tests/unit/lint/test_rule_pages.py
            assert parse(block.text, name(path)).value
        case _:
            assert all(isinstance(document, dict) for document in yaml.safe_load_all(block.text))


@pytest.mark.parametrize("path", [ROOT / "docs/policies.md", ROOT / "docs/backends.md"], ids=name)
def test_the_parts_of_policies_are_parts_of_one_that_loads(path: Path, tmp_path: Path) -> None:
    """Each `part` that shows statements or grants, put into an otherwise good policy."""
    tried = 0
    for number, block in enumerate(blocks(path.read_text())):
        if block.language != "yaml" or "part" not in block.info.split() or block.file:
            continue
        value = yaml.safe_load(block.text)
        if "when" in value:
            value = {
                "trust": [{"issuer": "github", "job": {"project_id": "512345678", "ref": "refs/heads/main"}, **value}]
            }
        whole = {
            "policy": f"p{number}",
            "owners": ["team@acme.example"],
            "trust": [{"issuer": "github", "job": {"project_id": "512345678", "environment": "production"}}],
            "grants": {"one": {"backend": "token", "ttl": "5m", "with": {"audience": "https://x.example"}}},
            "examples": [
                {"name": "no", "claims": {"$like": "github-issue-comment"}, "expect": "refuse"},
                {
                    "name": "not the owner's",
                    "claims": {"$like": "github-branch", "repository_id": "9"},
                    "expect": "refuse",
                },
            ],
            **value,
        }
        file = tmp_path / f"p{number}.yaml"
        file.write_text(yaml.safe_dump(whole, sort_keys=False))
        checked = CliRunner().invoke(
            policy_app, ["check", str(file), "--config", str(ROOT / "configs/broker-production.yaml")]
        )
        # Guardrails may say no to what a page warns of; nothing else may be wrong.
        assert checked.exit_code == 0, f"line {block.line}: {checked.output}"
        tried += 1
    assert tried


@pytest.mark.parametrize(("path", "block"), every("json"))
def test_json_is_json(path: Path, block: Block) -> None:
    assert json.loads(block.text)


@pytest.mark.parametrize(("path", "block"), every("python"))
def test_python_compiles(path: Path, block: Block) -> None:
    compile(block.text, name(path), "exec")


@pytest.mark.parametrize(("path", "block"), every("sh"))
def test_shell_lines_name_what_is_there(path: Path, block: Block) -> None:
    """These install or start things, so they are not run here; what they name has to exist all the same."""
    targets = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in block.lines:
        if line.startswith("make "):
            assert line.split()[1] in targets
        for word in line.split():
            if word.startswith("requirements/"):
                assert (ROOT / word).is_file()


def anchors(path: Path) -> set[str]:
    """The anchors that a renderer makes of headings (GitHub's rule for plain ones)."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        if there in {ROOT / page for page in ELSEWHERE}:
            continue
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_every_problem_and_exit_code_has_its_place_in_jobs_md() -> None:
    text = (ROOT / "docs/jobs.md").read_text()
    sections = anchors(ROOT / "docs/jobs.md")
    assert {kebab(leaf.__name__) for leaf in generated.leaves(generated.BrokerError)} <= sections
    codes = {error.exit_code for error in [client_errors.JobkeyError, *client_errors.JobkeyError.__subclasses__()]}
    assert all(re.search(rf"^\| {code} \|", text, re.MULTILINE) for code in codes)


@pytest.mark.parametrize("page", sorted({where for where, _ in generated.PARTS.values()}))
def test_what_the_code_says_is_current(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    assert generated.current(page, text) == text, "run: python -m tools.docs"


def test_generated_parts_speak_of_everything_there_is() -> None:
    text = (ROOT / "docs/issuers.md").read_text()
    for kind in ISSUERS.values():
        assert f"### {kind.name}\n" in text
        assert all(attack.replace("|", r"\|") in text for attack in kind.trigger_names.values())
    assert "| Type |" in (ROOT / "docs/auditors.md").read_text()


# ---- the harness itself: a test that cannot fail would prove nothing


def test_a_page_that_says_something_else_is_found(tmp_path: Path) -> None:
    require("bash")
    page = """
```console
$ echo one
one
$ echo two
three
$ false
```
"""
    with Practice() as practice:
        found = [(one.step.command, one.why) for one in run_page(page, practice)]
    assert [command for command, _ in found] == ["echo two", "false"]
    assert "does not say so" in found[1][1]


@pytest.mark.parametrize(
    ("expected", "output", "same"),
    [
        (["a"], ["a"], True),
        (["a"], ["b"], False),
        (["a"], ["a", "b"], False),
        (["a", "..."], ["a"], True),
        (["a", "..."], ["a", "b", "c"], True),
        (["...", "c"], ["a", "b"], False),
        (["x ... z"], ["x y z"], True),
        (["took in 1.5 s"], ["took in 22.0 s"], True),
        (["at 2026-01-01T00:00:00Z"], ["at 2027-02-03T04:05:06.789Z"], True),
        (["http://127.0.0.1:1/x"], ["http://127.0.0.1:65000/x"], True),
        (["http://127.0.0.1:1/x"], ["http://127.0.0.1:65000/y"], False),
        (["[a-z]"], ["b"], False),
        ([], [], True),
        ([], ["surprise"], False),
    ],
)
def test_what_matches(expected: list[str], output: list[str], same: bool) -> None:
    assert Names().matches(tuple(expected), output) is same


def test_an_id_is_the_same_one_wherever_a_page_shows_it() -> None:
    shown, other = "case_" + "0" * 26, "case_" + "1" * 26
    real, stranger = "case_" + "2" * 26, "case_" + "3" * 26
    names = Names()
    with pytest.raises(ValueError, match="before any output"):
        names.command(f"show {shown}")
    assert names.matches((f"{shown} {other} {shown}",), [f"{real} {stranger} {real}"])
    assert names.command(f"show {shown}") == f"show {real}"
    assert names.matches((f"again {shown}",), [f"again {real}"])
    assert not names.matches((f"again {shown}",), [f"again {stranger}"])
    assert not Names().matches((f"{shown} {shown}",), [f"{real} {stranger}"])


def test_blocks_and_steps() -> None:
    (block,) = blocks("text\n\n```console\n$ a \\\n> b\nout\n\n$ c\n```\n")
    assert [(step.line, step.command, step.expected) for step in steps(block)] == [
        (4, "a \\\nb", ("out", "")),
        (8, "c", ()),
    ]
    with pytest.raises(ValueError, match="not closed"):
        blocks("```console\n$ a\n")
    with pytest.raises(ValueError, match=r"begins with `\$ command`"):
        steps(blocks("```console\nout\n```\n")[0])


def test_make_demo_on_a_page_is_what_make_demo_does() -> None:
    """The pages' `make` is a stand-in that builds nothing; this holds it to the Makefile."""
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^demo: environment .*\n\t@\$\(BIN\)/jobkey-broker demo \$\(ARGS\)\n", makefile, re.MULTILINE)
    assert shutil.which("make") is None or "demo" in makefile
