"""What leaves us: masks first, then values in the shape that was asked for.

`MASKS` is the table: the way in which a CI learns at run time what must not be seen in its log. GitLab, CircleCI,
Bitbucket, Jenkins and the rest have none (a mask command there would print the secret), so for them nothing is
printed at all unless the user insists.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MASKS = ("github", "azure", "buildkite")
SHORTEST = 6  # a mask for less would blank half the log; CIs ignore such values themselves


def mask(kind: str, texts: Iterable[str], env: Mapping[str, str]) -> bool:
    """Register texts with the CI's log filter, each line of a multi-line one by itself as well.

    True when the CI took them: values may then be printed where a log might catch them.
    """
    if kind not in MASKS:
        return False
    pieces: dict[str, None] = {}
    for text in texts:
        for piece in (text, *text.splitlines()):
            if len(piece.strip()) >= SHORTEST:
                pieces[piece] = None
    register = __import__(f"jobkey.emit.{kind}", fromlist=["register"]).register
    return bool(register(list(pieces), env)) if pieces else True
