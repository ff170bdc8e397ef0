"""GitHub Actions: github.com, an enterprise's own issuer path, ghe.com and Enterprise Server.

Every value but the three times is a string; booleans are `"true"` and `"false"`. `sub` is never read: a repository's
administrator can change its shape, and since July 2026 it comes with or without ids inside. The ids stand in claims of
their own. Source: GitHub docs, "OpenID Connect reference"; pypi/warehouse's GitHub publisher.
"""

from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final

from broker.issuers.seam import STANDARD, Claims, IssuerKind, Trust
from broker.issuers.words import flag, full_ref, page, ref_type, text
from broker.model import JobIdentity

PULL_REQUEST_REF: Final = "pull-request-ref"

# Events whose jobs can run, or act on, what an outsider wrote. `merge_group` is left out: its code was put into the queue
# by somebody with write access, and its ref is the queue's own, which a policy on `ref` does not name.
EVENTS: Final = MappingProxyType({
    "pull_request": "runs the pull request's own code and workflow file; a fork's too where write tokens are sent to forks",
    "pull_request_review": "runs the pull request's own code, started by whoever comments on it",
    "pull_request_review_comment": "runs the pull request's own code, started by whoever comments on it",
    "pull_request_target": "an outsider starts it on the trusted branch; a checkout of the pull request is the outsider's code",
    "workflow_run": "follows a run that may be a fork's, with its artifacts and caches, under the trusted branch's name",
    "issue_comment": "any stranger's comment starts it on the trusted branch; its text reaches the job",
    "issues": "any stranger's issue starts it on the trusted branch; its text reaches the job",
    "discussion": "any stranger's discussion starts it on the trusted branch; its text reaches the job",
    "discussion_comment": "any stranger's comment starts it on the trusted branch; its text reaches the job",
    "gollum": "whoever may edit the wiki starts it on the trusted branch; page names reach the job",
})  # fmt: skip
TRIGGERS: Final = MappingProxyType({
    **EVENTS,
    PULL_REQUEST_REF: "the ref is a pull request's merge or head, whatever event started the job",
})  # fmt: skip


def _origin(issuer: Any) -> str | None:
    """Where people read the runs of this issuer."""
    if type(issuer) is not str:
        return None
    host, _, rest = issuer.removeprefix("https://").partition("/")
    if host == "token.actions.githubusercontent.com":
        return "https://github.com"
    if host.startswith("token.actions.") and host.endswith(".ghe.com"):
        return "https://" + host.removeprefix("token.actions.")
    if issuer.startswith("https://") and rest == "_services/token":
        return "https://" + host
    return None


def identity(claims: Claims) -> JobIdentity:
    """GitHub's claims in the broker's words. `workflow` is the file that defines this job, which may be a reusable one."""
    ref = full_ref(text(claims, "ref"))
    repository, run = text(claims, "repository"), text(claims, "run_id")
    return JobIdentity(
        project=repository,
        project_id=text(claims, "repository_id"),
        owner=text(claims, "repository_owner"),
        owner_id=text(claims, "repository_owner_id"),
        ref=ref,
        ref_type=ref_type(ref),
        ref_protected=flag(claims, "ref_protected"),
        environment=text(claims, "environment"),  # any writer may name one; no claim says whether it has rules
        trigger=text(claims, "event_name"),
        workflow=text(claims, "job_workflow_ref") or text(claims, "workflow_ref"),
        run_id=run,
        job_id=text(claims, "check_run_id"),
        attempt=text(claims, "run_attempt"),
        actor=text(claims, "actor"),
        actor_id=text(claims, "actor_id"),
        sha=text(claims, "sha"),
        runner=text(claims, "runner_environment"),
        run_url=page(_origin(claims.get("iss")), "/{}/actions/runs/{}", repository, run),
    )


def unsafe_triggers(claims: Claims) -> tuple[str, ...]:
    """The event, where it is one of EVENTS; and a pull request's ref under an event that does not say so."""
    event, ref = claims.get("event_name"), claims.get("ref")
    if type(event) is str and event in EVENTS:
        return (event,)
    return (PULL_REQUEST_REF,) if type(ref) is str and ref.startswith("refs/pull/") else ()


_MAIN = {
    "sub": "repo:acme/payments:ref:refs/heads/main",
    "jti": "5b1e0b0a-6c1f-4c39-9a5e-0d6a3f2e7c01",
    "actor": "dana",
    "actor_id": "7700101",
    "base_ref": "",
    "check_run_id": "41234567890",
    "event_name": "push",
    "head_ref": "",
    "job_workflow_ref": "acme/payments/.github/workflows/release.yml@refs/heads/main",
    "job_workflow_sha": "8c1d6f0f7a4b1e9b0d1c2a3f4e5d6c7b8a990011",
    "ref": "refs/heads/main",
    "ref_protected": "true",
    "ref_type": "branch",
    "repository": "acme/payments",
    "repository_id": "512345678",
    "repository_owner": "acme",
    "repository_owner_id": "9123456",
    "repository_visibility": "private",
    "run_attempt": "1",
    "run_id": "9876543210",
    "run_number": "318",
    "runner_environment": "github-hosted",
    "sha": "8c1d6f0f7a4b1e9b0d1c2a3f4e5d6c7b8a990011",
    "workflow": "Release",
    "workflow_ref": "acme/payments/.github/workflows/release.yml@refs/heads/main",
    "workflow_sha": "8c1d6f0f7a4b1e9b0d1c2a3f4e5d6c7b8a990011",
}
_PULL_REQUEST = {
    **_MAIN,
    "sub": "repo:acme/payments:pull_request",
    "base_ref": "main",
    "event_name": "pull_request",
    "head_ref": "faster-refunds",
    "job_workflow_ref": "acme/payments/.github/workflows/release.yml@refs/pull/77/merge",
    "ref": "refs/pull/77/merge",
    "ref_protected": "false",
    "workflow_ref": "acme/payments/.github/workflows/release.yml@refs/pull/77/merge",
}
_STRANGER = {"actor": "mallory", "actor_id": "6660001"}

