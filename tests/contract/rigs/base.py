"""What the contract needs to know of a backend's target, so that one set of checks runs over all of them."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from broker import ids
from broker.backends.identity_token import sign_identity
from broker.backends.seam import Backend, Handle, Minted, Order, Surroundings
from broker.keys.files import FileKeyStore
from broker.model import JobIdentity

JOB = JobIdentity(
    project="acme/payments",
    project_id="512345678",
    owner="acme",
    ref="refs/heads/main",
    ref_protected=True,
    run_id="7700",
    actor="ada",
)


def surroundings(keys: FileKeyStore, url: str) -> Surroundings:
    """As broker.app builds them, with real keys."""

    def web_identity(subject: str, audience: str, ttl: timedelta, claims: Mapping[str, Any]) -> str:
        return sign_identity(
            keys,
            url,
            subject=subject,
            audience=audience,
            ttl=ttl,
            claims=claims,
            now=datetime.now(UTC),
            jti=ids.new("lse"),
        )

    return Surroundings(url=url, keys=keys, web_identity=web_identity)


@dataclass(frozen=True)
class Hostile:
    """Something that tries to leave its quotes: changed options or parameters, none of which may be minted."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)


class Rig(ABC):
    """One backend, wired to a real target that trusts it."""

    kind: ClassVar[str]
    ttl: ClassVar[timedelta] = timedelta(minutes=15)
    brief_ttl: ClassVar[timedelta] = timedelta(seconds=3)  # short enough to wait for its end

    def __init__(self, table: Mapping[str, type[Backend]], around: Surroundings) -> None:
        self.table, self.around = table, around
        self.made: list[Backend] = []
        self.backend = self.build()

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """The backend's entry in broker.yaml."""

    @property
    @abstractmethod
    def options(self) -> Mapping[str, Any]:
        """A grant's `with:` that works."""

    @property
    def params(self) -> Mapping[str, Any]:
        return {}

    hostile: ClassVar[tuple[Hostile, ...]]  # at least one

    @abstractmethod
    def works(self, minted: Minted) -> bool:
        """Use it at the target for what the grant says."""

    @abstractmethod
    def works_outside(self, minted: Minted) -> bool:
        """Use it for the next thing beside that, which must be refused."""

    def exists(self, handle: Handle) -> bool:
        """Whether the target still has what this handle, planned or minted, names."""
        return False

    def brief(self) -> "Rig":
        """A rig whose credentials end within seconds; most targets let this very rig make them."""
        return self

    def unreachable(self) -> Backend | None:
        """The backend with nobody at its target's address; None where it has no target."""
        return None

    def build(self, **changed: Any) -> Backend:
        cls = self.table[self.kind]
        backend = cls(f"{self.kind}-test", cls.Settings.model_validate({**self.settings, **changed}), self.around)
        self.made.append(backend)
        return backend

    async def close(self) -> None:
        for backend in self.made:
            await backend.close()

    def order(
        self,
        *,
        ttl: timedelta | None = None,
        options: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        job: JobIdentity = JOB,
    ) -> Order:
        cls = self.table[self.kind]
        return Order(
            lease=ids.new("lse"),
            issuance=ids.new("iss"),
            session=ids.new("ses"),
            grant="payments/deploy",
            issuer="github",
            job=job,
            options=cls.Options.model_validate({**self.options, **(options or {})}),
            params=cls.Params.model_validate({**self.params, **(params or {})}),
            ttl=self.ttl if ttl is None else ttl,
            now=datetime.now(UTC),
        )

    async def mint(self, order: Order | None = None) -> Minted:
        return await self.backend.mint(order or self.order(), remember)

    async def use(self, minted: Minted) -> bool:
        return await asyncio.to_thread(self.works, minted)


async def remember(handle: Handle) -> None:
    """A ledger that always commits."""
