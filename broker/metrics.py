"""Prometheus metrics, and the only labels there are: kinds, codes, states and configured names; never a name from a policy or a claim."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

log: Final = structlog.get_logger("jobkey.tokens")
MOST_TOLD: Final = 1_000  # names in one process's log
LONGEST_CLAIM: Final = 100

REGISTRY: Final = CollectorRegistry()

ISSUED: Final = Counter("jobkey_issued_total", "Credentials issued, by backend kind.", ["kind"], registry=REGISTRY)
REFUSED: Final = Counter("jobkey_refused_total", "Requests refused or failed, by error.", ["error"], registry=REGISTRY)
REQUEST: Final = Histogram(
    "jobkey_credentials_seconds", "Time to answer POST /v1/credentials.", registry=REGISTRY,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)  # fmt: skip
ENDED: Final = Counter("jobkey_leases_ended_total", "Leases ended, by state.", ["state"], registry=REGISTRY)
COMMITS: Final = Counter("jobkey_ledger_commits_total", "Durable group commits.", registry=REGISTRY)
ENTRIES: Final = Counter("jobkey_ledger_entries_total", "Entries made durable by them.", registry=REGISTRY)
POLICY_LOADS: Final = Counter(
    "jobkey_policy_loads_total", "Policy sets loaded or rejected.", ["outcome"], registry=REGISTRY
)
POLICIES: Final = Gauge("jobkey_policies", "Policies in force.", registry=REGISTRY)
POLICY_FETCHES: Final = Counter(
    "jobkey_policy_fetches_total", "Fetches of the policies' repository.", ["outcome"], registry=REGISTRY
)
POLICIES_SEEN: Final = Gauge(
    "jobkey_policies_seen_timestamp_seconds", "When the source of the policies was last looked at with success, Unix time.",
    registry=REGISTRY,
)  # fmt: skip
VERIFIED: Final = Counter(
    "jobkey_tokens_verified_total", "Subject tokens that were good, by issuer.", ["issuer"], registry=REGISTRY
)
REJECTED: Final = Counter(
    "jobkey_tokens_rejected_total", "Subject tokens that were not, by issuer (empty before one was known) and why.",
    ["issuer", "why"], registry=REGISTRY,
)  # fmt: skip
FETCHES: Final = Counter(
    "jobkey_key_fetches_total", "Fetches of an issuer's keys.", ["issuer", "outcome"], registry=REGISTRY
)
UNKNOWN_CLAIMS: Final = Counter(
    "jobkey_unknown_claims_total", "Tokens with a claim that its issuer kind does not know: the CI signs something new.",
    ["kind"], registry=REGISTRY,
)  # fmt: skip


@lru_cache
def _issued(kind: str) -> Counter:
    return ISSUED.labels(kind)


def count_issued(kind: str) -> None:
    """One credential left the broker; the label's look-up is paid once."""
    _issued(kind).inc()


class TokenMetrics:
    """broker.tokens.observer.Observer, as counters. Claim names go to the log once each, never into a label."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()
        self._verified: dict[str, Callable[[], None]] = {}

    def token_verified(self, issuer: str) -> None:
        count = self._verified.get(issuer)
        if count is None:
            count = self._verified[issuer] = VERIFIED.labels(issuer).inc
        count()

    def token_rejected(self, issuer: str | None, why: str) -> None:
        REJECTED.labels(issuer or "", why).inc()

    def unknown_claims(self, kind: str, names: Sequence[str]) -> None:
        UNKNOWN_CLAIMS.labels(kind).inc()
        for name in names:
            if (kind, name) not in self._told and len(self._told) < MOST_TOLD:
                self._told.add((kind, name))
                log.info("unknown-claim", kind=kind, claim=name[:LONGEST_CLAIM])

    def keys_fetched(self, issuer: str, *, ok: bool) -> None:
        FETCHES.labels(issuer, "ok" if ok else "failed").inc()
