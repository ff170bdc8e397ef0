"""A policy's `next:` version, judged beside the one that decides, so that a change is known by real jobs before it counts.

* It never decides: what a job gets, and every byte that it is told, is the same with a `next:` and without.
* Only differences are recorded. What agreed is what was asked without one (broker.authoring.rollout counts both).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from broker.documents import Document
from broker.model import GrantRequest, VerifiedToken
from broker.policy.answers import told
from broker.policy.decide import judge
from broker.policy.policyset import PolicySet


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One grant that comes out otherwise under the policy's next version."""

    grant: str  # policy/grant
    would: Literal["allow", "refuse"]
    why: str = field(repr=False)  # what the next version missed; empty where it allows. For the ledger and owners only

    def as_json(self) -> dict[str, str]:
        """For an event."""
        return {"grant": self.grant, "would": self.would} | ({"why": self.why} if self.why else {})


def trial(policies: PolicySet, token: VerifiedToken, requests: Sequence[GrantRequest]) -> tuple[Change, ...]:
    """What would come out otherwise if every version on trial decided."""
    return tuple(_changes(policies, token, requests)) if policies.on_trial else ()


def _changes(policies: PolicySet, token: VerifiedToken, requests: Sequence[GrantRequest]) -> Iterator[Change]:
    for request in requests:
        policy, grant = policies.grants.get(request.grant, (None, None))
        if policy is None or grant is None or policy.next is None:
            continue
        today = not isinstance(judge(policy, grant, token, request), list)  # what a job sent wrongly, it can mend
        following = policy.next.grants.get(request.grant.rpartition("/")[2])
        if following is None:
            if today:
                yield Change(grant=request.grant, would="refuse", why="the next version has no such grant")
            continue
        outcome = judge(policy.next, following, token, request)
        if today == isinstance(outcome, list):
            why = f"next {told(outcome)}" if isinstance(outcome, list) else ""
            yield Change(grant=request.grant, would="refuse" if today else "allow", why=why)


def next_document(document: Document) -> Document:
    """The version under `next:` as a file of its own: its keys in the place of today's, each with its true place."""
    following = document.value["next"]
    value = {key: part for key, part in document.value.items() if key != "next"} | following
    marks = {path: mark for path, mark in document.marks.items() if not path or path[0] not in {"next", *following}}
    marks |= {path[1:]: mark for path, mark in document.marks.items() if len(path) > 1 and path[0] == "next"}
    return Document(document.name, value, marks, ("next",))
