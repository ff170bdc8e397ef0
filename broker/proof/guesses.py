"""Values worth trying where a CEL expression decides: what it compares its claims with. It only guides the search."""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

MOST: Final = 8  # literals of one expression
_NAMED: Final = re.compile(r"""\b(claims|job)(?:\.([A-Za-z_][A-Za-z0-9_]*)|\[(?:"([^"\\]+)"|'([^'\\]+)')\])(?!\()""")
_LITERAL: Final = re.compile(r"""(?<!\[)(?:"([^"\\]*)"|'([^'\\]*)')|\b([0-9]{1,15})\b""")


@lru_cache(maxsize=1024)
def guesses(source: str) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    """Each key that the expression names (`claims.run_attempt`), with values for it; None is absence."""
    values = tuple(dict.fromkeys(_values(source)))
    keys = dict.fromkeys(
        f"{where}.{plain or double or single}" for where, plain, double, single in _NAMED.findall(source)
    )
    return tuple((key, values) for key in keys)


def _values(source: str) -> Iterator[Any]:
    for double, single, number in _LITERAL.findall(source)[:MOST]:
        if number:
            for near in (int(number), int(number) - 1, int(number) + 1):
                yield str(near)
        elif double or single:
            yield double or single
            yield (double or single) + "x"
    yield "x"
    yield None
