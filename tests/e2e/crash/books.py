"""What the ledger says, what the world says, and whether they agree.

The ledger is read from its file with the broker's own keys, the world is asked by itself: OpenBao for its leases,
PostgreSQL for its roles.
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from broker.keys.files import FileKeyStore
from broker.ledger.checkpoint import VerifierKey
from broker.ledger.fsck import verify_database
from broker.ledger.reader import open_reader
from broker.ledger.records import EventQuery, LeaseRecord
from broker.model import LeaseState, rfc3339
from tests.servers.openbao import OpenBao
from tests.servers.postgres import Postgres

RULES = """
path "auth/token/create/crash"  { capabilities = ["update"] }
path "auth/token/renew-accessor"  { capabilities = ["update"] }
path "auth/token/revoke-accessor" { capabilities = ["update"] }
path "auth/token/lookup-accessor" { capabilities = ["update"] }
path "auth/token/accessors"       { capabilities = ["list", "sudo"] }
path "sys/leases/renew"           { capabilities = ["update"] }
path "sys/leases/revoke"          { capabilities = ["update"] }
"""
EVERY = 10_000
ROLE_TTL = timedelta(minutes=3)  # the engine's default, 2 minutes, and what it adds for clocks


@dataclass
class World:
    """One OpenBao whose database engine makes roles in one PostgreSQL; what `role` makes is counted."""

    bao: OpenBao
    server: Postgres
    role: str = "crash"

    def prepare(self) -> str:
        """Engine, role and policies; the broker's token."""
        self.bao.add_postgres(self.server, self.role, default_ttl="2m")
        with self.bao.asking() as client:
            rules = f'path "database/creds/{self.role}" {{ capabilities = ["read"] }}'
            client.sys.create_or_update_policy(f"read-{self.role}", rules)
            client.auth.token.create_or_update_role("crash", allowed_policies=[f"read-{self.role}"], orphan=True)
        return self.bao.token("crash-broker", RULES)

    def leases(self) -> set[str]:
        """OpenBao's leases of this role, in full."""
        import hvac.exceptions

        prefix = f"database/creds/{self.role}/"
        with self.bao.asking() as client:
            try:
                found = client.sys.list_leases(prefix)
            except hvac.exceptions.InvalidPath:
                return set()
        return {prefix + key for key in found["data"]["keys"]}

    def children(self) -> set[str]:
        """The leases of ours that a living child token says it belongs to."""
        import hvac.exceptions

        found = set()
        with self.bao.asking() as client:
            for accessor in client.auth.token.list_accessors()["data"]["keys"]:
                try:
                    data = client.auth.token.lookup_accessor(accessor)["data"]
                except hvac.exceptions.VaultError:
                    continue  # it ended between the two calls
                if f"read-{self.role}" in data["policies"]:
                    found.add(data["meta"]["jobkey_lease"])
        return found

    def roles(self) -> dict[str, datetime]:
        """PostgreSQL's roles that OpenBao made for this role, and until when their password is good."""
        query = "select rolname, rolvaliduntil from pg_roles where rolname like %s"
        return dict(self.server.ask(query, f"v-%-{self.role[:8]}-%"))


@dataclass
class Told:
    """Everything a client was ever answered."""

    issued: list[dict[str, Any]] = field(default_factory=list)
    renewed: list[dict[str, Any]] = field(default_factory=list)
    ended: list[dict[str, Any]] = field(default_factory=list)


