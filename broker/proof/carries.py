"""Which fields of a job are one raw claim in other words, so that a condition may move between the two.

A kind's identity is a function; that a field depends on one claim and how is written here by hand and held against the
function by a property test, for every kind and for claims of any type. A field that is not listed is a dimension of its
own: nothing is lost but the proof that a moved condition changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from broker.issuers import ISSUERS
from broker.issuers.seam import IssuerKind
from broker.proof.languages import Pattern, Words
from broker.proof.regions import ANY_VALUE, NO_VALUE, TEXT, Region

Case = tuple[Region, Any]  # the claim's values, and the field's for all of them; SAME where it is the value itself
SAME: Final = object()


@dataclass(frozen=True, slots=True)
class Carry:
    """A field whose value is told by one claim: by the first case that the claim's value is in, or absent."""

    claim: str  # claims.repository
    cases: tuple[Case, ...]

    def pulled_back(self, region: Region) -> Region:
        """The claim's values for which the field is in `region`."""
        found = NO_VALUE
        rest = ANY_VALUE
        for values, said in self.cases:
            here = values & rest
            if said is SAME:
                found |= here & region
            elif said in region:
                found |= here
            rest &= ~values
        return found | rest if region.absent else found

    def told(self, value: Any) -> Any:
        """The field's value for one of the claim's; None is absent."""
        said = next((said for values, said in self.cases if value in values), None)
        return value if said is SAME else said


_TRUE: Final = Region(text=Words(frozenset({"true"})), bools=frozenset({True}))
_FALSE: Final = Region(text=Words(frozenset({"false"})), bools=frozenset({False}))


def _prefixed(prefix: str) -> Region:
    return Region(text=Pattern("prefix", prefix))


def _text(claim: str) -> Carry:
    return Carry(f"claims.{claim}", ((TEXT, SAME),))


def _flag(claim: str) -> Carry:
    return Carry(f"claims.{claim}", ((_TRUE, True), (_FALSE, False)))


def _ref(claim: str) -> Carry:
    return Carry(f"claims.{claim}", ((_prefixed("refs/"), SAME),))


def _ref_type(claim: str) -> Carry:
    named = (
        ("refs/heads/", "branch"),
        ("refs/tags/", "tag"),
        ("refs/pull/", "pull-request"),
        ("refs/pull-requests/", "pull-request"),
        ("refs/merge-requests/", "pull-request"),
    )
    return Carry(f"claims.{claim}", tuple((_prefixed(prefix), name) for prefix, name in named))


# By kind: the field -> how one claim tells it.
_CARRIES: Final[Mapping[str, Mapping[str, Carry]]] = {
    "github": {
        "project": _text("repository"),
        "project_id": _text("repository_id"),
        "owner": _text("repository_owner"),
        "owner_id": _text("repository_owner_id"),
        "ref": _ref("ref"),
        "ref_type": _ref_type("ref"),
        "ref_protected": _flag("ref_protected"),
        "environment": _text("environment"),
        "trigger": _text("event_name"),
        "run_id": _text("run_id"),
        "job_id": _text("check_run_id"),
        "attempt": _text("run_attempt"),
        "actor": _text("actor"),
        "actor_id": _text("actor_id"),
        "sha": _text("sha"),
        "runner": _text("runner_environment"),
    },
}


def carries_of(kind: IssuerKind | None) -> Mapping[str, Carry]:
    """`job.NAME` -> its claim, for a kind whose identity is the one that the table was held against; nothing for others."""
    if kind is None or kind.name not in _CARRIES or ISSUERS[kind.name].identity is not kind.identity:
        return {}
    return _KEYED[kind.name]


_KEYED: Final = {name: {f"job.{field}": carry for field, carry in fields.items()} for name, fields in _CARRIES.items()}
