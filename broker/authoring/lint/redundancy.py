"""Rules that ask broker.proof: statements that no job can meet, and those that add nothing to the others.

Only what is proved is reported. A statement whose `when` decides is taken to allow more, so it is never called idle.
"""

from collections.abc import Iterator

from broker.authoring.lint.seam import Desk, Problem, place
from broker.authoring.lint.stated import Stated
from broker.proof import Verdict, beyond


def _adds(desk: Desk, one: Stated, others: list[Stated]) -> bool:
    issuer = one.statement.issuer
    answer = beyond(
        [one.statement],
        [other.statement for other in others],
        kinds={issuer: one.kind},
        urls={name: url for name, url in desk.world.issuer_urls.items() if name == issuer},
    )
    return answer.verdict is not Verdict.NONE


def unreachable_statement(desk: Desk) -> Iterator[Problem]:
    """A statement that no job can ever meet."""
    for stated in desk.statements:
        if not _adds(desk, stated, []):
            yield Problem(
                path=stated.path,
                message="no job can ever meet this statement: its conditions exclude each other. It reads as if it let "
                "somebody in, and whoever loosens it later does not see what they open",
                remedy="correct the condition that contradicts the others, or remove the statement",
            )


def redundant_statement(desk: Desk) -> Iterator[Problem]:
    """A statement whose every job another one trusts anyway."""
    kept = list(desk.statements)
    for stated in reversed(desk.statements):
        others = [other for other in kept if other is not stated and other.statement.issuer == stated.statement.issuer]
        if not others or desk.found(stated.number, "unreachable-statement") or _adds(desk, stated, others):
            continue
        kept.remove(stated)
        wider = next((other for other in others if not _adds(desk, stated, [other])), None)
        by = f"trust[{wider.number}]" if wider else "the others together"
        yield Problem(
            path=stated.path,
            message=f"every job that this statement trusts is trusted by {by} already: what it asks for more keeps nobody out, "
            "and a reader who relies on it is wrong",
            remedy=f"remove it, or narrow {f'trust[{wider.number}]' if wider else 'the others'} so that this one is needed",
            related=((place(desk.document, wider.path), by),) if wider else (),
        )
