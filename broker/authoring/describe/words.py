"""Conditions in plain words, the same in every output. Two conditions that decide differently never read alike.

That promise is kept by how values are written: bare where they are one harmless word, in JSON's quotes otherwise, so that no
branch or environment can be named to read like another condition. Tested by reading the words back.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

_BARE: Final = re.compile(r"[A-Za-z0-9_./@:+*?{}<>\[\]$~^%=&#!-]+")
_TAKEN: Final = frozenset({"anything", "but", "matching", "missing", "or", "none", "of", "a", "any", "list", "holding", "and", "the", "number", "true", "false", "null"})  # fmt: skip
_NUMBER: Final = re.compile(r"[-+.]?[0-9][0-9.eE+-]*")

TITLES: Final[Mapping[str, str]] = {
    "project": "project", "project_id": "project id", "owner": "owner", "owner_id": "owner id", "ref": "ref",
    "ref_type": "kind of ref", "ref_protected": "ref protection", "environment": "environment",
    "environment_protected": "environment protection", "trigger": "event", "fork": "fork flag", "workflow": "workflow",
    "run_id": "run id", "job_id": "job id", "attempt": "attempt", "actor": "user", "actor_id": "user id", "sha": "commit",
    "runner": "kind of runner", "run_url": "page",
}  # fmt: skip
BOOLEANS: Final = frozenset({"ref_protected", "environment_protected", "fork"})
_TEMPLATE: Final = re.compile(r"\{\{ ?(job|claims)\.([^\s{}]+) ?\}\}")


def value_words(value: Any, *, text: bool = False) -> str:
    """One value. `text` is for fields that hold nothing but text, where 512345678 needs no quotes to be told from a number."""
    if isinstance(value, str):
        if _BARE.fullmatch(value) and value not in _TAKEN and (text or not _NUMBER.fullmatch(value)):
            return value
        return json.dumps(value, ensure_ascii=not value.isprintable())
    return json.dumps(value)


def condition_words(spec: Any, *, text: bool = False) -> str:
    """What stands in a policy file, in words: `main or matching "v*"`, `anything but (a or b)`, `missing`."""
    if isinstance(spec, list):
        return " or ".join(_inner(item, text=text) for item in spec)
    if not isinstance(spec, Mapping):
        return value_words(spec, text=text)
    ((form, inner),) = spec.items()
    match form:
        case "absent":
            return "missing"
        case "glob":
            return f"matching {value_words(inner, text=True)}"
        case "regex":
            return f"matching the regular expression {json.dumps(inner, ensure_ascii=not inner.isprintable())}"
        case "not":
            return f"anything but {_inner(inner, text=text)}"
        case _:
            return f"a list holding {_inner(inner, text=False)}"


def _inner(spec: Any, *, text: bool) -> str:
    """A part of a larger condition: in brackets wherever it is more than one value or pattern."""
    words = condition_words(spec, text=text)
    simple = not isinstance(spec, list | Mapping) or (isinstance(spec, Mapping) and set(spec) <= {"glob", "absent"})
    return words if simple or (isinstance(spec, Mapping) and "regex" in spec) else f"({words})"


def field_words(name: str, spec: Any) -> str:
    """A condition on a field of the job: values of a field that holds nothing but text stand without quotes."""
    return condition_words(spec, text=name not in BOOLEANS)


def filled_words(value: Any) -> Any:
    """Options as written, each template replaced by what it is filled with: `deploy-<environment>`."""
    if isinstance(value, str):
        return _TEMPLATE.sub(_filled, value)
    if isinstance(value, Mapping):
        return {key: filled_words(item) for key, item in value.items()}
    if isinstance(value, list):
        return [filled_words(item) for item in value]
    return value


def _filled(match: re.Match[str]) -> str:
    where, name = match.groups()
    return f"<the job's {TITLES.get(name, name)}>" if where == "job" else f"<the claim {name}>"


def listed(items: Sequence[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}"
