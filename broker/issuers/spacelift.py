"""Spacelift: one issuer per account, whose host is the audience of every token (it cannot be chosen).

`scope` is advice to the reader and enforced by nobody; what counts is `runType`. A `PROPOSED` run previews a pull request's
code, a `TASK` is a command that a person typed. Source: Spacelift docs, "OpenID Connect (OIDC)".
"""

from datetime import timedelta
from types import MappingProxyType
from typing import Final

from broker.issuers.seam import STANDARD, Claims, IssuerKind, Trust
from broker.issuers.words import page, text
from broker.model import JobIdentity

UNKNOWN: Final = "unknown-run-type"
TRIGGERS: Final = MappingProxyType({
    "PROPOSED": "a preview runs the code of whoever opened the pull request",
    "TASK": "an arbitrary command that a person typed",
    "TESTING": "a module's test cases run the code of whoever opened the pull request",
    "DESTROY": "takes a stack down, by hand or because it was deleted",
    UNKNOWN: "the run's type is none this broker knows",
})  # fmt: skip


def identity(claims: Claims) -> JobIdentity:
    """Spacelift's claims in the broker's words: the caller (a stack or module) within its space. Slugs are ids here."""
    space, caller, run = text(claims, "spaceId"), text(claims, "callerId"), text(claims, "runId")
    stack = caller if text(claims, "callerType") == "stack" else None  # a module's runs have no page of this shape
    return JobIdentity(
        project=f"{space}/{caller}" if space and caller else None,
        project_id=caller,
        owner=text(claims, "spacePath"),
        owner_id=space,
        trigger=text(claims, "runType"),
        run_id=run,
        run_url=page(text(claims, "iss"), "/stack/{}/run/{}", stack, run),
    )


def unsafe_triggers(claims: Claims) -> tuple[str, ...]:
    """Everything but a tracked run."""
    run_type = text(claims, "runType")
    if run_type == "TRACKED":
        return ()
    return (run_type,) if run_type is not None and run_type in TRIGGERS else (UNKNOWN,)


def _example(run_type: str, scope: str) -> Claims:
    return {
        "sub": f"space:production-01AAAA:stack:payments:run_type:{run_type}:scope:{scope}",
        "jti": "e4e4e4e4-0000-4000-8000-0000000000c1",
        "callerId": "payments",
        "callerType": "stack",
        "runId": "01K0000000000000000000RUN1",
        "runType": run_type,
        "scope": scope,
        "spaceId": "production-01AAAA",
    }


SPACELIFT: Final = IssuerKind(
    name="spacelift",
    title="Spacelift",
    url=None,  # https://<account>.app.spacelift.io
    accepts=r"https://[A-Za-z0-9.-]+(:[0-9]+)?",
    required=frozenset({"sub", "spaceId", "callerId", "runType", "runId"}),
    claims=MappingProxyType({
        **STANDARD,
        "aud": Trust.FACT,
        "sub": Trust.NAME,
        "jti": Trust.ID,
        "spaceId": Trust.ID,
        "callerId": Trust.ID,
        "runId": Trust.ID,
        "callerType": Trust.FACT,
        "runType": Trust.FACT,
        "scope": Trust.FACT,
        "spacePath": Trust.NAME,
    }),
    identity=identity,
    unsafe_triggers=unsafe_triggers,
    trigger_names=TRIGGERS,
    immutable=("project_id", "owner_id"),
    jti="required",
    max_age=timedelta(hours=1),  # put into the run's environment once
    fresh_tokens=False,
    chooses_audience=False,
    fixed_audience="{host}",
    custom_subject=True,
    docs="https://docs.spacelift.io/integrations/cloud-providers/oidc",
    examples=MappingProxyType({
        "spacelift-tracked": _example("TRACKED", "write"),
        "spacelift-proposed": _example("PROPOSED", "read"),
        "spacelift-task": _example("TASK", "write"),
    }),
)  # fmt: skip
