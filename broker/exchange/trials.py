"""What a policy's next version would have said otherwise, for the ledger: an event beside the one that tells what happened."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from broker.ledger import events
from broker.ledger.records import Event
from broker.model import VerifiedToken
from broker.policy.trial import Change


def differing(
    changes: Sequence[Change], token: VerifiedToken, policy_set: str, told: Mapping[str, str], *, now: datetime
) -> tuple[Event, ...]:
    """One event, or none where nothing differs. `told` names what the job was told: an issuance or a case."""
    if not changes:
        return ()
    event = events.next_differs(
        changes=[change.as_json() for change in changes], issuer=token.issuer, job=token.job.present(),
        policy_set=policy_set, told=told, now=now,
    )  # fmt: skip
    return (event,)
