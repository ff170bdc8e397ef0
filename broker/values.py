"""`value`: a dataclass that is frozen for the type checker, and plain at run time.

An issuance makes some twenty small values with some hundred and thirty fields. A frozen dataclass sets each field through
`object.__setattr__`, which costs four times a plain assignment: 40 µs an issuance. So the classes of the hot path are
declared `@value(frozen=True, ...)`: mypy, which every check runs, refuses to assign to them as it does for any frozen
dataclass; hashing and comparing work as for one; only the interpreter is not asked a second time.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

__all__ = ["value"]

if TYPE_CHECKING:
    from dataclasses import dataclass as value
else:

    def value(*, frozen: bool, **rest: Any) -> Any:
        """`dataclass(frozen=True, ...)` without the guard at run time."""
        assert frozen
        return dataclass(unsafe_hash=True, **rest)
