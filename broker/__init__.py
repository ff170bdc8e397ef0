"""Jobkey's broker: a CI job's OIDC token in, a narrow and short-lived credential out, and a ledger that proves it.

Arrows point one way: web -> exchange -> tokens | policy | backends | ledger -> model.
"""

__version__ = "0.1.0"
