"""Whose jobs a set of policies speaks of: what tells a near miss from a stranger.

The time it takes does not grow with the number of policies:

* Values that are written out are looked up.
* A pattern is looked up by the text before its first wildcard. Of the patterns that share one, so many are tried; where there
  are more, beginning alike is being named. A stranger may so be taken for a near miss, a near miss never for a stranger.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from broker.model import VerifiedToken
from broker.policy.conditions import Condition

MOST_TRIED: Final = 16  # patterns that share a beginning
MOST_ANYWHERE: Final = 64  # patterns that begin with anything
_WILD: Final = frozenset("*?")
_SPECIAL: Final = frozenset(r"\.[](){}?*+|^$")

Read = Callable[[VerifiedToken], Any]
Holds = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class _Names:
    """What the policies say of one claim of one issuer."""

    read: Read
    exact: frozenset[str]
    patterns: Mapping[str, tuple[Holds, ...] | None]  # by beginning; None where there are too many to try
    lengths: tuple[int, ...]  # of the beginnings

    def holds(self, token: VerifiedToken) -> bool:
        value = self.read(token)
        if value is not None and str(value) in self.exact:
            return True
        if not isinstance(value, str):
            return self._tried("", value)
        return any(self._tried(value[:length], value) for length in self.lengths if length <= len(value))

    def _tried(self, beginning: str, value: Any) -> bool:
        if beginning not in self.patterns:
            return False
        tests = self.patterns[beginning]
        return tests is None or any(holds(value) for holds in tests)


@dataclass(frozen=True, slots=True)
class Naming:
    """Built with a set of policies, and as frozen."""

    _named: Mapping[str, tuple[_Names, ...]] = field(repr=False)  # by issuer
    _open: frozenset[str] = field(repr=False)  # issuers of which some statement names nobody in particular

    @classmethod
    def of(cls, anchors: Iterable[tuple[str, list[tuple[str, Read, Condition]]]]) -> "Naming":
        """From each statement: its issuer, and the key, reader and condition of what says whose job it is."""
        opened: set[str] = set()
        reads: dict[tuple[str, str], Read] = {}
        exact: dict[tuple[str, str], set[str]] = {}
        patterns: dict[tuple[str, str], dict[str, dict[str, Holds]]] = {}
        for issuer, conditions in anchors:
            if not conditions:
                opened.add(issuer)
            for key, read, condition in conditions:
                place = issuer, key
                reads[place] = read
                if condition.exact is not None:
                    exact.setdefault(place, set()).update(map(str, condition.exact))
                    continue
                by_beginning = patterns.setdefault(place, {})
                for beginning in _beginnings(condition.spec):
                    by_beginning.setdefault(beginning, {})[condition.shown] = condition.holds
        named: dict[str, list[_Names]] = {}
        for (issuer, key), read in reads.items():
            found = {start: _few(start, tests) for start, tests in patterns.get((issuer, key), {}).items()}
            lengths = tuple(sorted({len(start) for start in found}))
            named.setdefault(issuer, []).append(_Names(read, frozenset(exact.get((issuer, key), ())), found, lengths))
        return cls({issuer: tuple(names) for issuer, names in named.items()}, frozenset(opened))

    def holds(self, token: VerifiedToken) -> bool:
        """Whether any policy names this job's project, owner or immutable id."""
        return token.issuer in self._open or any(names.holds(token) for names in self._named.get(token.issuer, ()))


def _few(beginning: str, tests: Mapping[str, Holds]) -> tuple[Holds, ...] | None:
    return tuple(tests.values()) if len(tests) <= (MOST_TRIED if beginning else MOST_ANYWHERE) else None


def _beginnings(spec: Any) -> Iterable[str]:
    """How a text that satisfies the condition may begin; "" for anyhow. Anything else never satisfies it."""
    for part in spec if isinstance(spec, list) else [spec]:
        match part:
            case {"glob": str(text)}:
                yield _until(text, _WILD)
            case {"regex": str(text)} if "|" not in text:  # the other side of a | begins otherwise
                beginning = _until(text, _SPECIAL)
                optional = text[len(beginning) : len(beginning) + 1] in {"?", "*", "{"}
                yield beginning[:-1] if optional else beginning
            case str():
                yield part
            case _:
                yield ""


def _until(text: str, stops: frozenset[str]) -> str:
    return text[: next((place for place, char in enumerate(text) if char in stops), len(text))]
