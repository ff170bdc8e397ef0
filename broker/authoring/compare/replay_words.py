"""A replay in words: the same sentences in every output."""

from collections.abc import Iterator
from typing import Final

from broker.authoring.compare.replay import MOST_JOBS, Changed, Outcome, Replayed
from broker.authoring.compare.words import Quote, Words, counted

MOST_LISTED: Final = 20  # groups in a text; JSON has them all


def replay_headline(replayed: Replayed, days: int) -> str:
    """How many real jobs would come out otherwise."""
    past = f"in the last {counted(days, 'day')}"
    told = f"{counted(replayed.requests, 'request')} {past} judged again"
    changed = sum(replayed.changed.values())
    if not changed:
        return f"{told}: every one would come out the same"
    many = f"more than {MOST_JOBS:,} jobs" if replayed.jobs > MOST_JOBS else counted(replayed.jobs, "job")
    return f"{told}: {changed:,} from {many} would come out otherwise"


def replay_lines(replayed: Replayed) -> Iterator[Words]:
    """How many changed and how, then which, then what was never used."""
    for (before, after), count in sorted(replayed.changed.items()):
        yield (f"{counted(count, 'request')}: {_outcome(before)} becomes {_outcome(after)}",)
    for group in replayed.groups[:MOST_LISTED]:
        yield (f"{counted(group.requests, 'request')} of ", *_changed(group.first))
    rest = len(replayed.groups) - MOST_LISTED
    if rest > 0 or replayed.left_out:
        left = sum(group.requests for group in replayed.groups[MOST_LISTED:]) + replayed.left_out
        yield (f"and {counted(left, 'more request')}; --format json has them",)
    if replayed.otherwise:
        differ = counted(replayed.otherwise, "request")
        yield (f"{differ} came out otherwise in the ledger than OLD says: another version decided then",)
    for why, count in sorted(replayed.not_judged.items()):
        yield (f"{counted(count, 'event')} not judged: ", Quote(why))


def unused_lines(replayed: Replayed) -> Iterator[Words]:
    """What no request of that time used, by NEW."""
    unused = replayed.unused
    if unused.policies:
        yield ("policies never used: ", Quote(", ".join(unused.policies)))
    if unused.grants:
        yield ("grants never used: ", Quote(", ".join(unused.grants)))
    if unused.statements:
        told = ", ".join(f"{policy} trust[{number}]" for policy, number in unused.statements)
        yield ("statements never used: ", Quote(told))


def _changed(one: Changed) -> Words:
    words: Words = (
        Quote(one.project or one.issuer), " for ", Quote(", ".join(one.grants)),
        f": {_outcome(one.before)} becomes {_outcome(one.after)}, e.g. ",
    )  # fmt: skip
    words = (*words, "run ", Quote(one.run), " ") if one.run else words
    words = (*words, "(", Quote(one.event), ")")
    return (*words, " ", Quote(one.run_url)) if one.run_url else words


def _outcome(outcome: Outcome) -> str:
    return {Outcome.OBSERVED: "allowed but only observed"}.get(outcome, outcome.value)
