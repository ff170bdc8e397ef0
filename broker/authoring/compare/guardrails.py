"""Two versions of the guardrails: what each change takes away or gives, and which policies it makes a difference to.

Guardrails only take away, so loosening one allows no identity anything by itself; it lets policies say more. Which
policies need the room that is given, or lose what they have, is found by compiling each of them under both versions of
that one limit.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, NamedTuple

from broker.documents import parse
from broker.durations import render
from broker.errors import ConfigError
from broker.policy import Guardrails, Policy, PolicySet
from broker.policy.compile import compile_policy
from broker.policy.guardrails import FolderLimits
from broker.policy.trial import next_document
from broker.policy.world import World

_SETS: Final = ("no_wildcards", "triggers_never_allowed")
_KNOWN: Final = frozenset({"longest_ttl", "require_immutable_id", "owners", "folders", "advised_ttl", "protects", "examples", *_SETS})  # fmt: skip
_NOT_LIMITS: Final = frozenset({"sha256", "text", "document"})


_Judged = tuple[str, str | None, str | None, bool, bool]  # what of it, before, after, gives, takes


class Needs(NamedTuple):
    """A policy that loads under one version of a limit only, and what the other version says of it."""

    policy: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One limit that changed. `before` and `after` are None where there was or is none."""

    key: str  # longest_ttl.aws-sts, triggers_never_allowed, folders.payments.backends
    before: str | None
    after: str | None
    gives: bool  # policies may say more than before
    takes: bool  # policies may say less
    advice: bool = False  # asked by the linter and by tests, never when policies are loaded
    used_by: tuple[Needs, ...] = ()  # new policies that load only because of what is given
    lost_by: tuple[Needs, ...] = ()  # old policies that would load no more


@dataclass(frozen=True, slots=True)
class _Change:
    key: str
    before: str | None
    after: str | None
    gives: bool
    takes: bool
    put: Callable[[Guardrails], Guardrails] = field(repr=False)  # the new limit into the old guardrails
    put_back: Callable[[Guardrails], Guardrails] = field(repr=False)  # the old limit into the new ones
    advice: bool = False


def compare_guardrails(old: PolicySet, new: PolicySet, world: World) -> Iterator[Limit]:
    """Every limit that differs, in the order of the file."""
    for change in _changes(old.guardrails, new.guardrails):
        used: Iterable[Needs] = ()
        lost: Iterable[Needs] = ()
        if change.gives and not change.advice:
            used = _fail(new, replace(world, guardrails=change.put_back(new.guardrails)))
        if change.takes and not change.advice:
            lost = _fail(old, replace(world, guardrails=change.put(old.guardrails)))
        yield Limit(
            key=change.key, before=change.before, after=change.after, gives=change.gives, takes=change.takes,
            used_by=tuple(used), lost_by=tuple(lost), advice=change.advice,
        )  # fmt: skip


def _changes(old: Guardrails, new: Guardrails) -> Iterator[_Change]:
    yield from _by_name("longest_ttl", old, new, _ttl)
    if old.require_immutable_id != new.require_immutable_id:
        looser = old.require_immutable_id
        yield _member(
            "require_immutable_id", old, new, lambda value: str(value).lower(), gives=looser, takes=not looser
        )
    for name in _SETS:
        was, now = getattr(old, name), getattr(new, name)
        if was != now:
            yield _member(name, old, new, _listed, gives=bool(was - now), takes=bool(now - was))
    gives, takes = _fewer(old.owners, new.owners)
    if gives or takes:
        yield _member("owners", old, new, _listed, gives=gives, takes=takes)
    yield from _by_name("folders", old, new, _folder)
    yield from _advice(old, new)
    yield from _unknown(old, new)


def _fewer(before: Iterable[Any] | None, after: Iterable[Any] | None) -> tuple[bool, bool]:
    """(gives, takes) of what may be used; None is any. Of globs, only the same text is known to admit the same."""
    was, now = (None if one is None else frozenset(one) for one in (before, after))
    return was is not None and (now is None or bool(now - was)), now is not None and (was is None or bool(was - now))


def _advice(old: Guardrails, new: Guardrails) -> Iterator[_Change]:
    """What is asked by the linter or by tests only. Less that is protected is room given; advice and examples are not."""
    for change in _by_name("advised_ttl", old, new, _ttl):
        yield replace(change, gives=False, takes=False, advice=True)
    for change in _by_name("protects", old, new, _protected):
        yield replace(change, advice=True)
    if old.examples != new.examples:
        yield replace(_member("examples", old, new, _names, gives=False, takes=False), advice=True)


