"""What a case number leads to, and for whom.

* An owner sees the cases near the policies that name them now, and of those only what these policies say. Auditors, responders and
  the platform's people see all: who else would answer a stranger?
* A case that is not there and one that is somebody else's are the same UnknownCase.
* Looking is bounded: a page of a list reads at most MOST_READ events, whatever it finds.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from broker import ids
from broker.errors import UnknownCase
from broker.exchange.floods import WINDOW, Floods, Strangers
from broker.ledger.reader import Reader
from broker.ledger.records import EventQuery, StoredEvent
from broker.ledger.store import Ledger
from broker.model import rfc3339
from broker.people.roles import Person, canonical
from broker.policy import PolicySet

MOST_READ: Final = 2_000
PAGE: Final = 200
TYPES: Final = frozenset({"refused", "observed", "refused-many", "reused", "failed"})
_SLACK_MS: Final = 60_000  # a window of strangers closes at the keeper's next beat, or when the ledger is back
_JOB: Final = ("project", "run_id", "ref", "environment", "trigger", "actor", "run_url")

Json = dict[str, Any]


def unknown_case() -> UnknownCase:
    """The same words for a case that is not there and for one that this person may not see."""
    return UnknownCase(
        "there is no such case, or it is not near a policy of yours; show the number to the platform's people"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseQuery:
    """Which cases: every member that is given must fit. `before` is the `next` of the page before."""

    run: str | None = None
    project: str | None = None
    policy: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None
    limit: int = 50

    def events(self, before: int | None, limit: int) -> EventQuery:
        return EventQuery(
            with_case=True, run=self.run, project=self.project, since=self.since, until=self.until, before=before, limit=limit
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class CasePage:
    """Cases, newest first; `next` leads on, and is None at the end."""

    cases: tuple[Json, ...]
    next: int | None


class Cases:
    """The cases of a running broker."""

    def __init__(self, ledger: Ledger, policies: Callable[[], PolicySet], floods: Floods) -> None:
        self._ledger, self._policies, self._floods = ledger, policies, floods
        self._by_owner: tuple[PolicySet | None, Mapping[str, frozenset[str]]] = (None, {})

    def owned(self, person: Person) -> frozenset[str]:
        """The policies in force that name this person as an owner."""
        policies = self._policies()
        known, by_owner = self._by_owner
        if known is not policies:
            by_owner = _by_owner(policies)
            self._by_owner = policies, by_owner
        return frozenset(policy for name in person.names for policy in by_owner.get(name, ()))

    async def show(self, case: str, person: Person) -> Json:
        """One case, as far as this person may see it. Raises UnknownCase, LedgerUnwritable."""
        owned = None if person.roles else self.owned(person)
        if not ids.is_id(case, "case"):
            raise unknown_case()
        if owned is None and (window := self._floods.window_of(case)) is not None:
            return _open_window(window, case)
        event = await self._ledger.event(case)
        if event is None and owned is None:
            event = await self._of_strangers(case)
        if event is None or event.type not in TYPES:
            raise unknown_case()
        shown = view(event, case, owned)
        if shown is None:
            raise unknown_case()
        return shown

    async def find(self, query: CaseQuery, person: Person) -> CasePage:
        """Cases that this person may see. Raises LedgerUnwritable."""
        owned = None if person.roles else self.owned(person)
        found: list[Json] = []
        before, read = query.before, 0
        while read < MOST_READ:
            page = await self._ledger.events(query.events(before, PAGE))
            for event in page:
                read, before = read + 1, event.seq
                row = row_of(event, owned, query.policy)
                if row is not None:
                    found.append(row)
                    if len(found) == query.limit:
                        return CasePage(tuple(found), before)
            if len(page) < PAGE:
                return CasePage(tuple(found), None)
        return CasePage(tuple(found), before)

    async def _of_strangers(self, case: str) -> StoredEvent | None:
        query: EventQuery | None = around(case)
        while query is not None:
            page = await self._ledger.events(query)
            if (found := _standing_in(case, page)) is not None:
                return found
            query = _next(query, page)
        return None


def find_in(reader: Reader, query: CaseQuery) -> CasePage:
    """The same straight from a ledger, for whoever may read its file: everything."""
    found: list[Json] = []
    before = query.before
    while page := reader.events(query.events(before, PAGE)):
        for event in page:
            before = event.seq
            row = row_of(event, None, query.policy)
            if row is not None:
                found.append(row)
                if len(found) == query.limit:
                    return CasePage(tuple(found), before)
    return CasePage(tuple(found), None)


def show_in(reader: Reader, case: str) -> Json:
    """The same for one case. Raises UnknownCase."""
    if not ids.is_id(case, "case"):
        raise unknown_case()
    event = event_of(reader, case)
    shown = view(event, case, None) if event is not None and event.type in TYPES else None
    if shown is None:
        raise unknown_case()
    return shown


def event_of(reader: Reader, case: str) -> StoredEvent | None:
    """The event that a case number leads to: its own, or the one of a minute's strangers that it stands in."""
    found = reader.event(case)
    if found is None and ids.is_id(case, "case"):
        query: EventQuery | None = around(case)
        while found is None and query is not None:
            page = reader.events(query)
            found, query = _standing_in(case, page), _next(query, page)
    return found


