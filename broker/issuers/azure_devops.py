"""Azure DevOps Pipelines: one issuer per organisation, one key set for all of them, one audience for the whole world.

Any service that is handed a pipeline's token could send it here, because the audience cannot be chosen; the broker's
age limit and single use are what is left. A service connection's token comes from the same endpoint with no pipeline
claims at all and is rejected for that. Source: Microsoft's Azure DevOps docs; gravitational/teleport RFD 0211.
"""

import re
from datetime import timedelta
from types import MappingProxyType
from typing import Final

from broker.issuers.seam import STANDARD, Claims, IssuerKind, Trust
from broker.issuers.words import full_ref, ident, page, ref_type, text
from broker.model import JobIdentity

PULL_REQUEST: Final = "pull-request"
NO_REF: Final = "no-ref"
TRIGGERS: Final = MappingProxyType({
    PULL_REQUEST: "a validation build of a pull request: every id is the pipeline's own, the code is the author's",
    NO_REF: "the token does not say which branch or tag the pipeline ran on",
})  # fmt: skip
_SUB: Final = re.compile(r"p://([^/]+)/([^/]+)/(.+)", re.DOTALL)  # organisation, project, pipeline: all names


def identity(claims: Claims) -> JobIdentity:
    """Azure's claims in the broker's words. `workflow` is the pipeline's definition id, which a rename does not change."""
    sub = _SUB.fullmatch(text(claims, "sub") or "")
    organization, project = (sub[1], sub[2]) if sub else (None, None)
    ref, run = full_ref(text(claims, "rpo_ref")), ident(claims, "run_id")
    return JobIdentity(
        project=f"{organization}/{project}" if sub else None,
        project_id=text(claims, "prj_id"),
        owner=organization,
        owner_id=text(claims, "org_id"),
        ref=ref,
        ref_type=ref_type(ref),
        workflow=ident(claims, "def_id"),
        run_id=run,
        sha=text(claims, "rpo_ver"),
        run_url=page("https://dev.azure.com", "/{}/{}/_build/results?buildId={}", organization, project, run),
    )


def unsafe_triggers(claims: Claims) -> tuple[str, ...]:
    """Pull requests, seen by their ref alone; so a token without a ref is one as well, until proven otherwise."""
    ref = full_ref(text(claims, "rpo_ref"))
    if ref is None:
        return (NO_REF,)
    return (PULL_REQUEST,) if ref_type(ref) == "pull-request" else ()


_ORG = "a0a0a0a0-1111-4111-8111-a0a0a0a0a0a0"
_MAIN = {
    "sub": "p://acme/Payments/release",
    "jti": "c1c1c1c1-0000-4000-8000-0000000000c1",
    "def_id": "17",
    "org_id": _ORG,
    "prj_id": "b1b1b1b1-2222-4222-8222-b1b1b1b1b1b1",
    "rpo_id": "d2d2d2d2-3333-4333-8333-d2d2d2d2d2d2",
    "rpo_ref": "refs/heads/main",
    "rpo_uri": "https://dev.azure.com/acme/Payments/_git/payments",
    "rpo_ver": "8c1d6f0f7a4b1e9b0d1c2a3f4e5d6c7b8a990011",
    "run_id": "2048",
}

AZURE_DEVOPS: Final = IssuerKind(
    name="azure-devops",
    title="Azure DevOps Pipelines",
    url=None,  # https://vstoken.dev.azure.com/<organization-id>
    accepts=r"https://vstoken\.dev\.azure\.com/[0-9a-fA-F-]{36}",
    required=frozenset({"sub", "jti", "org_id", "prj_id", "def_id", "run_id"}),
    claims=MappingProxyType({
        **STANDARD,
        "aud": Trust.FACT,
        "sub": Trust.NAME,
        "jti": Trust.ID,
        "org_id": Trust.ID,
        "prj_id": Trust.ID,
        "def_id": Trust.ID,  # within its project
        "run_id": Trust.ID,
        "rpo_id": Trust.NAME,  # a GUID for Azure Repos, but owner/name for a repository on GitHub
        "rpo_ver": Trust.FACT,
        "rpo_uri": Trust.NAME,
        "rpo_ref": Trust.USER,
    }),
    identity=identity,
    unsafe_triggers=unsafe_triggers,
    trigger_names=TRIGGERS,
    immutable=("project_id", "owner_id"),
    jti="required",
    max_lifetime=timedelta(minutes=30),
    chooses_audience=False,
    fixed_audience="api://AzureADTokenExchange",
    docs="https://learn.microsoft.com/azure/devops/pipelines/release/configure-workload-identity",
    examples=MappingProxyType({
        "azure-devops-branch": _MAIN,
        "azure-devops-tag": {**_MAIN, "rpo_ref": "refs/tags/v1.2.0"},
        "azure-devops-feature-branch": {**_MAIN, "rpo_ref": "refs/heads/faster-refunds"},
        "azure-devops-pull-request": {**_MAIN, "rpo_ref": "refs/pull/12/merge", "run_id": "2049"},
    }),
)  # fmt: skip
