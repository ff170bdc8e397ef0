"""The job that `policy explain` is asked about: claims, a token, or what the ledger keeps of a real request.

The ledger is only read. A token is decoded, never verified, and no part of it is ever printed.
"""

import contextlib
import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from broker import ids
from broker.authoring.write.subject import of_claims, read_subject
from broker.cli.ledger import PAGE, ledger
from broker.cli.policy.setting import Setting, read_object, read_text, token_of
from broker.documents import parse
from broker.errors import ConfigError, UnknownCase
from broker.ledger.reader import Reader
from broker.ledger.records import EventQuery, StoredEvent
from broker.model import VerifiedToken
from broker.policy.compile import compile_policy
from broker.policy.guardrails import Guardrails, read_guardrails
from broker.policy.policyset import PolicySet
from broker.policy.world import World

GUARDRAILS: Final = "guardrails.yaml"  # its name among the ledger's stored texts


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Who asked for what, and where that is known from."""

    token: VerifiedToken
    grants: tuple[str, ...] = ()
    origin: str = ""  # one sentence; empty for claims that the author wrote
    event: StoredEvent | None = None
    then: PolicySet | None = field(default=None, repr=False)  # what decided then, where it was asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The options that say who asked; exactly one is given."""

    claims: Path | None
    token: Path | None
    event: str | None
    case: str | None

    def check(self) -> None:
        """Raises ConfigError."""
        given = [name for name in ("claims", "token", "event", "case") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ConfigError("explain: give one of --claims FILE, --token FILE, --event evt_... and --case case_...")
        for option, name, prefix in (("event", self.event, "evt"), ("case", self.case, "case")):
            if name is not None and not ids.is_id(name, prefix):
                raise ConfigError(f"explain: --{option} takes an id that begins with {prefix}_")


def read_question(
    sources: Sources, setting: Setting, found: PolicySet, *, issuer: str | None, grant: str | None,
    config: Path | None, data: Path | None, then: bool,
) -> Question:  # fmt: skip
    """Raises ConfigError with what to give instead; it never repeats a token."""
    sources.check()
    named = (grant,) if grant is not None else ()
    if then and sources.event is None and sources.case is None:
        raise ConfigError("explain: --then goes with --event or --case: the ledger knows what decided them")
    if sources.claims is not None:
        return Question(token=_of_claims(sources.claims, issuer, grant, setting.world, found), grants=named)
    if sources.token is not None:
        text = read_text(sources.token)
        if text.lstrip().startswith("{"):
            raise ConfigError(f"{sources.token}:1:1: this is JSON and no token; give it by --claims")
        subject = read_subject(text, str(sources.token), setting.world, issuer=issuer)
        return Question(token=subject.token, grants=named, origin=subject.origin)
    with ledger(data, config) as reader:
        event = _event(reader, sources)
        question = _of_event(event, setting.world, issuer)
        decided = _then(reader, event, setting.world, found) if then else None
    return replace(question, grants=named or question.grants, then=decided)


def _of_claims(path: Path, issuer: str | None, grant: str | None, world: World, found: PolicySet) -> VerifiedToken:
    """Claims as JSON, or what `jobkey whoami --json` prints. A grant's policy helps to tell which issuer is meant."""
    text, name = read_text(path), "standard input" if str(path) == "-" else str(path)
    given = read_object(text, str(path))
    if "presents" in given or {"job", "kind"} <= given.keys():
        return read_subject(text, name, world, issuer=issuer).token
    if grant is not None:
        return token_of(given, path, issuer, grant, found, world)
    return of_claims(given, name, world, issuer=issuer, origin="").token


def _event(reader: Reader, sources: Sources) -> StoredEvent:
    name = sources.event or sources.case or ""
    found = reader.event(name)
    if found is None and sources.case is not None:  # strangers are recorded together, and each has a case of its own
        from broker.exchange.cases import show_in

        with contextlib.suppress(UnknownCase):
            found = reader.event(str(show_in(reader, name)["event"]))
    if found is None:
        raise ConfigError(f"{name}: the ledger holds nothing of this id")
    return found


def _of_event(event: StoredEvent, world: World, issuer: str | None) -> Question:
    body = event.body
    told = body.get("sample", {}) if event.type == "refused-many" else body
    claims = told.get("claims")
    if not isinstance(claims, dict) or not isinstance(body.get("issuer"), str):
        raise ConfigError(f"{event.id}: this event ({event.type}) keeps no claims; a refusal or an issuance does")
    subject = of_claims(claims, event.id, world, issuer=issuer or body["issuer"], origin="")
    asked = told.get("grants") or [lease["grant"] for lease in body.get("leases", ()) if isinstance(lease, dict)]
    origin = "of the ledger, whose broker verified the token; what the job sent beside it is not kept"
    return Question(token=subject.token, grants=tuple(map(str, asked)), origin=origin, event=event)


def _then(reader: Reader, event: StoredEvent, world: World, found: PolicySet) -> PolicySet:
    """The policies that decided an event, from the texts that the ledger keeps by digest. Raises ConfigError.

    Issuers and backends are taken as they are configured now; where a policy stood is not kept, so the limits of folders,
    which it was checked against when it was loaded, are left out.
    """
    wanted = event.body.get("policy_set")
    state: dict[str, str] = {}
    named: dict[str, str] | None = None
    query = EventQuery(type="policy-changed", newest_first=False, limit=PAGE, before=event.seq)
    while page := reader.events(query):
        for change in page:
            state |= change.body["policies"]
            for gone in change.body.get("removed", ()):
                state.pop(gone, None)
            if change.body["policy_set"] == wanted:
                named = dict(state)
        query = replace(query, after=page[-1].seq)
    if named is None:
        raise ConfigError(f"{event.id}: the ledger does not say which policies decided it")
    guardrails = Guardrails()
    if GUARDRAILS in named:
        text = _text(reader, GUARDRAILS, named.pop(GUARDRAILS))
        guardrails = replace(read_guardrails(text, f"{GUARDRAILS} of then"), folders={})
    then = replace(world, guardrails=guardrails, _jobs={})
    policies = []
    for name, digest in named.items():
        text = _text(reader, name, digest)
        file = found.policies[name].file if name in found.policies else f"{name}.yaml"
        document = parse(text, f"{file} of then")
        policies.append(compile_policy(document, text, folder=".", file=file, world=then)[0])
    decided = PolicySet.of(policies, guardrails)
    if decided.version != wanted:
        raise ConfigError(
            f"{event.id}: the ledger's texts are not those that decided it; run `jobkey-broker audit verify`"
        )
    return decided


def _text(reader: Reader, name: str, version: str) -> str:
    text = reader.policy_text(name, version.removeprefix("sha256:"))
    if text is None or hashlib.sha256(text.encode()).hexdigest() != version.removeprefix("sha256:"):
        raise ConfigError(f"{name} {version}: the ledger does not hold this text")
    return text