GITHUB: Final = IssuerKind(
    name="github",
    title="GitHub Actions",
    url="https://token.actions.githubusercontent.com",
    accepts=r"https://token\.actions\.githubusercontent\.com(/[A-Za-z0-9-]+)?"
    r"|https://token\.actions\.[a-z0-9-]+\.ghe\.com(/[A-Za-z0-9-]+)?"
    r"|https://[A-Za-z0-9.-]+(:[0-9]+)?/_services/token",
    required=frozenset({"sub", "repository", "repository_id", "repository_owner_id", "event_name", "run_id"}),
    claims=MappingProxyType({
        **STANDARD,
        "sub": Trust.NAME,
        "jti": Trust.ID,
        "repository_id": Trust.ID,
        "repository_owner_id": Trust.ID,
        "enterprise_id": Trust.ID,
        "environment_node_id": Trust.ID,
        "actor_id": Trust.ID,
        "run_id": Trust.ID,
        "run_number": Trust.ID,
        "run_attempt": Trust.ID,
        "check_run_id": Trust.ID,
        "event_name": Trust.FACT,
        "ref_type": Trust.FACT,
        "ref_protected": Trust.FACT,
        "repository_visibility": Trust.FACT,
        "runner_environment": Trust.FACT,
        "sha": Trust.FACT,
        "workflow_sha": Trust.FACT,
        "job_workflow_sha": Trust.FACT,
        "issuer_scope": Trust.FACT,
        "repo_property_*": Trust.FACT,  # the owner chose to include them; some are editable by repository administrators
        "repository": Trust.NAME,
        "repository_owner": Trust.NAME,
        "enterprise": Trust.NAME,
        "actor": Trust.NAME,
        "workflow_ref": Trust.NAME,
        "job_workflow_ref": Trust.NAME,
        "ref": Trust.USER,
        "head_ref": Trust.USER,
        "base_ref": Trust.USER,
        "environment": Trust.USER,
        "workflow": Trust.USER,  # the `name:` text
    }),
    identity=identity,
    unsafe_triggers=unsafe_triggers,
    trigger_names=TRIGGERS,
    immutable=("project_id", "owner_id"),
    jti="required",
    max_lifetime=timedelta(hours=1),  # five minutes in every sample; the docs promise no number
    custom_subject=True,
    docs="https://docs.github.com/actions/reference/security/oidc",
    examples=MappingProxyType({
        "github-branch": _MAIN,
        "github-environment": {
            **_MAIN,
            "sub": "repo:acme/payments:environment:production",
            "environment": "production",
            "environment_node_id": "EN_kwDOHotYzs8AAAABQm9n",
        },
        "github-feature-branch": {
            **_MAIN,
            "sub": "repo:acme/payments:ref:refs/heads/faster-refunds",
            "job_workflow_ref": "acme/payments/.github/workflows/release.yml@refs/heads/faster-refunds",
            "ref": "refs/heads/faster-refunds",
            "ref_protected": "false",
            "workflow_ref": "acme/payments/.github/workflows/release.yml@refs/heads/faster-refunds",
        },
        "github-tag": {
            **_MAIN,
            "sub": "repo:acme/payments:ref:refs/tags/v1.2.0",
            "job_workflow_ref": "acme/payments/.github/workflows/release.yml@refs/tags/v1.2.0",
            "ref": "refs/tags/v1.2.0",
            "ref_type": "tag",
            "workflow_ref": "acme/payments/.github/workflows/release.yml@refs/tags/v1.2.0",
        },
        "github-reusable-workflow": {
            **_MAIN,
            "job_workflow_ref": "acme/ci/.github/workflows/deploy.yml@refs/tags/v3",
            "job_workflow_sha": "1f2e3d4c5b6a798877665544332211009f8e7d6c",
        },
        "github-schedule": {**_MAIN, "event_name": "schedule"},
        "github-workflow-dispatch": {**_MAIN, "event_name": "workflow_dispatch"},
        "github-pull-request": _PULL_REQUEST,
        "github-fork": {**_PULL_REQUEST, **_STRANGER, "head_ref": "main"},
        "github-pull-request-target": {**_MAIN, **_STRANGER, "event_name": "pull_request_target", "base_ref": "main"},
        "github-workflow-run": {**_MAIN, "event_name": "workflow_run"},
        "github-issue-comment": {**_MAIN, **_STRANGER, "event_name": "issue_comment"},
        "github-immutable-subject": {**_MAIN, "sub": "repo:acme@9123456/payments@512345678:ref:refs/heads/main"},
    }),
)  # fmt: skip
