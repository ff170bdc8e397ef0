"""A real issuer on loopback, a verifier for it, and a clock that tests move by hand."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from broker.issuers import generic
from broker.issuers.trusted import TrustedIssuer
from broker.tokens import TokenVerifier
from tests.fakes.issuer import FakeIssuer, SigningKey, make_private_key

BROKER = "https://broker.acme.example"
KIND = generic.build({"project": "claims.repo", "project_id": "claims.repo_id"})


class Clock:
    """Monotonic seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Counts:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.verified: list[str] = []
        self.rejected: list[tuple[str | None, str]] = []
        self.unknown: list[tuple[str, tuple[str, ...]]] = []
        self.fetched: list[bool] = []

    def token_verified(self, issuer: str) -> None:
        self.verified.append(issuer)

    def token_rejected(self, issuer: str | None, why: str) -> None:
        self.rejected.append((issuer, why))

    def unknown_claims(self, kind: str, names: Any) -> None:
        self.unknown.append((kind, tuple(names)))

    def keys_fetched(self, issuer: str, *, ok: bool) -> None:
        self.fetched.append(ok)


class Bench:
    """One issuer, one verifier."""

    def __init__(self, issuer: FakeIssuer, **options: Any) -> None:
        self.issuer, self.clock, self.counts = issuer, Clock(), Counts()
        self.trusted = TrustedIssuer(
            **{"name": "ci", "kind": KIND, "url": issuer.url, "audiences": (BROKER,), **options}
        )
        self.verifier = TokenVerifier([self.trusted], observer=self.counts, clock=self.clock)

    @property
    def keys(self) -> Any:
        return self.verifier.keys["ci"]

    def with_(self, **options: Any) -> "Bench":
        """Another verifier for the same issuer under other rules."""
        fields = {
            name: getattr(self.trusted, name) for name in ("kind", "algorithms", "jti", "bound_audience", "stale_limit")
        }
        return Bench(self.issuer, **{**fields, **options})

    def sign(self, claims: Any = None, **how: Any) -> str:
        return self.issuer.sign(
            {"sub": "job", "aud": BROKER, "repo": "acme/payments", "repo_id": "7", **(claims or {})}, **how
        )


@pytest.fixture(scope="session")
def rsa_key() -> Any:
    """Making one takes longer than any test here, so all share it."""
    return make_private_key("RS256")


@pytest.fixture
async def bench(rsa_key: Any) -> AsyncIterator[Bench]:
    async with FakeIssuer(keys=[SigningKey("RS256", "key-1", rsa_key)]) as issuer:
        bench = Bench(issuer)
        yield bench
        await bench.verifier.close()
