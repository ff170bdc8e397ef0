"""Rules that ask broker.proof: statements that no job can meet, and those that add nothing to the others.

Only what is proved is reported. A statement whose `when` decides is taken to allow more, so it is never called idle.
A proof takes milliseconds, and a set has thousands of statements: what an example or two values show is not proved again.
What a policy's purse does not pay for is taken to be as it should, and said by `too-large-to-prove`.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Final

from broker.authoring.lint.jobs import likely
from broker.authoring.lint.seam import Desk, Problem, place
from broker.authoring.lint.stated import Stated
from broker.policy.policyset import Statement
from broker.proof import Verdict, beyond

MOST_NAMED: Final = 8
MOST_ASKED: Final = 8  # statements that are tried alone, to name the one that makes another redundant


def _adds(desk: Desk, one: Stated, others: list[Stated]) -> bool:
    """Whether some job may meet this statement and none of the others."""
    rivals = [other.statement for other in others if not _apart(one.statement, other.statement)]
    if others and not rivals:
        return True  # whoever meets it meets no other; that somebody does is unreachable-statement's to ask
    issuer = one.statement.issuer
    for job in chain(desk.jobs(issuer), likely(one, desk.world, desk.purse)):
        if job.trusted_by(one.statement) and not any(job.trusted_by(rival) for rival in rivals):
            return True
    urls = {name: url for name, url in desk.world.issuer_urls.items() if name == issuer}
    answer = beyond([one.statement], rivals, kinds={issuer: one.kind}, urls=urls, purse=desk.purse, prove_only=True)
    if answer.unsettled:
        desk.unsettled.add(one.number)
    return answer.verdict is not Verdict.NONE


def _apart(one: Statement, other: Statement) -> bool:
    """Whether the two write different values out for the same key, so that no job meets both."""
    written = {bound.key: bound.condition.exact for bound in other.conditions if bound.condition.exact is not None}
    return any(
        bound.condition.exact is not None and not bound.condition.exact & written.get(bound.key, bound.condition.exact)
        for bound in one.conditions
    )


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
        wider = next((other for other in others[:MOST_ASKED] if not _adds(desk, stated, [other])), None)
        desk.unsettled.discard(stated.number)  # proved; which one alone makes it idle is only for the message
        by = f"trust[{wider.number}]" if wider else "the others together"
        yield Problem(
            path=stated.path,
            message=f"every job that this statement trusts is trusted by {by} already: what it asks for more keeps nobody out, "
            "and a reader who relies on it is wrong",
            remedy=f"remove it, or narrow {by if wider else 'the others'} so that this one is needed",
            related=((place(desk.document, wider.path), by),) if wider else (),
        )


def too_large_to_prove(desk: Desk) -> Iterator[Problem]:
    """Statements that the two rules above could not judge for the work that a policy is worth."""
    left = sorted(desk.unsettled)
    if left:
        named = ", ".join(f"trust[{number}]" for number in left[:MOST_NAMED]) + (", ..." if left[MOST_NAMED:] else "")
        yield Problem(
            path=("trust", left[0]),
            message=f"whether {named} {'adds' if len(left) == 1 else 'add'} anything to the other statements, or can be met at all, "
            "was not looked at wholly: their patterns together are too large. What this linter cannot tell in seconds no reader "
            "can, and a statement that lets too many in goes unseen among them",
            remedy="write the patterns more simply, as lists of values or globs, or in several policies",
        )
