"""An example written into a policy's own text: every other byte stays as its author left it, comments and all.

Text goes in where the list of examples ends; the result is parsed again and has to say what the file said before, with
the new example last. Where no way of writing does that, nothing is written.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from broker.authoring.write.yamltext import example_lines
from broker.documents import Document, parse
from broker.errors import ConfigError


def with_examples(data: bytes, name: str, examples: list[Mapping[str, Any]]) -> bytes:
    """The file's bytes with these at the end of its `examples:`. Raises ConfigError where that cannot be done in place."""
    for example in examples:
        data = _with_example(data, name, example)
    return data


def _with_example(data: bytes, name: str, example: Mapping[str, Any]) -> bytes:
    document = parse(data, name)
    before = document.value
    if not isinstance(before, dict) or not isinstance(before.get("examples"), list) or not before["examples"]:
        raise ConfigError(document.problem(("examples",), "a list of examples is expected here, with one in it"))
    wanted = {**before, "examples": [*before["examples"], dict(example)]}
    for lines in _candidates(document, data.decode().split("\n"), example):
        candidate = "\n".join(lines).encode()
        try:
            found = parse(candidate, name)
        except ConfigError:
            continue
        if found.value == wanted and list(found.value) == list(before):
            return candidate
    raise ConfigError(
        document.problem(
            ("examples",), "no example can be added to this layout; write the list with one `- name:` below another"
        )
    )


def _candidates(document: Document, lines: list[str], example: Mapping[str, Any]) -> Iterator[list[str]]:
    last = len(document.value["examples"]) - 1
    start, column = document.marks["examples", last]
    dash = lines[start - 1].rfind("-", 0, column - 1)  # the mapping's first key stands behind it
    if dash < 0 or lines[start - 1][:dash].strip():
        return
    following = [
        line for path, (line, _) in document.marks.items() if len(path) == 1 and line > document.marks["examples",][0]
    ]
    stop = min(following) - 1 if following else len(lines)
    if not following and not lines[-1]:
        stop -= 1  # the file ends with a line end
    returns = "\r" if lines[0].endswith("\r") else ""
    written = [line + returns for line in example_lines(example, dash)]
    if (
        last and not lines[document.marks["examples", last][0] - 2].strip()
    ):  # its neighbours are set apart by a blank line
        written.insert(0, returns)
    # The end of the last example is before what is blank or a comment, unless that is part of a text block.
    short = stop
    while short > start and (not lines[short - 1].strip() or lines[short - 1].lstrip().startswith("#")):
        short -= 1
    for place in dict.fromkeys((short, stop)):
        rest = lines[place:] or [""]  # a last line without its end gets one
        yield [*lines[:place], *written, *rest]
