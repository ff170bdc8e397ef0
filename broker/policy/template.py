"""`{{ job.run_id }}` in a grant's `with:`: a value of the job's own, typed and narrow.

* Only an option that its backend marks `Templated(pattern)` takes one, and each inserted value has to match the pattern
  as a whole: nothing is ever escaped, what would need it is refused.
* No expressions, filters or defaults. `{{job.x}}` and `{{ job.x }}` are the two ways to write it.
* The filled options are validated again, all of them, before anything is minted.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel

from broker.backends.seam import Templated
from broker.documents import Path, suggestion
from broker.model import JOB_FIELDS, VerifiedToken
from broker.policy.claims import absent, reader
from broker.policy.conditions import compile_pattern, matches

Report = Callable[[Path, str], None]
Fill = Callable[[VerifiedToken], Any]
LARGEST_SHAPE: Final = 100_000  # RE2 instructions; a shape such as [a-z]{1,512} unrolls
_SLOT: Final = re.compile(r"\{\{(?: ([^\s{}]+) |([^\s{}]+))\}\}")


class Unfillable(Exception):
    """A value is missing or not of the shape that the option takes. The text is for the ledger."""


def compile_options(data: Any, model: type[BaseModel], report: Report) -> tuple[Fill, frozenset[Path]] | None:
    """How to fill `data`, and where its templates stand. None where there are none, or all are wrong."""
    slots: dict[Path, None] = {}
    fill = _plan(data, [(model, ())], (), report, slots)
    return (fill, frozenset(slots)) if callable(fill) else None


Arm = tuple[Any, tuple[Any, ...]]  # a type, and what Annotated said about it


def _plan(data: Any, arms: list[Arm], path: Path, report: Report, slots: dict[Path, None]) -> Any:
    """`data` itself where nothing has to be filled in, or a function that makes it."""
    if isinstance(data, str):
        return _text(data, arms, path, report, slots)
    if isinstance(data, Mapping):
        for key in data:
            if "{{" in key:
                report((*path, key), "a key takes no template; only values do")
        parts = {key: _plan(item, list(_below(arms, key)), (*path, key), report, slots) for key, item in data.items()}
        if any(callable(part) for part in parts.values()):
            return lambda token: {key: part(token) if callable(part) else part for key, part in parts.items()}
    if isinstance(data, list):
        items = [_plan(item, list(_below(arms, None)), (*path, i), report, slots) for i, item in enumerate(data)]
        if any(callable(item) for item in items):
            return lambda token: [item(token) if callable(item) else item for item in items]
    return data


def _text(text: str, arms: list[Arm], path: Path, report: Report, slots: dict[Path, None]) -> Any:
    if "{{" not in text:
        return text
    patterns = {mark.pattern for _, marks in _flat(arms) for mark in marks if isinstance(mark, Templated)}
    if not patterns:
        report(path, "this option takes no template ({{ ... }}); write the value itself")
        return text
    shapes = [compile_pattern(pattern, largest=LARGEST_SHAPE) for pattern in patterns]  # the backends' own; all of them
    parts: list[str | Fill] = []
    place = 0
    for match in _SLOT.finditer(text):
        parts.append(text[place : match.start()])
        try:
            parts.append(_slot(match[1] or match[2], shapes))
        except ValueError as error:
            report(path, str(error))
            return text
        place = match.end()
    parts.append(text[place:])
    if any(isinstance(part, str) and "{{" in part for part in parts):
        report(path, "write a template as {{ job.name }} or {{ claims.name }}; there are no filters or expressions")
        return text
    slots[path] = None
    return lambda token: "".join(part if isinstance(part, str) else part(token) for part in parts)


def _slot(name: str, shapes: list[Any]) -> Fill:
    where, dot, rest = name.partition(".")
    if not dot or where not in {"job", "claims"}:
        raise ValueError(f"{name!r} is neither job.NAME nor claims.NAME")
    if where == "job" and rest not in JOB_FIELDS:
        raise ValueError(f"a job has no {rest!r}{suggestion(rest, JOB_FIELDS)}")
    read = None if where == "job" else reader(rest)

    def fill(token: VerifiedToken) -> str:
        value = getattr(token.job, rest) if read is None else read(token.claims)
        if absent(value):
            raise Unfillable(f"{name} is missing")
        if not isinstance(value, str | int):
            raise Unfillable(f"{name} is not text, a whole number or yes/no")
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if not all(matches(shape, text) for shape in shapes):
            raise Unfillable(f"{name} does not have the shape that this option takes")
        return text

    return fill


def _flat(arms: list[Arm]) -> Iterator[Arm]:
    """Each alternative of unions, with the marks of the Annotated around it."""
    for annotation, marks in arms:
        origin: Any = get_origin(annotation)
        if origin is Annotated:
            inner, *more = get_args(annotation)
            yield from _flat([(inner, (*marks, *more))])
        elif origin in {Union, UnionType}:
            yield from _flat([(arm, marks) for arm in get_args(annotation)])
        else:
            yield annotation, marks


def _below(arms: list[Arm], key: str | None) -> Iterator[Arm]:
    """The types of a mapping's member `key`, or of a list's items."""
    for annotation, _ in _flat(arms):
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            for name, info in annotation.model_fields.items():
                if key is not None and key == (info.alias or name):
                    yield info.annotation, tuple(info.metadata)
        elif args := get_args(annotation):
            origin = get_origin(annotation)
            if key is None and isinstance(origin, type) and not issubclass(origin, Mapping):
                yield args[0], ()
            elif key is not None and isinstance(origin, type) and issubclass(origin, Mapping):
                yield args[1], ()
