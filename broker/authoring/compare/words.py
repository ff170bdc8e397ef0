"""A difference in words: the same sentences in a terminal, on a pull request and in JSON.

A sentence is a tuple of texts. What comes from a policy, a claim or the ledger is a Quote, so that each output can show
it as data: nothing in it is ever read as markup.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

from broker.authoring.compare.difference import Change, Difference, GrantDifference, PolicyDifference, worst
from broker.authoring.compare.grants import Direction, Job
from broker.authoring.compare.guardrails import Limit
from broker.authoring.compare.reach import Reach
from broker.proof import Verdict

LONGEST_QUOTE: Final = 500


class Quote(str):
    """Text that somebody else wrote; the end of a long one is left out."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        return super().__new__(cls, text if len(text) <= LONGEST_QUOTE else text[:LONGEST_QUOTE] + "...")


Words = tuple[str, ...]

GIVES: Final = {
    Verdict.NONE: "gives nobody more",
    Verdict.UNKNOWN: "what it gives cannot be told from here",
    Verdict.SOME: "gives more",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One sentence about a grant, a policy or a limit; `level` says how it is marked."""

    words: Words
    level: Verdict = Verdict.NONE  # SOME: somebody gets more; UNKNOWN: cannot be ruled out
    job: Job | None = None  # the job that proves it
    refused_by: str = "OLD"  # the version that does not let it have the grant


def plain(words: Words) -> str:
    """The sentence as one text."""
    return "".join(words)


def counted(number: int, one: str, many: str = "") -> str:
    """`1 grant`, `2 grants`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def headline(difference: Difference) -> str:
    """The first sentence: is anything newly allowed?"""
    who = Counter(one.compared.allowed.verdict for one in difference.grants)
    what = Counter(worst(*(part.gives for part in one.compared.reach)) for one in difference.grants)
    parts = []
    if who[Verdict.SOME]:
        parts.append(f"{counted(who[Verdict.SOME], 'grant')} newly allowed to some job")
    if who[Verdict.UNKNOWN]:
        parts.append(f"that no job is newly allowed cannot be proved for {counted(who[Verdict.UNKNOWN], 'grant')}")
    if not parts:
        parts.append("no identity is newly allowed: proved")
    if what[Verdict.SOME]:
        grants = counted(what[Verdict.SOME], "grant gives", "grants give")
        parts.append(f"{grants} more to a job that gets it")
    if what[Verdict.UNKNOWN]:
        grants = counted(what[Verdict.UNKNOWN], "grant gives", "grants give")
        parts.append(f"{grants} something else")
    if difference.looser:
        parts.append("the guardrails give policies more room")
    return "; ".join(parts)


def tally(difference: Difference) -> str:
    """The second sentence: how much changed."""
    changes = {change: sum(one.change is change for one in difference.grants) for change in Change}
    refused = sum(one.narrower is Verdict.SOME for one in difference.grants)
    told = [
        counted(changes[change], f"{change} grant") for change in (Change.NEW, Change.REMOVED, Change.CHANGED) if changes[change]
    ]  # fmt: skip
    if (same := difference.same + changes[Change.SAME]) or not told:
        told.append(f"{counted(same, 'grant')} decided as before")
    if refused:
        told.append(f"{counted(refused, 'grant takes', 'grants take')} something away")
    return ", ".join(told)


def grant_lines(grant: GrantDifference) -> Iterator[Line]:
    """Everything about one grant, what is newly allowed first."""
    yield _allowed(grant)
    if grant.change is not Change.NEW:
        yield _refused(grant)
    for one in grant.compared.reach:
        yield Line(_reach(one), one.gives, grant.compared.sends if one.what == "params" else None)


def _allowed(grant: GrantDifference) -> Line:
    found = grant.compared.allowed
    match found.verdict:
        case Verdict.SOME:
            assert found.job is not None
            return Line(("newly allowed, e.g. ", *_job(found.job)), Verdict.SOME, found.job)
        case Verdict.UNKNOWN:
            return Line(("newly allowed: cannot be ruled out: ", *_why(found)), Verdict.UNKNOWN)
        case _:
            return Line(("no identity is newly allowed: proved",))


def _refused(grant: GrantDifference) -> Line:
    found = grant.compared.refused
    match found.verdict:
        case Verdict.SOME:
            assert found.job is not None
            return Line(("newly refused, e.g. ", *_job(found.job)), Verdict.NONE, found.job, "NEW")
        case Verdict.UNKNOWN:
            return Line(("newly refused: cannot be ruled out: ", *_why(found)))
        case _:
            return Line(("no identity is newly refused: proved",))


def _why(found: Direction) -> Words:
    return (Quote(found.why),)


def _job(job: Job) -> Words:
    words = ("a job of ", Quote(job.issuer), f", by trust[{job.statement}]")
    return (*words, ", once it sends ", Quote(", ".join(job.needs))) if job.needs else words


def job_rows(job: Job) -> Iterator[tuple[str, str]]:
    """What the statements look at in this job, and what it sends."""
    yield from job.reads
    for name, value in job.params.items():
        yield f"params.{name}", value if isinstance(value, str) else repr(value)


def miss_words(line: Line) -> Iterator[Words]:
    """Why the other version refuses the job."""
    assert line.job is not None
    if line.job.refusal:
        yield (f"{line.refused_by} refuses it: ", Quote(line.job.refusal))
    for key, expected, got in line.job.missed:
        yield (f"{line.refused_by} refuses it: ", Quote(key), ": expected ", Quote(expected), ", got ", Quote(got))


def _reach(one: Reach) -> Words:
    if one.what == "power":
        can = "its credential can now " if one.before is None else "its credential can no longer "
        return (can, Quote(one.after or one.before or ""))
    path = Quote(one.path)
    if one.before is None:
        changed: Words = (path, ": ", Quote(str(one.after)), " is new")
    elif one.after is None:
        changed = (path, ": ", Quote(one.before), " is gone")
    else:
        changed = (path, ": ", Quote(one.before), " becomes ", Quote(one.after))
    if one.what == "backend":
        return (*changed, ": a credential of another backend")
    if one.what == "ttl":
        return (*changed, ": longer" if one.gives is Verdict.SOME else ": shorter")
    if one.what == "params":
        told = {Verdict.NONE: "a job may send nothing new: proved", Verdict.SOME: "a job may send more"}
        return (*changed, ": ", told.get(one.gives, "whether a job may send more cannot be told"))
    return (*changed, f": {GIVES[one.gives]}")


def policy_lines(policy: PolicyDifference) -> Iterator[Line]:
    """Everything about one policy apart from its grants."""
    if policy.change is not Change.CHANGED:
        yield Line((f"the policy is {policy.change}",))
        return
    if policy.mode is not None:
        was, now = policy.mode
        meaning = "what was only judged is minted now" if now == "enforce" else "it is judged and mints nothing"
        yield Line((f"mode: {was} becomes {now}: {meaning}",))
    for owners, what in ((policy.owners_added, "now sees its refusals"), (policy.owners_removed, "no longer does")):
        for owner in owners:
            yield Line(("owners: ", Quote(owner), f" {what}"))
    if policy.file is not None:
        yield Line(("file: ", Quote(policy.file[0]), " becomes ", Quote(policy.file[1])))
    if policy.switched:
        yield Line(("next: what was on trial decides",))
    elif policy.trial is not None:
        yield Line((f"next: the version on trial is {policy.trial}; it mints nothing",))
    for examples, what in ((policy.examples_removed, "is gone"), (policy.examples_added, "is new")):
        for name in examples:
            yield Line(("example: ", Quote(name), f" {what}"))


def limit_lines(limit: Limit) -> Iterator[Line]:
    """What one changed guardrail gives and takes away."""
    key = Quote(limit.key)
    if limit.before is None:
        changed: Words = (key, ": ", Quote(str(limit.after)), " is new")
    elif limit.after is None:
        changed = (key, ": ", Quote(limit.before), " is gone")
    else:
        changed = (key, ": ", Quote(limit.before), " becomes ", Quote(limit.after))
    if limit.advice:
        meaning = ": the linter asks for less" if limit.gives else ": only the linter and tests ask for it"
    elif limit.gives and limit.takes:
        meaning = ": some room is given, some is taken away"
    else:
        meaning = ": policies may say more" if limit.gives else ": policies may say less"
    yield Line((*changed, meaning), Verdict.SOME if limit.gives else Verdict.NONE)
    if limit.gives and not limit.advice:
        if not limit.used_by:
            yield Line(("no policy uses that room: every decision would be the same without it",))
        for policy, problem in limit.used_by:
            yield Line((Quote(policy), " uses that room; before it would not load: ", Quote(problem)), Verdict.SOME)
    for policy, problem in limit.lost_by:
        yield Line(("the old ", Quote(policy), " would no longer load: ", Quote(problem)))


def notes(difference: Difference) -> Iterator[str]:
    """What was not looked at."""
    if not difference.checked:
        yield "not checked: backends and their options (`with`), for want of --config broker.yaml"
