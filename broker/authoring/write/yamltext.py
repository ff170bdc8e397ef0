"""Values as YAML text that reads the same to every YAML reader, ours (1.2 core schema, broker.documents) and older ones.

* What is written plainly is a word that no version of YAML takes for anything else; everything else stands in double quotes.
* Whatever text comes from a token: no control, format or separator character is ever written, only its escape.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

WIDEST: Final = 120  # characters of a line before a mapping is written out, one key a line
_PLAIN: Final = re.compile(r"[A-Za-z_$/][A-Za-z0-9_./@+=$-]*( [A-Za-z0-9_./@+=(-][A-Za-z0-9_./@+=()-]*)*")
_WORDS: Final = frozenset(
    {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
)  # YAML 1.1 reads these its own way
_ESCAPED: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def scalar(value: str | float | bool | None) -> str:
    """One value on one line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return repr(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return '"' + "".join(_character(character) for character in value) + '"'


def _character(character: str) -> str:
    if character in _ESCAPED:
        return _ESCAPED[character]
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"  # noqa: PLR2004  the three widths of YAML's escapes


def flow(value: Any) -> str:
    """Any JSON-like value on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(str(key))}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    return scalar(value)


def member(key: str, value: Any, indent: int) -> Iterator[str]:
    """`key: value` at this indent: on one line where it fits, else a mapping's keys below one another."""
    line = " " * indent + f"{scalar(key)}: {flow(value)}"
    if len(line) <= WIDEST or not isinstance(value, Mapping) or not value:
        yield line
        return
    yield " " * indent + f"{scalar(key)}:"
    for name, item in value.items():
        yield from member(str(name), item, indent + 2)


def example_lines(example: Mapping[str, Any], indent: int) -> Iterator[str]:
    """An entry of `examples:` as the list item that it is, its dash at this indent."""
    for number, (key, value) in enumerate(example.items()):
        lines = list(member(key, value, indent + 2))
        if not number:
            lines[0] = " " * indent + "- " + lines[0].lstrip(" ")
        yield from lines
