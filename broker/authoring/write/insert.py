"""An example written into a policy's own text: every other byte stays as its author left it, comments and all.

Text goes in where the list of examples ends; the result is parsed again and has to say what the file said before, with
the new example last. Where no way of writing does that, nothing is written.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from broker.authoring.write.yamltext import example_lines
from broker.documents import Document, Path, parse
from broker.errors import ConfigError


def with_examples(data: bytes, name: str, examples: list[Mapping[str, Any]], *, under: Path = ()) -> bytes:
    """The file's bytes with these at the end of its `examples:`, or of those of its `next:` where `under` is `("next",)`.

    Raises ConfigError where that cannot be done in place.
    """
    for example in examples:
        data = _with_example(data, name, example, under)
    return data


def _with_example(data: bytes, name: str, example: Mapping[str, Any], under: Path) -> bytes:
    document = parse(data, name)
    wanted = _added(document.value, example, under)
    if wanted is None:
        raise ConfigError(document.problem((*under, "examples"), "a list of examples is expected here, with one in it"))
    for lines in _candidates(document, data.decode().split("\n"), example, (*under, "examples")):
        candidate = "\n".join(lines).encode()
        try:
            found = parse(candidate, name)
        except ConfigError:
            continue
        if found.value == wanted and list(found.value) == list(document.value):
            return candidate
    raise ConfigError(
        document.problem(
            (*under, "examples"),
            "no example can be added to this layout; write the list with one `- name:` below another",
        )
    )


def _added(value: Any, example: Mapping[str, Any], under: Path) -> dict[str, Any] | None:
    """What the file has to say then; None where it has no such list."""
    if not isinstance(value, dict):
        return None
    if under:
        inner = _added(value.get(str(under[0])), example, under[1:])
        return None if inner is None else {**value, str(under[0]): inner}
    before = value.get("examples")
    return {**value, "examples": [*before, dict(example)]} if isinstance(before, list) and before else None


def _candidates(document: Document, lines: list[str], example: Mapping[str, Any], list_: Path) -> Iterator[list[str]]:
    last = max(path[-1] for path in document.marks if path[:-1] == list_ and isinstance(path[-1], int))
    start, column = document.marks[*list_, last]
    dash = lines[start - 1].rfind("-", 0, column - 1)  # the mapping's first key stands behind it
    if dash < 0 or lines[start - 1][:dash].strip():
        return
    following = [
        line
        for path, (line, _) in document.marks.items()
        if len(path) <= len(list_) and line > document.marks[list_][0]
    ]
    stop = min(following) - 1 if following else len(lines)
    if not following and not lines[-1]:
        stop -= 1  # the file ends with a line end
    returns = "\r" if lines[0].endswith("\r") else ""
    written = [line + returns for line in example_lines(example, dash)]
    if last and not lines[start - 2].strip():  # its neighbours are set apart by a blank line
        written.insert(0, returns)
    # The end of the last example is before what is blank or a comment, unless that is part of a text block.
    short = stop
    while short > start and (not lines[short - 1].strip() or lines[short - 1].lstrip().startswith("#")):
        short -= 1
    for place in dict.fromkeys((short, stop)):
        rest = lines[place:] or [""]  # a last line without its end gets one
        yield [*lines[:place], *written, *rest]