def view(event: StoredEvent, case: str, owned: frozenset[str] | None) -> Json | None:
    """What of a case may be seen by the owner of these policies, or by one who sees all (None). None where it is nothing."""
    body = event.body
    near = _visible(body, owned)
    if owned is not None and not near:
        return None
    sample = body.get("sample") or {}
    shown: Json = {
        "case": case,
        "time": rfc3339(event.time),
        "event": event.id,
        "type": event.type,
        "code": code_of(body),
        "issuer": body.get("issuer"),
        "grants": _grants(body),
        "job": body.get("job") or sample.get("job") or {},
        "claims": body.get("claims") or sample.get("claims") or {},
        "near": grouped(near),
        "remedy": remedy(event.type, case, near),
    }
    if owned is None:  # the reason tells of every policy that was asked, and `why` of backends
        shown |= {
            name: body[name] for name in ("reason", "why", "count", "from", "session", "issuance") if name in body
        }
    return {name: value for name, value in shown.items() if value is not None}


def row_of(event: StoredEvent, owned: frozenset[str] | None, policy: str | None) -> Json | None:
    """One line of a list, or None where it is not to be seen. No policy's conditions stand in it."""
    body = event.body
    if event.type not in TYPES:
        return None
    policies = list(dict.fromkeys(entry["policy"] for entry in _visible(body, owned)))
    if (owned is not None and not policies) or (policy is not None and policy not in policies):
        return None
    job = body.get("job") or (body.get("sample") or {}).get("job") or {}
    row = {
        "case": body["case"],
        "time": rfc3339(event.time),
        "type": event.type,
        "code": code_of(body),
        "issuer": body.get("issuer"),
    }
    row |= {"grants": _grants(body), "policies": policies} | {name: job.get(name) for name in _JOB}
    row |= {"count": body.get("count")}
    return {name: value for name, value in row.items() if value is not None}


def grouped(near: Iterable[Mapping[str, Any]]) -> list[Json]:
    """Near misses by statement, the nearest first; the first miss of each is marked."""
    groups: dict[tuple[str, int | None], Json] = {}
    for entry in near:
        key = (entry["policy"], entry.get("statement"))
        group = groups.get(key)
        if group is None:
            group = groups[key] = {"policy": entry["policy"], "held": list(entry.get("held", ())), "misses": []}
            if key[1] is not None:
                group["statement"] = key[1]
        miss = {name: entry[name] for name in ("key", "code", "expected", "got")}
        group["misses"].append(miss | {"first": not group["misses"]})
    return list(groups.values())


def code_of(body: Mapping[str, Any]) -> str:
    """The class of the refusal, in one word."""
    named = {"observed": "observe", "refused-many": "stranger", "reused": "reused", "failed": "failed"}
    return str(body.get("code") or named.get(body["type"], body["type"]))


def remedy(kind: str, case: str, near: Iterable[Mapping[str, Any]]) -> str:
    """What whoever reads a case can do next."""
    codes = {entry["code"] for entry in near}
    match kind:
        case "refused-many":
            return "no policy names this job's project, owner or id. Where it should be trusted, its team writes a policy: `jobkey-broker policy new`"
        case "reused":
            return "the token came twice. Where no client retried, it was stolen: look at its session with `jobkey-broker audit show`"
        case "failed":
            return "a backend failed; `jobkey-broker audit show` has the story, the broker's log the moment"
        case "observed":
            return "the policy is in `mode: observe`; with `mode: enforce` it would have allowed this"
        case _:
            pass
    if "unknown-grant" in codes:
        return "the policy has no such grant: correct the name in the job, or add the grant"
    if not codes:
        return f"no policy is near. On the broker's host, `jobkey-broker audit show {case}` has every reason"
    return f"`jobkey-broker policy explain --case {case}` shows the smallest edit that would allow it, and what else that would allow"


def around(case: str) -> EventQuery:
    """Events whose own case was made within a window before this one: among them is that of a stranger's later case."""
    made = ids.made_at(case)
    earliest = made - int(WINDOW.total_seconds() * 1000) - _SLACK_MS
    after = ids.first_of("case", made + 1)  # ids of one millisecond are in no order
    return EventQuery(
        type="refused-many", case_from=ids.first_of("case", earliest), case_to=after, newest_first=True, limit=PAGE
    )


def _next(query: EventQuery, page: Sequence[StoredEvent]) -> EventQuery | None:
    """In pages: in a flood ten thousand windows close in a minute, each with a stranger's claims in it."""
    return replace(query, before=page[-1].seq) if len(page) == query.limit else None


def _standing_in(case: str, events: Iterable[StoredEvent]) -> StoredEvent | None:
    return next((event for event in events if case in event.body.get("cases", ())), None)


def _visible(body: Mapping[str, Any], owned: frozenset[str] | None) -> list[Json]:
    near = body.get("near") or []
    return [entry for entry in near if owned is None or entry["policy"] in owned]


def _grants(body: Mapping[str, Any]) -> list[str]:
    asked = body.get("grants") or (body.get("sample") or {}).get("grants")
    return list(asked) if asked else [lease["grant"] for lease in body.get("leases", ()) if isinstance(lease, dict)]


def _open_window(window: Strangers, case: str) -> Json:
    """A stranger's case before its minute is over and its event written."""
    return {
        "case": case,
        "time": rfc3339(window.since),
        "type": "refused-many",
        "code": "stranger",
        "issuer": window.sample.issuer,
        "grants": list(window.grants),
        "job": window.sample.job.present(),
        "claims": dict(window.sample.claims),
        "near": [],
        "remedy": remedy("refused-many", case, ()),
        "count": window.count,
        "from": rfc3339(window.since),
    }


def _by_owner(policies: PolicySet) -> Mapping[str, frozenset[str]]:
    named: dict[str, set[str]] = {}
    for policy in policies.policies.values():
        for owner in policy.owners:
            named.setdefault(canonical(owner), set()).add(policy.name)
    return {owner: frozenset(names) for owner, names in named.items()}