def _names(examples: Any) -> str | None:
    return ", ".join(example.name for example in examples) or None


def _protected(before: Any, after: Any) -> Iterator[_Judged]:
    was, now = frozenset(before or ()), frozenset(after or ())
    if was != now:
        yield "", _listed(was), _listed(now), bool(was - now), bool(now - was)


def _unknown(old: Guardrails, new: Guardrails) -> Iterator[_Change]:
    """A limit that this module does not know: nothing is claimed of it but that it changed."""
    for one in fields(Guardrails):
        if one.name not in _KNOWN | _NOT_LIMITS and getattr(old, one.name) != getattr(new, one.name):
            yield _member(one.name, old, new, _listed, gives=True, takes=True)


def _member(
    name: str, old: Guardrails, new: Guardrails, show: Callable[[Any], str | None], *, gives: bool, takes: bool
) -> _Change:
    was, now = getattr(old, name), getattr(new, name)
    return _Change(
        name, show(was), show(now), gives, takes,
        lambda limits: replace(limits, **{name: now}), lambda limits: replace(limits, **{name: was}),
    )  # fmt: skip


def _by_name(
    member: str,
    old: Guardrails,
    new: Guardrails,
    judge: Callable[[Any, Any], Iterator[_Judged]],
) -> Iterator[_Change]:
    """The changes of a limit that is a mapping, one for each of its keys."""
    was: Mapping[str, Any] = getattr(old, member)
    now: Mapping[str, Any] = getattr(new, member)
    for name in [*was, *(name for name in now if name not in was)]:
        before, after = was.get(name), now.get(name)
        for below, shown_before, shown_after, gives, takes in judge(before, after):
            yield _Change(
                f"{member}.{name}{below}", shown_before, shown_after, gives, takes,
                _putter(member, name, after), _putter(member, name, before),
            )  # fmt: skip


def _putter(member: str, name: str, value: Any) -> Callable[[Guardrails], Guardrails]:
    def put(limits: Guardrails) -> Guardrails:
        rest = {key: item for key, item in getattr(limits, member).items() if key != name}
        members: dict[str, Any] = {member: rest if value is None else {**rest, name: value}}
        return replace(limits, **members)

    return put


def _ttl(before: Any, after: Any) -> Iterator[_Judged]:
    if before != after:
        looser = after is None or (before is not None and after > before)
        yield "", before and render(before), after and render(after), looser, not looser


def _folder(before: Any, after: Any) -> Iterator[_Judged]:
    """Each sort of limit on one folder; no entry is an entry without limits."""
    was, now = (limits or FolderLimits() for limits in (before, after))
    for sort in (one.name for one in fields(FolderLimits)):
        old, new = getattr(was, sort), getattr(now, sort)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            for kind in [*old, *(kind for kind in new if kind not in old)]:
                for _, shown, showing, gives, takes in _ttl(old.get(kind), new.get(kind)):
                    yield f".{sort}.{kind}", shown, showing, gives, takes
        elif old != new:
            gives, takes = _fewer(old, new)
            if gives or takes:
                yield f".{sort}", _listed(old), _listed(new), gives, takes


def _listed(values: Any) -> str | None:
    if values is None or isinstance(values, str):
        return values
    if isinstance(values, Mapping):
        return ", ".join(f"{name}: {_listed(value)}" for name, value in sorted(values.items()))
    return (", ".join(sorted(map(str, values))) or "none") if isinstance(values, Iterable) else str(values)


def _fail(policies: PolicySet, world: World) -> Iterator[Needs]:
    """The policies that do not load in this world, each with its first problem. Examples are not run."""
    for policy in policies.policies.values():
        problem = _problem(policy, world)
        if problem is not None:
            yield Needs(policy.name, problem)


def _problem(policy: Policy, world: World) -> str | None:
    folder = policy.file.rpartition("/")[0] or "."
    document = parse(policy.text, policy.file)
    versions = [document] if policy.next is None else [document, next_document(document)]
    try:
        for version in versions:
            compile_policy(version, policy.text, folder=folder, file=policy.file, world=world)
    except ConfigError as error:
        return error.problems[0]
    return None
