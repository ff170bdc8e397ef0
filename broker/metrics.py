"""Prometheus metrics, and the only labels there are: kinds, codes and states; never a name from a policy or a claim."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

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
TOKENS: Final = Counter(
    "jobkey_token_observations_total",
    "What the token verifier noticed, by kind of notice.",
    ["notice"],
    registry=REGISTRY,
)
