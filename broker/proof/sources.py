"""Which claims tell a job's fields, found by trying: the kind's identity is asked with a mark in one claim at a time.

It only guides the search for a witness, so it may be wrong or incomplete without harm.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from broker.issuers.seam import IssuerKind
from broker.model import JOB_FIELDS

MOST_PATHS: Final = 200
_DEEPEST: Final = 4
_MARK: Final = "refs/heads/mark"

Path = tuple[str, ...]


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


_known: dict[int, tuple[IssuerKind, dict[str, tuple[Path, ...]]]] = {}
_MOST_KNOWN: Final = 64


def sources_of(kind: IssuerKind) -> Mapping[str, tuple[Path, ...]]:
    """Field -> the paths of claims that tell it, those that stand in the examples first."""
    found = _known.get(id(kind))
    if found is None:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        # The kind is kept too: were it gone, another could have its id.
        found = _known[id(kind)] = (kind, _learned(kind))
    return found[1]


def _learned(kind: IssuerKind) -> dict[str, tuple[Path, ...]]:
    told: dict[str, dict[Path, None]] = {field: {} for field in JOB_FIELDS}
    for example in [*kind.examples.values()][:MOST_PATHS] or [{}]:
        notes: dict[Path, None] = {}
        _fields(kind, _Asked(example, notes))
        for path in notes:
            outcomes = [_fields(kind, _with(example, path, mark)) for mark in (_MARK, True, False)]
            for field in JOB_FIELDS:
                text, yes, no = (outcome.get(field) for outcome in outcomes)
                if text == _MARK or (yes is True and no is False):
                    told[field][path] = None
    return {field: tuple(paths) for field, paths in told.items()}


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


def field_paths(kind: IssuerKind) -> Iterator[tuple[str, Path]]:
    """Each field with each claim that tells it."""
    for field, paths in sources_of(kind).items():
        for path in paths:
            yield field, path
