"""Which claims tell a job's fields, found by trying: the kind's identity is asked with a mark in one claim at a time.

It only guides the search for a witness, so it may be wrong or incomplete without harm.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from broker.issuers.seam import IssuerKind
from broker.model import JOB_FIELDS

MOST_PATHS: Final = 200
MOST_EXAMPLES: Final = 16
_DEEPEST: Final = 4
_MARK: Final = "refs/heads/mark"

Path = tuple[str, ...]
Change = tuple[tuple[Path, Any], ...]  # what to write where; None takes away


class Source(NamedTuple):
    """A claim that tells a field: the field is the claim's text between `before` and `behind`."""

    path: Path
    before: str = ""
    behind: str = ""

    def write(self, value: Any) -> Change | None:
        """What to write for the field to have this value, None for absence; None where this claim cannot tell it."""
        if not isinstance(value, str):
            return None if self.before or self.behind else ((self.path, value),)
        middle = value.removeprefix(self.before).removesuffix(self.behind)
        return ((self.path, middle),) if middle and value == self.before + middle + self.behind else None


class _Asked(dict[str, Any]):
    """Claims that note each name they are asked for, inside objects too, those that are not there included."""

    def __init__(self, claims: Mapping[str, Any], notes: dict[Path, None], here: Path = ()) -> None:
        super().__init__(claims)
        self.notes = notes
        self.here = here

    def get(self, name: str, default: Any = None) -> Any:
        path = (*self.here, name)
        if len(self.notes) < MOST_PATHS:
            self.notes[path] = None
        value = super().get(name, default)
        if isinstance(value, Mapping) or (value is None and len(path) < _DEEPEST):
            return _Asked(value or {}, self.notes, path)
        return value

    def __getitem__(self, name: str) -> Any:
        self.get(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        if isinstance(name, str):
            self.get(name)
        return super().__contains__(name)


_known: dict[int, tuple[IssuerKind, Mapping[str, tuple[Source, ...]]]] = {}
_MOST_KNOWN: Final = 64


def sources_of(kind: IssuerKind) -> Mapping[str, tuple[Source, ...]]:
    """Field -> the claims that tell it, those that are it before those that are a part of it."""
    found = _known.get(id(kind))
    if found is None:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        # The kind is kept too: were it gone, another could have its id.
        found = _known[id(kind)] = (kind, _learned(kind))
    return found[1]


def _learned(kind: IssuerKind) -> dict[str, tuple[Source, ...]]:
    told: dict[str, dict[Source, None]] = {field: {} for field in JOB_FIELDS}
    for example in [*kind.examples.values()][:MOST_EXAMPLES] or [{}]:
        notes: dict[Path, None] = {}
        _fields(kind, _Asked(example, notes))
        for path in notes:
            text, yes, no = (_fields(kind, _with(example, path, mark)) for mark in (_MARK, True, False))
            for field in JOB_FIELDS:
                said = text.get(field)
                if isinstance(said, str) and _MARK in said:
                    before, _, behind = said.partition(_MARK)
                    told[field][Source(path, before, behind)] = None
                elif yes.get(field) is True and no.get(field) is False:
                    told[field][Source(path)] = None
    return {field: tuple(sorted(found, key=lambda one: len(one.before + one.behind))) for field, found in told.items()}


def respelled(claims: Mapping[str, Any], old: str, new: str) -> Iterator[Change]:
    """Writes that turn one path of names (`acme/payments`) into another, name by name, wherever the claims have them.

    For fields that are put together from several claims, or taken from the middle of one.
    """
    one, two = old.split("/"), new.split("/")
    if len(two) > len(one) > 0:  # what is deeper goes below the last name: `main` -> `main/x`, `main/job/x`
        for joint in ("/", "/job/"):
            tail = joint.join(two[len(one) - 1 :])
            yield _replaced(claims, [*zip(one[:-1], two, strict=False), (one[-1], tail)])
    elif len(one) == len(two):
        yield _replaced(claims, list(zip(one, two, strict=True)))


def _replaced(claims: Mapping[str, Any], names: list[tuple[str, str]]) -> Change:
    changes = []
    for path, text in _texts(claims, ()):
        parts = text.split("/")
        if all(before in parts for before, after in names if before != after) or text in dict(names):
            wanted = {before: after for before, after in names if before != after}
            respelt = "/".join(wanted.get(part, part) for part in parts)
            if respelt != text:
                changes.append((path, respelt))
    return tuple(changes)


def _texts(claims: Mapping[str, Any], here: Path) -> Iterator[tuple[Path, str]]:
    for name, value in claims.items():
        if isinstance(value, str):
            yield (*here, name), value
        elif isinstance(value, Mapping) and len(here) < _DEEPEST:
            yield from _texts(value, (*here, name))


def _fields(kind: IssuerKind, claims: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return kind.identity(claims).present()
    except Exception:  # noqa: BLE001  a kind may break on what its CI never signs
        return {}


def _with(claims: Mapping[str, Any], path: Path, value: Any) -> dict[str, Any]:
    changed = dict(claims)
    inner = changed
    for step in path[:-1]:
        below = inner.get(step)
        inner[step] = dict(below) if isinstance(below, Mapping) else {}
        inner = inner[step]
    inner[path[-1]] = value
    return changed