class Books:
    """One look at a broker's ledger."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "data" / "ledger.db"
        self._folder = folder
        self.lost = 0  # roles that OpenBao forgot
        self.keys = FileKeyStore(folder / "data" / "keys")
        with open_reader(self.path) as reader:
            states = {state: reader.in_state(state, limit=EVERY * 10) for state in LeaseState}
            self.leases: dict[str, LeaseRecord] = {lease.id: lease for found in states.values() for lease in found}
            self.events: list[dict[str, Any]] = []
            after = -1
            while part := reader.events(EventQuery(newest_first=False, after=after, limit=EVERY)):
                self.events += [event.body for event in part]
                after = part[-1].seq
        self.issued = {event["issuance"]: event for event in self.events if event["type"] == "issued"}

    def of(self, *states: LeaseState) -> set[str]:
        return {lease.id for lease in self.leases.values() if lease.state in states}

    def handle(self, lease: str) -> dict[str, Any]:
        sealed = self.leases[lease].sealed
        handle: dict[str, Any] = json.loads(self.keys.unseal(sealed, context=lease)) if sealed else {}
        return handle

    def ssh_ca(self) -> str:
        """The line that sshd trusts."""
        key: Any = self.keys.public("ssh-ca")[0].key
        line: str = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        return line

    def prove(self) -> None:
        """`audit verify`, in this process."""
        key = VerifierKey.parse((self._folder / "data" / "log.vkey").read_text().strip())
        report = verify_database(self.path, key)
        assert report.ok, [str(problem) for problem in report.problems]

    def all_or_none(self) -> None:
        """Every lease of an issuance stands in its one `issued` event, or nothing of it was ever issued."""
        together: dict[str, set[str]] = defaultdict(set)
        for lease in self.leases.values():
            together[lease.issuance].add(lease.id)
        for issuance, leases in together.items():
            if issuance in self.issued:
                assert {one["lease"] for one in self.issued[issuance]["leases"]} == leases
            else:
                states = {self.leases[lease].state for lease in leases}
                assert states <= {LeaseState.REVOKED, LeaseState.IRREVOCABLE, LeaseState.REVOKING}, (issuance, states)

    def holds(self, told: Told) -> None:
        """Every answer that a client received is in the ledger."""
        for body in told.issued:
            event = self.issued[body["issuance"]]
            assert event["session"] == body["session"]["id"]
            recorded = {one["lease"]: one for one in event["leases"]}
            assert recorded.keys() == {one["lease"] for one in body["credentials"]}
            for one in body["credentials"]:
                assert recorded[one["lease"]]["grant"] == one["grant"]
                assert recorded[one["lease"]]["expires_at"] == one["expires_at"]
                row = self.leases[one["lease"]]
                assert (row.issuance, row.grant) == (body["issuance"], one["grant"])
        for body in told.renewed:
            said = [
                event["expires_at"]
                for event in self.events
                if event["type"] == "renewed" and event["lease"] == body["lease"]
            ]
            assert body["expires_at"] in said, body
        for body in told.ended:
            state = self.leases[body["lease"]].state
            if body["state"] == "revoking":  # workers were still at it
                assert state in {LeaseState.REVOKING, LeaseState.REVOKED, LeaseState.IRREVOCABLE}
            else:
                assert state == body["state"], body

    def agrees(self, world: World, told: Told) -> None:
        """Nothing lives outside that the ledger does not know as alive, and what it calls alive lives."""
        active = self.of(LeaseState.ACTIVE)
        known = {handle["lease_id"]: lease for lease in active if "lease_id" in (handle := self.handle(lease))}
        living = world.leases()
        assert living == known.keys(), {
            "unknown": sorted(living - known.keys()),
            "dead": [
                (self.leases[known[name]].id, rfc3339(self.leases[known[name]].expires_at))
                for name in known.keys() - living
            ],
        }
        assert world.children() == set(known.values())
        named = {one["values"]["username"]: one["lease"] for body in told.issued for one in body["credentials"]
                 if one["type"] == "vault"}  # fmt: skip
        roles = world.roles()
        living_names = {name for name, lease in named.items() if lease in active}
        assert living_names <= roles.keys()
        assert not {name for name, lease in named.items() if lease not in active} & roles.keys()
        # OpenBao itself loses a role when its client dies while PostgreSQL commits: it has no lease for it, and gave its
        # password to nobody. Such a role cannot log in after its VALID UNTIL.
        self.lost = len(roles) - len(known)
        assert self.lost >= 0
        latest = datetime.now(UTC) + ROLE_TTL
        assert all(until <= latest for name, until in roles.items() if name not in named)


def settled(folder: Path, *, within: float = 30.0) -> Books:
    """The books once nothing is pending or being revoked any more. Raises TimeoutError."""
    return eventually(folder, lambda books: not books.of(LeaseState.PENDING, LeaseState.REVOKING), within=within)


def eventually(folder: Path, true: Callable[[Books], bool], *, within: float = 30.0) -> Books:
    end = time.monotonic() + within
    while not true(books := Books(folder)):
        if time.monotonic() > end:
            raise TimeoutError(
                f"unfinished: {[lease for lease in books.leases.values() if lease.state in ('pending', 'revoking')]}"
            )
        time.sleep(0.1)
    return books


def agreed(folder: Path, world: World, told: Told, *, within: float = 15.0) -> Books:
    """Settled books that agree with the world; both move on while they are looked at, so a few looks are allowed."""
    end = time.monotonic() + within
    while True:
        books = settled(folder, within=within)
        try:
            books.agrees(world, told)
        except AssertionError:
            if time.monotonic() > end:
                raise
            time.sleep(0.3)
        else:
            return books
