"""Small edits of a policy file that keep the rest of it as its author wrote it: comments, order, quotes.

The text has been parsed by broker.documents before, so it holds no alias, tag or anchor. What an edit comes to is always
parsed again and compared by who asked for it: this module promises places, not meaning.
"""

import difflib
from collections.abc import Sequence
from typing import Any, Final

import yaml

from broker.authoring.write import yamltext
from broker.documents import Path, parse
from broker.errors import ConfigError

_CONTEXT: Final = 3  # unchanged lines around a change, as diff -u shows


class NotEditable(Exception):
    """The place is written in a way that no small edit fits."""


def replaced(text: str, path: Path, value: Any) -> str:
    """The file with another value at `path`. Raises NotEditable, KeyError where nothing stands there."""
    node = _at(_root(text), path)
    start, end = node.start_mark.index, _end(node)
    block = isinstance(node, yaml.CollectionNode) and not node.flow_style
    fresh = (None if block else _kept(text[start:end], value)) or flow(value)
    if block:
        if isinstance(node, yaml.SequenceNode) and isinstance(value, list) and len(value) == len(node.value) + 1:
            return _appended(text, node, flow(value[-1]))
        line = text.rfind("\n", 0, start) + 1
        if text[line:start].strip() and "\n" in text[start:end].strip():
            raise NotEditable("a block that begins in the middle of a line")
    return text[:start] + fresh + text[end:]


def added(text: str, path: Path, key: str, value: Any) -> str:
    """The file with one more key in the mapping at `path`. Raises NotEditable."""
    node = _at(_root(text), path)
    if not isinstance(node, yaml.MappingNode) or not node.value:
        raise NotEditable("no mapping to add a key to")
    entry = f"{key}: {flow(value)}"
    end = _end(node)
    if node.flow_style:
        close = end - 1
        before = text[:close].rstrip()
        comma = "" if before.endswith(",") else ","
        return f"{before}{comma} {entry}{text[close:]}"
    return _below(text, end, " " * node.value[0][0].start_mark.column + entry)


def flow(value: Any) -> str:
    """A value on one line, as an author would write it. Raises NotEditable for what no author could read."""
    if not _readable(value):
        raise NotEditable("a value with invisible characters")
    return yamltext.flow(value)


def _readable(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_readable(part) for pair in value.items() for part in pair)
    return all(map(_readable, value)) if isinstance(value, list) else not isinstance(value, str) or value.isprintable()


def unified(before: str, after: str, file: str) -> tuple[str, ...]:
    """`diff -u` of the two texts, as lines without their ends; none where they are equal."""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"a/{file}", f"b/{file}", lineterm="", n=_CONTEXT
    )
    return tuple(lines)


def first_line(diff: Sequence[str]) -> int:
    """The first changed line of a unified diff, in the old file, from 1."""
    number = 1
    for line in diff:
        if line.startswith("@@"):
            number = int(line.split()[1].lstrip("-").partition(",")[0])
        elif line.startswith(("-", "+")) and not line.startswith(("---", "+++")):
            return number
        elif line.startswith(" "):
            number += 1
    return number


def _kept(written: str, value: Any) -> str | None:
    """The list that is what stands there and one item more, in the author's own spelling; None where it is not that."""
    if not isinstance(value, list) or "\n" in written or "#" in written:
        return None
    last = flow(value[-1])
    for fresh in (f"[{written}, {last}]", f"{written.removesuffix(']').rstrip()}, {last}]"):
        try:
            if parse(f"x: {fresh}", "").value == {"x": value}:
                return fresh
        except ConfigError:
            continue
    return None


def _root(text: str) -> yaml.Node:
    node = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    if node is None:
        raise NotEditable("an empty file")
    return node


def _at(node: Any, path: Path) -> Any:
    for part in path:
        if isinstance(part, int) and isinstance(node, yaml.SequenceNode):
            node = node.value[part]
        elif isinstance(node, yaml.MappingNode):
            node = next((value for key, value in node.value if key.value == part), None)
        if node is None:
            raise KeyError(path)
    return node


def _end(node: Any) -> int:
    """Where the text of a node really ends: a block's own mark lies at the next thing after it."""
    while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    return int(node.end_mark.index)


def _appended(text: str, node: Any, item: str) -> str:
    column = node.start_mark.column
    return _below(text, _end(node), " " * column + "- " + item)


def _below(text: str, end: int, line: str) -> str:
    """With one more line after the one in which `end` lies, comment and all."""
    if end and text[end - 1] == "\n":  # a block scalar's end is already the next line's start
        return f"{text[:end]}{line}\n{text[end:]}"
    stop = text.find("\n", end)
    return f"{text}\n{line}\n" if stop < 0 else f"{text[: stop + 1]}{line}\n{text[stop + 1 :]}"
