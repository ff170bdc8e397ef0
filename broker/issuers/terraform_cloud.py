"""HCP Terraform and Terraform Enterprise: a run's plan and apply phases each get a token.

All customers share app.terraform.io, so the organisation's id has to stand in the policy; the guardrails see to that. A plan
runs the configuration of whoever opened a pull request, so every phase but `apply` is an unsafe trigger.
Source: HashiCorp docs, "Workload identity tokens".
"""

from datetime import timedelta
from types import MappingProxyType
from typing import Final

from broker.issuers.seam import STANDARD, Claims, IssuerKind, Trust
from broker.issuers.words import page, text
from broker.model import JobIdentity

UNKNOWN: Final = "unknown-phase"
TRIGGERS: Final = MappingProxyType({
    "plan": "a plan, such as a pull request's speculative one, runs the configuration and providers its author wrote",
    UNKNOWN: "the run's phase is none this broker knows",
})  # fmt: skip


def identity(claims: Claims) -> JobIdentity:
    """Terraform's claims in the broker's words: `project` is `<organization>/<workspace>`, the workspace being what acts."""
    organization, workspace = text(claims, "terraform_organization_name"), text(claims, "terraform_workspace_name")
    run = text(claims, "terraform_run_id")
    return JobIdentity(
        project=f"{organization}/{workspace}" if organization and workspace else None,
        project_id=text(claims, "terraform_workspace_id"),
        owner=organization,
        owner_id=text(claims, "terraform_organization_id"),
        trigger=text(claims, "terraform_run_phase"),
        run_id=run,
        run_url=page(text(claims, "iss"), "/app/{}/workspaces/{}/runs/{}", organization, workspace, run),
    )


def unsafe_triggers(claims: Claims) -> tuple[str, ...]:
    """Everything but an apply."""
    phase = text(claims, "terraform_run_phase")
    return () if phase == "apply" else ("plan",) if phase == "plan" else (UNKNOWN,)


_WORKSPACE = "organization:acme:project:core:workspace:payments-prod"
_APPLY = {
    "sub": _WORKSPACE + ":run_phase:apply",
    "jti": "d3d3d3d3-0000-4000-8000-0000000000c1",
    "terraform_full_workspace": _WORKSPACE,
    "terraform_organization_id": "org-Aa11Bb22Cc33Dd44",
    "terraform_organization_name": "acme",
    "terraform_project_id": "prj-Ee55Ff66Gg77Hh88",
    "terraform_project_name": "core",
    "terraform_run_id": "run-Mm33Nn44Oo55Pp66",
    "terraform_run_phase": "apply",
    "terraform_workspace_id": "ws-Ii99Jj00Kk11Ll22",
    "terraform_workspace_name": "payments-prod",
}

TERRAFORM_CLOUD: Final = IssuerKind(
    name="terraform-cloud",
    title="HCP Terraform",
    url="https://app.terraform.io",
    accepts=r"https://[A-Za-z0-9.-]+(:[0-9]+)?",
    required=frozenset({"sub", "terraform_organization_id", "terraform_workspace_id", "terraform_run_id"}),
    claims=MappingProxyType({
        **STANDARD,
        "sub": Trust.NAME,
        "jti": Trust.ID,
        "terraform_organization_id": Trust.ID,
        "terraform_project_id": Trust.ID,
        "terraform_workspace_id": Trust.ID,
        "terraform_run_id": Trust.ID,
        "terraform_run_phase": Trust.FACT,
        "terraform_organization_name": Trust.NAME,
        "terraform_project_name": Trust.NAME,
        "terraform_workspace_name": Trust.NAME,
        "terraform_full_workspace": Trust.NAME,
    }),
    identity=identity,
    unsafe_triggers=unsafe_triggers,
    trigger_names=TRIGGERS,
    immutable=("project_id", "owner_id"),
    jti="required",
    max_age=timedelta(hours=1),
    max_lifetime=timedelta(hours=24),  # the phase's timeout; max_age is what limits a stolen one
    fresh_tokens=False,
    chooses_audience=False,  # a variable of the workspace
    docs="https://developer.hashicorp.com/terraform/cloud-docs/workspaces/dynamic-provider-credentials/workload-identity-tokens",
    examples=MappingProxyType({
        "terraform-cloud-apply": _APPLY,
        "terraform-cloud-plan": {**_APPLY, "sub": _WORKSPACE + ":run_phase:plan", "terraform_run_phase": "plan"},
    }),
)  # fmt: skip
