"""YAML files with line numbers: what is wrong is reported as file:line:column and key, all problems at once.

* YAML 1.2 core schema scalars: `no`, `on` and `0777` are what they look like, not booleans and octal numbers.
* A key twice in one mapping, a tag, an anchor's alias, or a file over 1 MiB is an error: each has hidden a policy before.
* Models are strict and forbid unknown keys; the nearest known key is suggested.
"""

import difflib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from broker.errors import ConfigError

Path = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)

LARGEST: Final = 1 << 20
DEEPEST: Final = 64
_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's own parser where it was built
_INT: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Final = {"": None, "~": None, "null": None, "Null": None, "NULL": None,
                 "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file: `value` is plain JSON-like data, `marks` says where each key and item stands (1-based)."""

    name: str
    value: Any
    marks: dict[Path, tuple[int, int]] = field(repr=False)

    def where(self, path: Path) -> str:
        """`file:line:column` of a path, or of its nearest ancestor that stands in the file."""
        while path and path not in self.marks:
            path = path[:-1]
        line, column = self.marks.get(path, (1, 1))
        return f"{self.name}:{line}:{column}"

    def problem(self, path: Path, message: str) -> str:
        """One line of a ConfigError."""
        key = dotted(path)
        return f"{self.where(path)}: {key + ': ' if key else ''}{message}"


def dotted(path: Path) -> str:
    """`trust[0].job.ref`, as people write a path."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def parse(text: str | bytes, name: str) -> Document:
    """Parse one YAML document. Raises ConfigError with file, line and column."""
    if len(text) > LARGEST:
        raise ConfigError(f"{name}:1:1: the file is larger than {LARGEST >> 20} MiB; split it")
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}:1:1: not UTF-8 (byte {error.start}); save the file as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise ConfigError(f"{name}:{line}:{column}: not valid YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{name}:1:1: not valid YAML: {type(error).__name__}") from None
    marks: dict[Path, tuple[int, int]] = {}
    problems: list[str] = []
    value = None if node is None else _build(node, (), marks, problems, name, set())
    if problems:
        raise ConfigError(*problems)
    return Document(name, value, marks)


def _build(  # one place that turns nodes into data
    node: Any, path: Path, marks: dict[Path, tuple[int, int]], problems: list[str], name: str, seen: set[int]
) -> Any:
    line, column = node.start_mark.line + 1, node.start_mark.column + 1
    marks.setdefault(path, (line, column))
    here = f"{name}:{line}:{column}"
    if id(node) in seen and not isinstance(node, yaml.ScalarNode):
        problems.append(f"{here}: aliases (*name) are not read here; write the value out")
        return None
    seen.add(id(node))
    if len(path) > DEEPEST:
        problems.append(f"{here}: nested deeper than {DEEPEST}")
        return None
    if isinstance(node, yaml.MappingNode):
        if node.tag != "tag:yaml.org,2002:map":
            problems.append(f"{here}: tags such as {node.tag} are not read here")
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            at = f"{name}:{key_node.start_mark.line + 1}:{key_node.start_mark.column + 1}"
            if not isinstance(key_node, yaml.ScalarNode):
                problems.append(f"{at}: a key has to be a plain word")
                continue
            key = key_node.value
            if key == "<<" and key_node.style is None:
                problems.append(f"{at}: merge keys (<<) are not read here; write the keys out")
                continue
            if key in mapping:
                problems.append(f"{at}: {dotted((*path, key))}: the key stands twice in this mapping; keep one")
                continue
            marks[(*path, key)] = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            mapping[key] = _build(value_node, (*path, key), marks, problems, name, seen)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, (*path, i), marks, problems, name, seen) for i, item in enumerate(node.value)]
    return _scalar(node, here, problems)


def _scalar(node: Any, here: str, problems: list[str]) -> Any:
    text: str = node.value
    if node.tag.startswith("!") or node.tag == "tag:yaml.org,2002:binary":
        problems.append(f"{here}: tags such as {node.tag} are not read here")
        return text
    if node.style is not None:  # quoted, or a block
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text) and len(text) < 20:  # noqa: PLR2004  an id of more digits than an int64 stays text
        return int(text)
    if _FLOAT.fullmatch(text) and not _INT.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else text
    return text


def validated(model: type[Model], document: Document, *, at: Path = (), context: Any = None) -> Model:
    """Build a strict model from a document, or from the part of it at `at`. Raises ConfigError, all problems at once."""
    value = document.value
    for part in at:
        value = value[part]
    if not isinstance(value, dict):
        raise ConfigError(document.problem(at, f"a mapping with the keys of {model.__name__} is expected here"))
    try:
        return model.model_validate(value, context=context)
    except ValidationError as error:
        raise ConfigError(*_lines(error, model, document, at)) from None


def _lines(error: ValidationError, model: type[BaseModel], document: Document, at: Path) -> Iterator[str]:
    seen: set[str] = set()
    for item in error.errors(include_url=False, include_context=True, include_input=False):
        path = _in_document(document, at, item["loc"])
        message = item["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
        if item["type"] == "extra_forbidden":
            message = "unknown key" + _suggestion(str(item["loc"][-1]), _siblings(model, item["loc"]))
        elif item["type"] == "missing":
            message = f"the key {item['loc'][-1]!r} is required"
        line = document.problem(path, message)
        if line not in seen:
            seen.add(line)
            yield line


def _in_document(document: Document, at: Path, loc: Sequence[str | int]) -> Path:
    """Pydantic's loc names union members too; only parts that stand in the document are a path."""
    path = at
    for part in loc:
        if (*path, part) in document.marks:
            path = (*path, part)
    return path


def _siblings(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    current: Any = model
    for part in loc[:-1]:
        info = current.model_fields.get(part) if isinstance(current, type) and issubclass(current, BaseModel) else None
        annotation = info.annotation if info else None
        inner = next(
            (
                arg
                for arg in getattr(annotation, "__args__", (annotation,))
                if isinstance(arg, type) and issubclass(arg, BaseModel)
            ),
            None,
        )
        if inner is not None:
            current = inner
    return [info.alias or name for name, info in current.model_fields.items()]


def _suggestion(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known here: {', '.join(sorted(known))}" if known else ""
