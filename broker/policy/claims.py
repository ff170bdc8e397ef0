"""How a policy names a claim, and what counts as being there.

* A name is looked up literally: `repository_id`, `kubernetes.io`, `oidc.circleci.com/project-id`.
* A name that begins with `/` and is no claim is an RFC 6901 JSON pointer: `/kubernetes.io/serviceaccount/uid`. So no
  name is ever guessed apart at its dots or slashes.
* A claim that is null, empty text, an empty list or an empty object is not there.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

DEEPEST: Final = 64
Read = Callable[[Mapping[str, Any]], Any]


def absent(value: Any) -> bool:
    """Whether a claim's value is as good as none."""
    return value is None or value in ("", [], {})


def reader(path: str) -> Read:
    """A function from claims to the value at `path`, or to None. Raises ValueError where the pointer is not one."""
    if not path or not path.isprintable():
        raise ValueError("a claim's name is expected here")
    if not path.startswith("/"):
        return lambda claims: claims.get(path)
    steps = [_unescaped(step) for step in path[1:].split("/")]

    def read(claims: Mapping[str, Any]) -> Any:
        if path in claims:
            return claims[path]
        value: Any = claims
        for step in steps:
            # Objects only: the place of an item in a list is nothing that a CI promises.
            value = value.get(step) if isinstance(value, Mapping) else None
        return value

    return read


def _unescaped(step: str) -> str:
    if "~" in step.replace("~0", "").replace("~1", ""):
        raise ValueError("in a JSON pointer (RFC 6901) write ~ as ~0, and / inside a name as ~1")
    return step.replace("~1", "/").replace("~0", "~")


def pruned(value: Any, *, depth: int = 0) -> Any:
    """A copy without the members that are not there, so that an expression cannot take null or "" for a value.

    Raises ValueError beyond DEEPEST: the expression engine recurses in native code, where too deep is a crash.
    """
    if depth > DEEPEST:
        raise ValueError("nested too deeply")
    if isinstance(value, Mapping):
        return {key: kept for key, item in value.items() if not absent(kept := pruned(item, depth=depth + 1))}
    if isinstance(value, list):
        return [pruned(item, depth=depth + 1) for item in value]
    return value
