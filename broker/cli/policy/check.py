"""`jobkey-broker policy check`: what teams run before they merge.

It loads policies as the broker would, tries every example, lints, and shows each problem where it stands, for people,
code hosts and CI systems. Exit code 0: nothing that fails. 1: something does. 2: the question itself is wrong.
"""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import Annotated, Final, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from broker import __version__
from broker.authoring.checking import Examined, examine, load_finding
from broker.authoring.report import FORMATS, Counts, Report, kept
from broker.authoring.report.model import clean
from broker.authoring.report.text import lines
from broker.cli.policy.files import write_report
from broker.cli.policy.fixing import fixed
from broker.cli.policy.linting import Known, known, lint, rules
from broker.cli.policy.setting import UNCHECKED, Config, Setting, read_setting, read_texts
from broker.cli.policy.show import read_source
from broker.errors import ConfigError
from broker.policy.load import PolicyText

GOOD, FAILED, WRONG = 0, 1, 2
_LIST: Final = ", ".join(FORMATS)


def check(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Policy files, or folders of them.")],
    *,
    config: Config = None,
    guardrails: Annotated[Path | None, typer.Option(help="guardrails.yaml, where no --config names it.")] = None,
    form: Annotated[str, typer.Option("--format", "-f", help=f"What to print: {_LIST}.")] = "text",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write that to a file, and print the text.")
    ] = None,
    report: Annotated[
        list[str] | None, typer.Option("--report", metavar="FORMAT=FILE", help="Write this too; may be repeated.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail as errors do.")] = False,
    fix: Annotated[bool, typer.Option("--fix", help="Apply the fixes that are safe, and show what changed.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --fix: show it, and write nothing.")] = False,
    only: Annotated[list[str] | None, typer.Option("--rule", help="Lint by this rule only; may be repeated.")] = None,
    ignore: Annotated[list[str] | None, typer.Option("--ignore", help="Leave this rule out; may be repeated.")] = None,
    ledger: Annotated[
        Path | None,
        typer.Option(help="A broker's data folder, or a copy of its ledger.db: judge ttls by what jobs really used."),
    ] = None,
    owners: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Who there is: one name a line, or a CODEOWNERS file; may be repeated."),
    ] = None,
    root: Annotated[Path, typer.Option(help="The repository's root: reports name files relative to it.")] = Path(),
    docs: Annotated[
        str,
        typer.Option(envvar="JOBKEY_DOCS", metavar="URL", help="Where this project's pages are, for links to rules."),
    ] = "",
) -> None:
    """Check policies before they are merged: load, guardrails, examples, linter.

    Exit code 0: nothing that fails. 1: something does. 2: the question itself is wrong.
    """
    out = Console(highlight=False, soft_wrap=True)
    try:
        written = _destinations(form, output, report or [])
        _named_rules([*(only or []), *(ignore or [])])
        base = _docs(docs)
        more = known(ledger, owners or [])
    except ConfigError as error:
        _wrong(error)
    texts: list[PolicyText] = []
    setting: Setting | None = None
    try:
        setting = read_setting(config, guardrails)
    except ConfigError as error:  # a finding like any other: a merge request may change these files too
        examined = Examined(findings=tuple(map(load_finding, error.problems)), suites=(), checked=())
    else:
        texts, folders, problems = _read(paths)
        examined = _examine(texts, setting, problems, folders, more, only=only, ignore=ignore)
        if fix:
            quiet = form != "text" and output is None  # standard output is then the report's alone
            changed = fixed(texts, examined, setting.world, dry_run=dry_run, out=None if quiet else out)
            if changed is not texts:
                texts = changed
                examined = _examine(texts, setting, problems, folders, more, only=only, ignore=ignore)
    found = _report(examined, texts, setting, more.used, root=root, strict=strict, docs=base)
    if form == "text" or output is not None:
        for line in lines(found):
            out.print(Text.assemble(*line))
    else:
        typer.echo(FORMATS[form](found), nl=False)
    try:
        read = [Path(text.name) for text in texts] + [path for path in (config, guardrails) if path is not None]
        for kind, path in written:
            write_report(path, FORMATS[kind](found), read=read)
    except ConfigError as error:
        _wrong(error)
    if not found.good:
        raise typer.Exit(FAILED)


