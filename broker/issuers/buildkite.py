"""Buildkite: one issuer for all organisations.

Ids are signed only where the job asked (`--claim organization_id,pipeline_id`); a policy on them refuses a token without.
The job may replace `sub` by a value of its choice, so `sub` is never read. A pull request of a fork keeps the pipeline's
identity and shows nowhere in the token: a pipeline that may mint must not build forks.
Source: Buildkite docs, "OIDC in Buildkite Pipelines".
"""

from datetime import timedelta
from types import MappingProxyType
from typing import Final

from broker.issuers.seam import STANDARD, Claims, IssuerKind, Trust
from broker.issuers.words import ident, page, text
from broker.model import JobIdentity

UNKNOWN: Final = "unknown-source"
# A build made by hand or by API states its branch and commit freely: "main" is what somebody typed, not what was pushed.
TRIGGERS: Final = MappingProxyType({
    "ui": "a person typed branch and commit into a form; nothing was pushed to that branch",
    "api": "the caller of the API states any branch and commit",
    "trigger_job": "another pipeline states branch and commit, as it likes",
    UNKNOWN: "the token does not say who started the build in a word this broker knows",
})  # fmt: skip
_PUSHED: Final = frozenset({"webhook", "schedule"})


def identity(claims: Claims) -> JobIdentity:
    """Buildkite's claims in the broker's words: `project` is `<organization>/<pipeline>`, both renameable slugs."""
    organization, pipeline = text(claims, "organization_slug"), text(claims, "pipeline_slug")
    tag, branch = text(claims, "build_tag"), text(claims, "build_branch")
    build = ident(claims, "build_number")
    return JobIdentity(
        project=f"{organization}/{pipeline}" if organization and pipeline else None,
        project_id=text(claims, "pipeline_id"),
        owner=organization,
        owner_id=text(claims, "organization_id"),
        ref=f"refs/tags/{tag}" if tag else f"refs/heads/{branch}" if branch else None,
        ref_type="tag" if tag else "branch" if branch else None,
        trigger=text(claims, "build_source"),
        workflow=text(claims, "step_key"),
        run_id=text(claims, "build_id") or build,
        job_id=text(claims, "job_id"),
        sha=text(claims, "build_commit"),
        runner=text(claims, "runner_environment"),
        run_url=page("https://buildkite.com", "/{}/{}/builds/{}", organization, pipeline, build),
    )


def unsafe_triggers(claims: Claims) -> tuple[str, ...]:
    """Every source but a webhook's push and a schedule."""
    source = text(claims, "build_source")
    if source in _PUSHED:
        return ()
    return (source,) if source is not None and source in TRIGGERS else (UNKNOWN,)


_MAIN = {
    "sub": "organization:acme:pipeline:payments:ref:refs/heads/main:commit:"
    "8c1d6f0f7a4b1e9b0d1c2a3f4e5d6c7b8a990011:step:deploy",
    "agent_id": "0190aaaa-2222-7abc-8def-000000000002",
    "build_branch": "main",
    "build_commit": "8c1d6f0f7a4b1e9b0d1c2a3f4e5d6c7b8a990011",
    "build_id": "0190aaaa-3333-7abc-8def-000000000003",
    "build_number": 481,
    "build_source": "webhook",
    "cluster_id": "0180cccc-0000-4000-8000-000000000004",
    "job_id": "0190aaaa-1111-7abc-8def-000000000001",
    "organization_id": "0180aaaa-0000-4000-8000-000000000001",
    "organization_slug": "acme",
    "pipeline_id": "0180bbbb-0000-4000-8000-000000000002",
    "pipeline_slug": "payments",
    "queue_id": "0180dddd-0000-4000-8000-000000000005",
    "runner_environment": "self-hosted",
    "step_key": "deploy",
}

BUILDKITE: Final = IssuerKind(
    name="buildkite",
    title="Buildkite",
    url="https://agent.buildkite.com",
    accepts=r"https://agent\.buildkite\.com",
    required=frozenset({"sub", "organization_slug", "pipeline_slug", "build_number", "build_source", "job_id"}),
    claims=MappingProxyType({
        **STANDARD,
        "sub": Trust.USER,  # the job chooses what stands here
        "organization_id": Trust.ID,
        "pipeline_id": Trust.ID,
        "build_id": Trust.ID,
        "cluster_id": Trust.ID,
        "queue_id": Trust.ID,
        "job_id": Trust.ID,
        "agent_id": Trust.ID,
        "build_number": Trust.FACT,
        "build_source": Trust.FACT,
        "runner_environment": Trust.FACT,
        "organization_slug": Trust.NAME,
        "pipeline_slug": Trust.NAME,
        "cluster_name": Trust.NAME,
        "queue_key": Trust.NAME,
        "build_branch": Trust.USER,
        "build_tag": Trust.USER,
        "build_commit": Trust.USER,
        "step_key": Trust.USER,
        "agent_tag:*": Trust.USER,  # whoever configures the agent
        "https://aws.amazon.com/tags": Trust.USER,
    }),
    identity=identity,
    unsafe_triggers=unsafe_triggers,
    trigger_names=TRIGGERS,
    immutable=("project_id", "owner_id"),
    max_lifetime=timedelta(minutes=30),  # five minutes unless the job asks for more, which it has no need to
    custom_subject=True,
    docs="https://buildkite.com/docs/pipelines/security/oidc",
    examples=MappingProxyType({
        "buildkite-branch": _MAIN,
        "buildkite-tag": {
            **_MAIN,
            "sub": "organization:acme:pipeline:payments:ref:refs/tags/v1.2.0:commit:"
            "8c1d6f0f7a4b1e9b0d1c2a3f4e5d6c7b8a990011:step:deploy",
            "build_tag": "v1.2.0",
        },
        "buildkite-schedule": {**_MAIN, "build_source": "schedule"},
        "buildkite-ui": {**_MAIN, "build_source": "ui", "build_commit": "HEAD"},
        "buildkite-api": {**_MAIN, "build_source": "api"},
        "buildkite-trigger-job": {**_MAIN, "build_source": "trigger_job"},
    }),
)  # fmt: skip
