"""YAML files with line numbers: what is wrong is reported as file:line:column and key, all problems at once.

* YAML 1.2 core schema scalars: `no`, `on` and `0777` are what they look like, not booleans and octal numbers.
* A key twice in one mapping, a tag, an anchor or alias, a second document, or a file over 1 MiB is an error: each has
  hidden a policy before.
* Models are strict and forbid unknown keys; the nearest known key is suggested.
"""

import difflib
import json
import math
import os
import pathlib
import re
import stat
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

import yaml
from pydantic import BaseModel, ValidationError

from broker.errors import ConfigError

Path = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)

LARGEST: Final = 1 << 20
DEEPEST: Final = 64
DIGITS: Final = 19  # an id of more digits than an int64 has stays text
MOST_LISTED: Final = 24
MOST_PROBLEMS: Final = 100  # of one file; who has more starts over
LONGEST_KEY: Final = 80  # characters of it that a message repeats
LONGEST_MESSAGE: Final = 1_000
_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's own parser where it was built
_INT: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_NUMERIC: Final = frozenset("+-.0123456789")  # how a number begins
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Final = {"": None, "~": None, "null": None, "Null": None, "NULL": None,
                 "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file: `value` is plain JSON-like data, `marks` says where each key and item stands (1-based)."""

    name: str
    value: Any
    marks: dict[Path, tuple[int, int]] = field(repr=False)
    under: Path = ()  # where in the file it stands, when it is a part of one

    def where(self, path: Path) -> str:
        """`file:line:column` of a path, or of its nearest ancestor that stands in the file."""
        while path and path not in self.marks:
            path = path[:-1]
        line, column = self.marks.get(path, (1, 1))
        return f"{self.name}:{line}:{column}"

    def problem(self, path: Path, message: str) -> str:
        """One line of a ConfigError."""
        key = dotted((*self.under, *path))
        return f"{self.where(path)}: {short(f'{key}: {message}' if key else message, LONGEST_MESSAGE)}"


def short(text: str, longest: int) -> str:
    """The text, or its beginning where it is longer: what a file repeats without end is still one line of a message."""
    return text if len(text) <= longest else f"{text[:longest]}..."


def read_file(path: pathlib.Path) -> bytes:
    """What a person's own file holds, at most one byte more than `parse` takes. Raises ConfigError.

    Only a regular file is read: a FIFO would keep the reader waiting for ever, a device would never end.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise ConfigError(f"{path}:1:1: cannot be read: not a regular file")
            return file.read(LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        said = getattr(error, "strerror", None) or "not a file's name"
        raise ConfigError(f"{path}:1:1: cannot be read: {said}") from None


def dotted(path: Path) -> str:
    """`trust[0].job.ref`, as people write a path."""
    shown = [
        f"[{part}]" if isinstance(part, int) else f".{part if part.isprintable() else ascii(part)}"
        for part in (short(part, LONGEST_KEY) if isinstance(part, str) else part for part in path)
    ]
    return "".join(shown).removeprefix(".")


def parse(text: str | bytes, name: str) -> Document:
    """Parse one YAML document. Raises ConfigError with file, line and column, every problem that parsing can go past."""
    if len(text) > LARGEST:
        raise ConfigError(f"{name}:1:1: the file is larger than {LARGEST >> 20} MiB; split it")
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        else:
            text.encode()  # a lone surrogate is no text, and no pattern or digest could take it
    except UnicodeError as error:
        start = error.start if isinstance(error, UnicodeDecodeError | UnicodeEncodeError) else 0
        raise ConfigError(f"{name}:1:1: not UTF-8 (byte {start}); save the file as UTF-8") from None
    builder = _Builder(name)
    loader = _Loader(text)
    try:
        while not builder.add(loader.get_event()):
            pass
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        builder.problems.append(f"{name}:{line}:{column}: not valid YAML: {error.problem or error.context}")
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        builder.problems.append(f"{name}:{line}:{column}: not valid YAML: a control character; remove it")
    finally:
        loader.dispose()
    if builder.problems:
        raise ConfigError(*builder.problems)
    return Document(name, builder.value, builder.marks)


class _Builder:
    """Turns the parser's events into data. It keeps its own stack, so depth costs no recursion.

    Events, not nodes: only they still tell a tag that was written from one that was inferred, and an alias from a value.
    """

    def __init__(self, name: str) -> None:
        self.value: Any = None
        self.marks: dict[Path, tuple[int, int]] = {}
        self.problems: list[str] = []
        self._name = name
        self._open: list[dict[str, Any] | list[Any]] = []
        self._path: list[str | int | None] = []  # where the next value goes; None while a mapping waits for a key
        self._above: list[Path] = []  # of each open collection, where it stands itself
        self._documents = 0
        self._ignored = 0  # depth inside something that is already reported

    def add(self, event: Any) -> bool:
        """Take one event; True after the last."""
        if type(event) is yaml.ScalarEvent:  # two of three
            if not self._ignored:
                self._leaf(event)
            return False
        match event:
            case yaml.StreamEndEvent():
                return True
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    self._problem(event, "a second document begins here; one file holds one")
                    return True
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                if self._ignored:
                    self._ignored -= 1
                else:
                    self._open.pop()
                    self._path.pop()
                    self._above.pop()
                    self._next()
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                return not self._collection(event)
            case yaml.AliasEvent() if not self._ignored:
                self._leaf(event)
        return False

    def _collection(self, event: Any) -> bool:
        """False where reading on is no use."""
        if self._ignored:
            self._ignored += 1
            return self._ignored < DEEPEST
        if self._path and self._path[-1] is None:
            self._problem(event, "a key has to be a plain word")
            self._ignored, self._path[-1] = 1, ""  # its value is read and dropped
        elif len(self._open) >= DEEPEST:
            # Reading on is no use: libyaml takes time with the square of the depth, a minute for 100 kB of brackets.
            self._problem(event, f"nested deeper than {DEEPEST}")
            return False
        else:
            self._strictly_plain(event)
            made: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
            self._put(made, event)
            self._above.append(self._where())
            self._open.append(made)
            self._path.append(None if isinstance(made, dict) else 0)
        return True

    def _leaf(self, event: Any) -> None:
        alias = type(event) is yaml.AliasEvent
        if alias:
            self._problem(event, "aliases (*name) are not read here; write the value out")
        elif event.tag is not None or event.anchor is not None:
            self._strictly_plain(event)
        text = "" if alias else event.value
        if self._path and self._path[-1] is None:
            self._key(event, text)
        else:
            self._put(text if not alias and event.style else _scalar(text), event)
            self._next()

    def _key(self, event: Any, key: str) -> None:
        mapping = self._open[-1]
        self._path[-1] = key
        if key == "<<" and not getattr(event, "style", None):
            self._problem(event, "merge keys (<<) are not read here; write the keys out")
        elif key in mapping:
            self._problem(event, f"{dotted(self._where())}: the key stands twice in this mapping; keep one")
        else:
            self._mark(event)

    def _put(self, value: Any, event: Any) -> None:
        if not self._open:
            self.value = value
            self._mark(event)
        elif isinstance(parent := self._open[-1], list):
            parent.append(value)
            self._mark(event)
        else:
            parent[cast("str", self._path[-1])] = value

    def _mark(self, event: Any) -> None:
        mark = event.start_mark
        self.marks[self._where()] = mark.line + 1, mark.column + 1

    def _next(self) -> None:
        if self._path:
            last = self._path[-1]
            self._path[-1] = last + 1 if isinstance(last, int) else None

    def _where(self) -> Path:
        if not self._path:
            return ()
        last = self._path[-1]
        return self._above[-1] if last is None else (*self._above[-1], last)

    def _strictly_plain(self, event: Any) -> None:
        if event.tag is not None:
            self._problem(event, "tags (!name) are not read here; remove it")
        if event.anchor is not None:
            self._problem(event, "anchors (&name) are not read here; remove it")

    def _problem(self, event: Any, message: str) -> None:
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(f"{self._name}:{event.start_mark.line + 1}:{event.start_mark.column + 1}: {message}")


def _scalar(text: str) -> Any:
    """What a plain scalar says; a quoted one, or a block, is text."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMERIC:
        return text
    if _INT.fullmatch(text):
        return int(text) if len(text.lstrip("+-")) <= DIGITS else text
    if _FLOAT.fullmatch(text):
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
        # Strict as JSON is strict: a list fills a tuple, text fills an enum, but "1" is never 1.
        return model.model_validate_json(json.dumps(value), context=context)
    except ValidationError as error:
        raise ConfigError(*problems_of(error, model, document, at=at)) from None


def problems_of(
    error: ValidationError, model: type[BaseModel], document: Document, *, at: Path = (), but: Container[Path] = ()
) -> Iterator[str]:
    """A validation's errors as lines of a ConfigError. Those about a value that stands at a path of `but` are left out."""
    seen: set[str] = set()
    for item in error.errors(include_url=False, include_context=True, include_input=False):
        if len(seen) == MOST_PROBLEMS:
            return
        path = _in_document(document, at, item["loc"])
        message = item["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
        if item["type"] == "extra_forbidden":
            message = "unknown key" + suggestion(str(item["loc"][-1]), _siblings(model, item["loc"]))
        elif item["type"] == "missing":
            message = f"the key {item['loc'][-1]!r} is required"
        elif path in but:
            continue
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
    current = model
    for part in loc[:-1]:
        info = current.model_fields.get(str(part))
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


def suggestion(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, or all of them where they are few."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known here: {', '.join(known)}" if 0 < len(known) <= MOST_LISTED else ""
