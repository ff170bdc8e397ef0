"""Where a secret is, instead of the secret: `env:NAME` or `file:PATH` in the operator's files.

* A literal secret is refused by shape, and no error or repr repeats what was written: it may be the secret itself.
* Resolved at use, so that a rotated file is noticed without a restart. Nothing here remembers a value.
"""

import os
import re
from pathlib import Path
from typing import Any, Final

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from broker.model import Secret

PATTERN: Final = r"^(env:[A-Za-z_][A-Za-z0-9_]{0,127}|file:[^\x00-\x1f\x7f]{1,1024})$"
LARGEST: Final = 64 * 1024  # bytes of a secret's file
_SHAPE: Final = re.compile(PATTERN[1:-1])


class BrokenReference(Exception):
    """A reference that leads nowhere now. The text names the reference, which is no secret, and what to do."""


class SecretReference:
    """A pydantic type: validates from `env:NAME` or `file:PATH`.

    A relative PATH is taken from the validation context's `folder` (the folder of the file being read), or from the
    working directory where there is none.
    """

    __slots__ = ("_scheme", "_target")

    def __init__(self, text: object, *, folder: Path | None = None) -> None:
        """Raises ValueError, which does not repeat `text`."""
        if not isinstance(text, str) or not _SHAPE.fullmatch(text):
            raise ValueError("a reference is expected here, env:NAME or file:PATH, never the secret itself")
        self._scheme, _, target = text.partition(":")
        self._target = str(folder / target) if self._scheme == "file" and folder is not None else target

    def __repr__(self) -> str:
        return f"SecretReference({self._scheme}:hidden)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretReference) and (self._scheme, self._target) == (other._scheme, other._target)

    def __hash__(self) -> int:
        return hash((self._scheme, self._target))

    def resolve(self) -> Secret:
        """The secret, without the newline that editors put at a file's end. Raises BrokenReference."""
        value = self._from_env() if self._scheme == "env" else self._from_file()
        value = value.removesuffix("\n").removesuffix("\r")
        if not value or not value.isprintable():
            raise BrokenReference(f"{self._scheme}:{self._target} is empty or holds more than one line of text")
        return Secret(value)

    def _from_env(self) -> str:
        value = os.environ.get(self._target)
        if value is None:
            raise BrokenReference(f"env:{self._target} is not set in the broker's environment")
        return value

    def _from_file(self) -> str:
        try:
            with Path(self._target).open("rb") as file:
                data = file.read(LARGEST + 1)
            if len(data) > LARGEST:
                raise BrokenReference(f"file:{self._target} is larger than {LARGEST} bytes")
            return data.decode()
        except OSError as error:
            raise BrokenReference(f"file:{self._target} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise BrokenReference(f"file:{self._target} is not UTF-8 text") from None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def build(value: Any, info: ValidationInfo) -> "SecretReference":
            if isinstance(value, cls):
                return value
            folder = info.context.get("folder") if isinstance(info.context, dict) else None
            return cls(value, folder=folder)

        return core_schema.with_info_plain_validator_function(build)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "pattern": PATTERN, "description": "env:NAME or file:PATH, never the secret itself"}
