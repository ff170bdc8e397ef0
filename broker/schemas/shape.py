"""From pydantic's JSON Schema to one that reads well on hover: no made-up titles, no null where leaving out is meant."""

from typing import Any, Final

from pydantic import BaseModel

Schema = dict[str, Any]

_KEPT_AS_THEY_ARE: Final = frozenset({"examples", "default", "const", "enum"})


def of(model: type[BaseModel], title: str) -> Schema:
    """The schema of a model under a title of its own, without the dialect."""
    return {"title": title, **tidy(model.model_json_schema(by_alias=True, mode="validation"))}


def tidy(part: Any) -> Any:
    """The same schema without generated titles, and without the null that only says `may be left out`."""
    if isinstance(part, list):
        return [tidy(item) for item in part]
    if not isinstance(part, dict):
        return part
    tidied = {
        name: value
        if name in _KEPT_AS_THEY_ARE
        else _members(value)
        if name in {"properties", "$defs"}
        else tidy(value)
        for name, value in part.items()
        if name != "title" and (name, value) != ("default", None)
    }
    ways = tidied.get("anyOf")
    if isinstance(ways, list) and {"type": "null"} in ways:
        ways.remove({"type": "null"})
        if len(ways) == 1:
            del tidied["anyOf"]
            tidied = {**ways[0], **tidied}
    return tidied


def _members(members: dict[str, Any]) -> dict[str, Any]:
    """What stands by name; a member that is called `title` is no title."""
    return {name: tidy(value) for name, value in members.items()}


def moved(part: Schema, prefix: str, definitions: Schema) -> Schema:
    """`part` with its own definitions put among `definitions`, under names that begin with `prefix`."""
    inner = part.pop("$defs", {})
    for name, definition in inner.items():
        definitions[f"{prefix}.{name}"] = _renamed(definition, prefix)
    renamed: Schema = _renamed(part, prefix)
    return renamed


def _renamed(part: Any, prefix: str) -> Any:
    if isinstance(part, list):
        return [_renamed(item, prefix) for item in part]
    if not isinstance(part, dict):
        return part
    return {
        name: f"#/$defs/{prefix}.{value.rpartition('/')[2]}"
        if name == "$ref" and isinstance(value, str)
        else _renamed(value, prefix)
        for name, value in part.items()
    }
