"""How `policy new` and `policy record` read the job that an author shows: a file, standard input, or an event of the ledger."""

from pathlib import Path

from broker.authoring.write.subject import Subject, of_claims, read_subject
from broker.cli.policy.setting import read_text
from broker.errors import ConfigError
from broker.policy.world import World


def shown_subject(source: Path, world: World, issuer: str | None) -> Subject:
    """What a file or standard input holds. Raises ConfigError, which repeats nothing of it."""
    name = "standard input" if str(source) == "-" else str(source)
    text = read_text(source)
    if not text.strip():
        raise ConfigError(f"{name}:1:1: nothing is there; did the command before the pipe fail?")
    return read_subject(text, name, world, issuer=issuer)


def subject_of_event(event: str, data: Path, world: World, issuer: str | None) -> Subject:
    """The job of an issuance, a refusal or any other event that keeps its claims. The ledger is only read."""
    from dataclasses import replace

    from broker.cli.ledger import ledger

    with ledger(data, None) as reader:
        found = reader.event(event)
    if found is None:
        raise ConfigError(f"{event}: the ledger holds nothing of this id; give an evt_, iss_ or case_ of `audit list`")
    body = found.body
    sample = body.get("sample")  # of a flood that was counted
    claims = body.get("claims") or (sample.get("claims") if isinstance(sample, dict) else None)
    if not isinstance(claims, dict) or not isinstance(body.get("issuer"), str):
        raise ConfigError(f"{event}: this event ({found.type}) keeps no claims; an issuance or a refusal does")
    subject = of_claims(
        claims, event, world, issuer=issuer or body["issuer"], origin="of the ledger; its broker verified the token"
    )
    leases = [lease["grant"] for lease in body.get("leases", ()) if isinstance(lease, dict)]
    how = {"issued": "issued", "refused": "refused", "refused-many": "refused"}.get(found.type)
    return replace(subject, event=how, grants=tuple(map(str, leases)))
