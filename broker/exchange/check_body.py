"""The body of `POST /v1/policies/check`: `{"files": [{"file": "team/a.yaml", "text": "..."}, ...]}`, of hostile origin.

* Read piece by piece, and given up at the first piece that is not of this shape. A JSON library makes all of 32 MiB before it
  can be asked what it is: some million empty objects are gigabytes, and seconds in which no other thread gets the interpreter.
* What a string is, is left to the library; it is shown one string at a time.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Final, NoReturn

import orjson
from pydantic import BaseModel, ConfigDict, Field

from broker.documents import LARGEST
from broker.errors import MalformedRequest
from broker.policy.load import MOST_FILES, SUFFIX, PolicyText

LONGEST_NAME: Final = 1024
_NAME: Final = r"^[^/\x00-\x1f\x7f]+(/[^/\x00-\x1f\x7f]+)*$"
# RFC 8259 section 2. Possessive, so that no text makes them try twice.
_PUNCTUATION: Final = re.compile(rb"[ \t\n\r]*+(.?)", re.DOTALL)
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_MEMBERS: Final = ("file", "text")


class CheckedFile(BaseModel):
    """One policy: its path below the folder of policies, and its text."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    file: str = Field(
        min_length=1,
        max_length=LONGEST_NAME,
        pattern=_NAME,
        description="relative to the folder of policies",
        examples=["team-a/payments.yaml"],
    )
    text: str = Field(max_length=LARGEST)


class CheckBody(BaseModel):
    """The whole set, as it would be. For the API's description: `texts` reads it."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    files: list[CheckedFile] = Field(max_length=MOST_FILES)


def texts(data: bytes) -> list[PolicyText]:
    """The files. Blocks, in steps of one string. Raises MalformedRequest, which repeats nothing of them."""
    names: set[str] = set()
    found: list[PolicyText] = []
    for name, text in _Scanner(data).files():
        at = f"files.{len(found)}"
        if len(found) >= MOST_FILES:
            raise MalformedRequest(f"files: more than {MOST_FILES}")
        if not 0 < len(name) <= LONGEST_NAME or re.fullmatch(_NAME, name) is None:
            raise MalformedRequest(
                f"{at}.file: a path below the folder of policies is expected, such as team-a/x{SUFFIX}"
            )
        if not name.endswith(SUFFIX) or any(part.startswith(".") for part in name.split("/")):
            raise MalformedRequest(f"files: only *{SUFFIX} files with names that do not begin with a dot are policies")
        if name in names:
            raise MalformedRequest("files: a path stands there twice")
        names.add(name)
        content = text.encode()
        if len(content) > LARGEST:
            raise MalformedRequest(f"{at}.text: larger than {LARGEST >> 20} MiB; split it")
        found.append(PolicyText(name, name, content))
    return found


def encoded(files: Sequence[PolicyText]) -> bytes:
    """The body that asks for a check. Raises UnicodeDecodeError."""
    told = [{"file": text.file, "text": text.data.decode()} for text in files]
    return json.dumps({"files": told}, ensure_ascii=False).encode()


class _Scanner:
    """Goes over the bytes once."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def files(self) -> Iterator[tuple[str, str]]:
        """(file, text) of each, in order; the end of the bytes is where it has to be."""
        self._take(b"{")
        if self._string() != "files":
            self._wrong()
        self._take(b":", b"[")
        if self._next() == b"]":
            self._take(b"]")
        else:
            yield self._file()
            while self._one_of(b",]") == b",":
                yield self._file()
        self._take(b"}")
        if self._next():
            self._wrong()

    def _file(self) -> tuple[str, str]:
        members: dict[str, str] = {}
        self._take(b"{")
        for end in b",", b"}":
            name = self._string()
            if name not in _MEMBERS or name in members:
                self._wrong()
            self._take(b":")
            members[name] = self._string()
            self._take(end)
        return members["file"], members["text"]

    def _next(self) -> bytes:
        """The next byte that is no space, not taken; empty at the end."""
        found = _PUNCTUATION.match(self._data, self._at)
        assert found is not None  # it matches everywhere
        self._at = found.start(1)
        return found[1]

    def _one_of(self, expected: bytes) -> bytes:
        byte = self._next()
        if not byte or byte not in expected:
            self._wrong()
        self._at += 1
        return byte

    def _take(self, *expected: bytes) -> None:
        for byte in expected:
            self._one_of(byte)

    def _string(self) -> str:
        self._next()
        found = _STRING.match(self._data, self._at)
        if found is None:
            self._wrong()
        self._at = found.end()
        try:
            text: str = orjson.loads(found[0])
        except orjson.JSONDecodeError:  # not UTF-8, half a surrogate pair, a bare control character
            self._wrong()
        return text

    def _wrong(self) -> NoReturn:
        raise MalformedRequest(
            f'the body, at byte {self._at}: {{"files": [{{"file": PATH, "text": TEXT}}, ...]}} in UTF-8 is expected, nothing else'
        )
