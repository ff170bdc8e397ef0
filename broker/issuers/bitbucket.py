"""Bitbucket Pipelines (Cloud): one issuer per workspace. UUIDs keep their braces, as signed.

No claim tells a branch from a tag, or a push from a pull request or a custom pipeline, so `ref` stays absent: a tag called
`main` must not pass for the branch (`branchName` is still there for `claims:`). The deployment environment, which Atlassian
lets one restrict, is the only gate in the token; a token without one is an unsafe trigger.
Source: Atlassian support, "Integrate Pipelines with resource servers using OIDC".
"""

import re
from datetime import timedelta
from types import MappingProxyType
from typing import Final

from broker.issuers.seam import STANDARD, Claims, IssuerKind, Trust
from broker.issuers.words import text
from broker.model import JobIdentity

NO_ENVIRONMENT: Final = "no-environment"
TRIGGERS: Final = MappingProxyType({
    NO_ENVIRONMENT: "no deployment environment: any branch, tag, pull request or hand-started pipeline of the repository",
})  # fmt: skip
_WORKSPACE: Final = re.compile(r"https://[^/]+/2\.0/workspaces/([^/]+)/pipelines-config/identity/oidc")


def identity(claims: Claims) -> JobIdentity:
    """Bitbucket's claims in the broker's words; the environment is its UUID, which a rename does not change."""
    workspace = _WORKSPACE.fullmatch(text(claims, "iss") or "")
    return JobIdentity(
        project_id=text(claims, "repositoryUuid"),
        owner=workspace[1] if workspace else None,
        owner_id=text(claims, "workspaceUuid"),
        environment=text(claims, "deploymentEnvironmentUuid"),
        run_id=text(claims, "pipelineUuid"),
        job_id=text(claims, "stepUuid"),
        actor_id=text(claims, "accountUuid"),
        sha=text(claims, "commitSha"),
    )


def unsafe_triggers(claims: Claims) -> tuple[str, ...]:
    """Every job that is not a deployment step."""
    return () if text(claims, "deploymentEnvironmentUuid") else (NO_ENVIRONMENT,)


_BRANCH = {
    "sub": "{22222222-bbbb-4bbb-8bbb-222222222222}:{33333333-cccc-4ccc-8ccc-333333333333}",
    "accountUuid": "{66666666-ffff-4fff-8fff-666666666666}",
    "branchName": "main",
    "commitSha": "8c1d6f0f7a4b1e9b0d1c2a3f4e5d6c7b8a990011",
    "pipelineUuid": "{55555555-eeee-4eee-8eee-555555555555}",
    "repositoryUuid": "{22222222-bbbb-4bbb-8bbb-222222222222}",
    "stepUuid": "{33333333-cccc-4ccc-8ccc-333333333333}",
    "workspaceUuid": "{11111111-aaaa-4aaa-8aaa-111111111111}",
}

BITBUCKET: Final = IssuerKind(
    name="bitbucket",
    title="Bitbucket Pipelines",
    url=None,  # https://api.bitbucket.org/2.0/workspaces/<workspace>/pipelines-config/identity/oidc
    accepts=r"https://api\.bitbucket\.org/2\.0/workspaces/[A-Za-z0-9_.-]+/pipelines-config/identity/oidc",
    required=frozenset({"sub", "workspaceUuid", "repositoryUuid", "stepUuid"}),
    claims=MappingProxyType({
        **STANDARD,
        "sub": Trust.ID,
        "workspaceUuid": Trust.ID,
        "repositoryUuid": Trust.ID,
        "pipelineUuid": Trust.ID,
        "pipelineRunUuid": Trust.ID,
        "stepUuid": Trust.ID,
        "deploymentEnvironmentUuid": Trust.ID,
        "accountUuid": Trust.ID,
        "commitSha": Trust.FACT,
        "compliant": Trust.FACT,
        "branchName": Trust.USER,
    }),
    identity=identity,
    unsafe_triggers=unsafe_triggers,
    trigger_names=TRIGGERS,
    immutable=("project_id", "owner_id"),
    max_age=timedelta(hours=1),  # put into the step's environment once, when it starts
    fresh_tokens=False,
    chooses_audience=False,  # the YAML says it before the step starts
    docs="https://support.atlassian.com/bitbucket-cloud/docs/integrate-pipelines-with-resource-servers-using-oidc/",
    examples=MappingProxyType({
        "bitbucket-environment": {
            **_BRANCH,
            "sub": "{22222222-bbbb-4bbb-8bbb-222222222222}:{44444444-dddd-4ddd-8ddd-444444444444}:"
            "{33333333-cccc-4ccc-8ccc-333333333333}",
            "deploymentEnvironmentUuid": "{44444444-dddd-4ddd-8ddd-444444444444}",
        },
        "bitbucket-branch": _BRANCH,
    }),
)  # fmt: skip