def _destinations(form: str, output: Path | None, reports: Sequence[str]) -> list[tuple[str, Path]]:
    """Which format goes to which file. Raises ConfigError."""
    asked = [(form, output)] if output is not None else []
    for report in reports:
        kind, equals, file = report.partition("=")
        if not equals or not file:
            raise ConfigError(f"--report {clean(report)!r}: write FORMAT=FILE, with FORMAT one of {_LIST}")
        asked.append((kind, Path(file)))
    for kind in [form, *(kind for kind, _ in asked)]:
        if kind not in FORMATS:
            raise ConfigError(f"{clean(kind)!r} is no format; there are: {_LIST}")
    files = [path.resolve() for _, path in asked]
    for path in files:
        if files.count(path) > 1:
            raise ConfigError(f"{clean(str(path))}: two reports cannot go to one file")
    return asked


def _named_rules(names: Sequence[str]) -> None:
    there = rules()
    for name in names:
        if name not in there:
            raise ConfigError(f"no rule is called {clean(name)!r}; there are: {', '.join(sorted(there))}")


def _docs(url: str) -> str:
    if url and not url.startswith(("https://", "http://")):
        raise ConfigError(f"--docs {clean(url)!r}: an https URL is expected, that of the folder which holds `docs`")
    return url if not url or url.endswith("/") else f"{url}/"


def _wrong(error: ConfigError) -> NoReturn:
    for problem in error.problems:
        typer.echo(clean(problem), err=True)
    raise typer.Exit(WRONG) from None


def _read(paths: Sequence[Path]) -> tuple[list[PolicyText], set[str] | None, list[str]]:
    """Every file once, in the order it was first named."""
    problems: list[str] = []
    texts, folders = read_texts(list(dict.fromkeys(paths)), problems)
    once = {os.path.realpath(text.name): text for text in reversed(texts)}
    return [text for text in texts if once[os.path.realpath(text.name)] is text], folders, problems


def _examine(
    texts: Sequence[PolicyText],
    setting: Setting,
    problems: Sequence[str],
    folders: set[str] | None,
    more: Known,
    *,
    only: Sequence[str] | None,
    ignore: Sequence[str] | None,
) -> Examined:
    found = examine(texts, setting.world, problems=problems, folders=folders, lint=partial(lint, more=more))
    left = kept(found.findings, only=frozenset(only or ()), ignored=frozenset(ignore or ()))
    return Examined(findings=left, suites=found.suites, checked=found.checked)


def _report(
    examined: Examined,
    texts: Sequence[PolicyText],
    setting: Setting | None,
    used: tuple[str, ...],
    *,
    root: Path,
    strict: bool,
    docs: str,
) -> Report:
    policies = [checked.policy for checked in examined.checked]
    sources = {text.name: text.data.decode("utf-8", "replace") for text in texts}
    places = [finding.place.file for finding in examined.findings]
    places += [place.file for finding in examined.findings for place, _ in finding.related]
    for file in dict.fromkeys(places):
        if file not in sources and (source := read_source(Path(file))) is not None:
            sources[file] = source
    unchecked = setting is not None and setting.world.targets is None
    return Report(
        version=__version__,
        findings=examined.findings,
        suites=examined.suites,
        counts=Counts(
            policies=len(policies),
            statements=sum(len(policy.statements) for policy in policies),
            grants=sum(len(policy.grants) for policy in policies),
        ),
        rules=rules(),
        sources=sources,
        paths=_paths({*sources, *places}, root),
        not_checked=(UNCHECKED.removeprefix("not checked: "),) if unchecked else (),
        used=used,
        strict=strict,
        revision=_revision(os.environ),
        docs=docs,
    )


def _revision(env: Mapping[str, str]) -> tuple[str, str] | None:
    """What GitHub and GitLab say of the checkout, in their jobs' variables."""
    github = f"{env.get('GITHUB_SERVER_URL')}/{env.get('GITHUB_REPOSITORY')}"
    for uri, commit in ((env.get("CI_PROJECT_URL"), env.get("CI_COMMIT_SHA")), (github, env.get("GITHUB_SHA"))):
        if uri and commit and uri.startswith("https://"):
            return uri, commit
    return None


def _paths(files: set[str], root: Path) -> Mapping[str, str]:
    """Each file relative to the repository's root, or whole where it is not below it."""
    top = os.path.abspath(root)  # noqa: PTH100  not resolve(): the path that the code host knows, links and all
    found: dict[str, str] = {}
    for file in files:
        whole = os.path.abspath(file)  # noqa: PTH100
        inside = PurePath(whole).is_relative_to(top)
        found[file] = PurePath(whole).relative_to(top).as_posix() if inside else PurePath(whole).as_posix()
    return found
