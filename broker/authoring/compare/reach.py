"""What two versions of a grant give, apart from to whom: backend, life, options, what a job may send.

* A longer life, another backend: more is given. A shorter life: less. What another option gives cannot be told from here,
  since only the backend's target system knows what a role may do; so it may be more, and may be less.
* Options that the backend reads as equal are equal, however they are written.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final

from broker.documents import Path, dotted
from broker.durations import render
from broker.model import JOB_FIELDS
from broker.policy.claims import absent, reader
from broker.policy.document import GrantPart
from broker.policy.policyset import Grant, Policy, Read
from broker.proof import Verdict

LONGEST_SHOWN: Final = 300
_SLOT: Final = re.compile(r"\{\{ ?((?:job|claims)\.[^\s{}\"]+) ?\}\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One grant, compiled and as it is written."""

    policy: Policy
    grant: Grant
    written: GrantPart = field(repr=False)
    powers: tuple[str, ...] = ()  # what its credential lets the holder do, as far as the backend's options tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """One thing that changed about what a grant gives. `before` and `after` are None where there was or is nothing."""

    what: str  # backend, ttl, with, power, params
    path: str  # with.tags.run; for the others what they are called in the file
    before: str | None
    after: str | None
    gives: Verdict  # whether this gives more: SOME it does, UNKNOWN it may, NONE it does not
    takes: Verdict


def templated(part: Part | None) -> Any:
    """What stands in `with:` of a grant that is filled in from the job; None where nothing is."""
    if part is None or "{{" not in _exactly(part.written.options):
        return None
    return (part.grant.backend, part.grant.kind, _exactly(part.written.options))


def slots_of(part: Part | None) -> list[tuple[str, Read]]:
    """What a grant fills in from the job: the key, as conditions name it, and how it is read."""
    names = dict.fromkeys(_SLOT.findall("" if part is None else _exactly(part.written.options)))
    found = [(name, _read(name)) for name in names]
    return [(name, read) for name, read in found if read is not None]


def _read(name: str) -> Read | None:
    """None where no job has that; a template is checked only where the backend is known."""
    where, _, rest = name.partition(".")
    if where == "job":
        return attrgetter(name) if rest in JOB_FIELDS else None
    try:
        read = reader(rest)
    except ValueError:
        return None
    return lambda token: read(token.claims)


def reach(before: Part, after: Part, *, gives: Verdict, takes: Verdict) -> Iterator[Reach]:
    """Every difference. `gives` and `takes` say what was proved of the params that a job may send."""
    if (before.grant.backend, before.grant.kind) != (after.grant.backend, after.grant.kind):
        old, new = before.grant.backend, after.grant.backend
        yield Reach(what="backend", path="backend", before=old, after=new, gives=Verdict.SOME, takes=Verdict.SOME)
    if before.grant.ttl != after.grant.ttl:
        longer = after.grant.ttl > before.grant.ttl
        yield Reach(
            what="ttl", path="ttl", before=render(before.grant.ttl), after=render(after.grant.ttl),
            gives=Verdict.SOME if longer else Verdict.NONE, takes=Verdict.NONE if longer else Verdict.SOME,
        )  # fmt: skip
    if not _same_options(before, after):
        yield from _differences("with", before.written.options, after.written.options, Verdict.UNKNOWN, Verdict.UNKNOWN)
    for power in (*before.powers, *after.powers):
        if (power in before.powers) is not (power in after.powers):
            was, now = (power if power in one.powers else None for one in (before, after))
            # A wildcard of the other version may hold it already, so neither is certain.
            yield Reach(what="power", path="", before=was, after=now, gives=Verdict.UNKNOWN, takes=Verdict.UNKNOWN)
    old_params, new_params = before.written.params, after.written.params
    yield from _differences("params", old_params, new_params, gives, takes, whole=True)


def _same_options(before: Part, after: Part) -> bool:
    known = before.grant.options_model is not None and before.grant.options_model is after.grant.options_model
    if known and before.grant.fill is None and after.grant.fill is None:
        return bool(before.grant.options == after.grant.options)  # a default that is written out changes nothing
    return _exactly(before.written.options) == _exactly(after.written.options)


def _differences(
    what: str,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    gives: Verdict,
    takes: Verdict,
    *,
    whole: bool = False,
) -> Iterator[Reach]:
    """By path; with `whole`, only the names at the top are told apart."""
    old = {(name,): item for name, item in before.items()} if whole else dict(_leaves(before))
    new = {(name,): item for name, item in after.items()} if whole else dict(_leaves(after))
    for path in [*old, *(path for path in new if path not in old)]:
        texts = [show(side[path], longest=None) if path in side else None for side in (old, new)]
        exact = [_exactly(side[path]) if path in side else None for side in (old, new)]
        if exact[0] != exact[1]:
            # "1" and 1 look alike, and are not.
            was, now = exact if texts[0] == texts[1] else texts
            yield Reach(what=what, path=dotted((what, *path)), before=was, after=now, gives=gives, takes=takes)


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Each value that holds no other, and each list of plain values, by its path."""
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _leaves(item, (*path, name))
    elif isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        for place, item in enumerate(value):
            yield from _leaves(item, (*path, place))
    elif path:
        yield path, value


def _exactly(value: Any) -> str:
    """The value as one text: equal texts, equal values of equal types."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


def show(value: Any, *, longest: int | None = LONGEST_SHOWN) -> str:
    """A value on one line: printable text as it is, everything else as JSON."""
    if absent(value):
        return "absent" if value is None else json.dumps(value)
    try:
        text = value if isinstance(value, str) and value.isprintable() else json.dumps(value, default=str)
    except (RecursionError, ValueError):
        text = f"a {type(value).__name__} nested too deeply to show"
    return text if longest is None or len(text) <= longest else text[:longest] + "..."
