"""Judge policy files as their team does before it merges: what loads, what the examples prove, what a linter finds.

* Every problem of every file comes in one go: a file that does not load keeps no other from being linted.
* What the broker would refuse to load is a finding too, of the rule "load", at the place its own message names.
"""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from broker.authoring.finding import Finding, Place, Severity
from broker.documents import parse
from broker.errors import ConfigError
from broker.policy.compile import compile_policy
from broker.policy.document import ExamplePart, PolicyFile
from broker.policy.examples import example_outcomes
from broker.policy.load import Checked, PolicyText, check_text, problems_of_limits, uncollected
from broker.policy.policyset import Policy
from broker.policy.trial import next_document
from broker.policy.world import World

LOAD: Final = "load"
_PLACE: Final = re.compile(r"(?P<file>.+?):(?P<line>[0-9]{1,9}):(?P<column>[0-9]{1,9}): (?P<message>.*)", re.DOTALL)
_REST: Final = re.compile(r":(?P<line>[0-9]{1,9}):(?P<column>[0-9]{1,9}): (?P<message>.*)", re.DOTALL)

Lint = Callable[[Sequence[Checked], World], Iterable[Finding]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One example and what became of it; no problem means that it came out as it says."""

    number: int  # from 0
    name: str = field(repr=False)
    expected: tuple[str, ...]  # the grants it says it gets; none for a refusal
    problems: tuple[str, ...] = field(default=(), repr=False)  # what happened instead


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """One file and its examples' outcomes; `policy` is None, and there are none, where the file does not compile."""

    file: str  # as the caller named it
    policy: str | None
    version: str = ""  # "next" for the version on trial
    examples: tuple[Tried, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """All that was found of a set of files."""

    findings: tuple[Finding, ...]  # by file, in the order the files were given, then by place
    suites: tuple[Suite, ...]
    checked: tuple[Checked, ...]  # the files that load, their examples included


@uncollected()
def examine(
    texts: Sequence[PolicyText],
    world: World,
    *,
    problems: Iterable[str] = (),
    folders: set[str] | None = None,
    lint: Lint = lambda _checked, _world: (),
) -> Examined:
    """Load what loads, try every example, lint the files that load. `problems` are those met while reading.

    `folders` are those of a whole folder of policies, for guardrails that name one; None for loose files.
    """
    found = [load_finding(problem) for problem in problems]
    found += [load_finding(problem, _guardrails(world)) for problem in problems_of_limits(world, folders)]
    suites: list[Suite] = []
    checked: list[Checked] = []
    taken: dict[str, PolicyText] = {}
    for text in texts:
        good, problems_here = _loaded(text, world)
        tried = list(_suites(text, world, good))
        suites += tried
        name = tried[0].policy
        if name is not None and (other := taken.setdefault(name, text)) is not text:
            line = parse(text.data, text.name).problem(
                ("policy",), f"the name {name!r} is taken by {other.file}; rename one"
            )
            problems_here, good = (*problems_here, line), None
        found += [load_finding(line, text.name, name) for line in problems_here]
        if good is not None:
            checked.append(good)
    found += lint(checked, world)
    order = {text.name: place for place, text in enumerate(texts)}
    found.sort(key=lambda one: (order.get(one.place.file, -1), *_place(one), one.rule, one.message))
    return Examined(findings=tuple(dict.fromkeys(found)), suites=tuple(suites), checked=tuple(checked))


def _place(finding: Finding) -> tuple[str, int, int]:
    return finding.place.file, finding.place.line, finding.place.column


def load_finding(problem: str, name: str | None = None, policy: str | None = None) -> Finding:
    """A line of a ConfigError as a Finding. `name` is the file it is about, where that is known: a name may hold colons."""
    if name is not None and problem.startswith(name) and (rest := _REST.fullmatch(problem, len(name))):
        place = Place(file=name, line=int(rest["line"]), column=int(rest["column"]))
        message = rest["message"]
    elif match := _PLACE.fullmatch(problem):
        place = Place(file=match["file"], line=int(match["line"]), column=int(match["column"]))
        message = match["message"]
    else:
        place, message = Place(file=name or "policies", line=1, column=1), problem
    return Finding(rule=LOAD, severity=Severity.ERROR, message=message, place=place, policy=policy)


def _loaded(text: PolicyText, world: World) -> tuple[Checked | None, tuple[str, ...]]:
    try:
        return check_text(text, world), ()
    except ConfigError as error:
        return None, error.problems


def _suites(text: PolicyText, world: World, good: Checked | None) -> Iterator[Suite]:
    """The examples of the version that decides, and of the one on trial where there is one."""
    if good is not None:
        yield Suite(file=text.name, policy=good.policy.name, examples=tuple(_as_expected(good.written.examples)))
        if good.next is not None:
            tried = tuple(_as_expected(good.next.written.examples))
            yield Suite(file=text.name, policy=good.policy.name, version="next", examples=tried)
        return
    try:
        document = parse(text.data, text.name)
        policy, written = compile_policy(document, text.data.decode(), folder=text.folder, file=text.file, world=world)
    except ConfigError:
        yield Suite(file=text.name, policy=None, examples=())
        return
    yield Suite(file=text.name, policy=policy.name, examples=tuple(_tried(policy, written, world)))
    if written.next is None:
        return
    with contextlib.suppress(ConfigError):
        policy, written = compile_policy(
            next_document(document), text.data.decode(), folder=text.folder, file=text.file, world=world
        )
        tried = tuple(_tried(policy, written, world))
        yield Suite(file=text.name, policy=policy.name, version="next", examples=tried)


def _as_expected(examples: Iterable[ExamplePart]) -> Iterator[Tried]:
    """What `check_text` has already tried: a file loads only if every example came out as it says."""
    for number, example in enumerate(examples):
        yield Tried(number=number, name=example.name, expected=tuple(example.expect.allow))


def _tried(policy: Policy, written: PolicyFile, world: World) -> Iterator[Tried]:
    for outcome in example_outcomes(policy, written, world):
        said = tuple(problem for _, problem in outcome.problems)
        yield Tried(number=outcome.number, name=outcome.name, expected=outcome.expected, problems=said)


def _guardrails(world: World) -> str | None:
    return world.guardrails.document.name if world.guardrails.document else None
