"""GitLab CI/CD: gitlab.com and self-managed.

A job declares its token in YAML (`id_tokens:`), gets one, and can get no other: the token lives as long as the job's
timeout, so the broker's own `max_age` counts. In a merge request from a fork that runs in the parent, `project_id` is the
fork's and `job_project_id` the parent's (18.4 and later; older servers sign the parent's for both, and only
`pipeline_source` tells). Source: GitLab docs, "ID token authentication"; gitlab-org/gitlab lib/gitlab/ci/jwt_v2.rb.
"""

from datetime import timedelta
from types import MappingProxyType
from typing import Final

from broker.issuers.seam import STANDARD, Claims, IssuerKind, Trust
from broker.issuers.words import flag, full_ref, ident, page, ref_type, text
from broker.model import JobIdentity

FORK: Final = "fork"
TRIGGERS: Final = MappingProxyType({
    "merge_request_event": "runs the merge request's own code and YAML; a fork's too when a member starts it in the parent",
    "external_pull_request_event": "runs the code of a pull request on a mirrored host, whose forks GitLab does not know",
    FORK: "the job runs here with another project's code: project_id and job_project_id differ",
})  # fmt: skip
_QUALIFIED: Final = {"branch": "refs/heads/", "tag": "refs/tags/"}


def _fork(claims: Claims) -> bool | None:
    source, runs = ident(claims, "project_id"), ident(claims, "job_project_id")
    return None if source is None or runs is None else source != runs


def _ref(claims: Claims) -> str | None:
    """`ref_path`; on servers too old to sign it, built from `ref` and `ref_type`, for `ref` alone may be a branch or a tag."""
    if (path := full_ref(text(claims, "ref_path"))) is not None:
        return path
    prefix, short = _QUALIFIED.get(text(claims, "ref_type") or ""), text(claims, "ref")
    return None if prefix is None or short is None else prefix + short


def identity(claims: Claims) -> JobIdentity:
    """GitLab's claims in the broker's words. In a merge request's pipeline the ref is the *source* branch."""
    ref, trigger = _ref(claims), text(claims, "pipeline_source")
    job = ident(claims, "job_id")
    home = text(claims, "job_project_path") or text(claims, "project_path")  # where the job's page is
    issuer = text(claims, "iss")
    return JobIdentity(
        project=text(claims, "project_path"),
        project_id=ident(claims, "project_id"),
        owner=text(claims, "namespace_path"),
        owner_id=ident(claims, "namespace_id"),
        ref=ref,
        ref_type="pull-request" if trigger == "merge_request_event" else ref_type(ref),
        ref_protected=flag(claims, "ref_protected"),
        environment=text(claims, "environment"),
        environment_protected=flag(claims, "environment_protected"),
        trigger=trigger,
        fork=_fork(claims),
        workflow=text(claims, "ci_config_ref_uri"),
        run_id=ident(claims, "pipeline_id"),
        job_id=job,
        actor=text(claims, "user_login"),
        actor_id=ident(claims, "user_id"),
        sha=text(claims, "sha"),
        runner=text(claims, "runner_environment"),
        run_url=page(issuer.rstrip("/") if issuer else None, "/{}/-/jobs/{}", home, job),
    )


def unsafe_triggers(claims: Claims) -> tuple[str, ...]:
    """Merge requests of any kind, and a project that runs another one's code."""
    source = claims.get("pipeline_source")
    found = [source] if type(source) is str and source in TRIGGERS and source != FORK else []
    ref = claims.get("ref_path")
    if not found and type(ref) is str and ref.startswith("refs/merge-requests/"):
        found.append("merge_request_event")  # a child pipeline (`parent_pipeline`) of a merge request's pipeline
    if _fork(claims):
        found.append(FORK)
    return tuple(found)


_MAIN = {
    "sub": "project_path:acme/payments:ref_type:branch:ref:main",
    "jti": "b7b0f0a4-3d0c-4b3c-9c1d-51f4b0d7a0c1",
    "ci_config_ref_uri": "gitlab.com/acme/payments//.gitlab-ci.yml@refs/heads/main",
    "ci_config_sha": "8c1d6f0f7a4b1e9b0d1c2a3f4e5d6c7b8a990011",
    "deployment_tier": "production",
    "environment": "production",
    "environment_action": "start",
    "environment_protected": "true",
    "groups_direct": ["acme"],
    "job_id": "7800456",
    "job_namespace_id": "3100",
    "job_namespace_path": "acme",
    "job_project_id": "20011",
    "job_project_path": "acme/payments",
    "namespace_id": "3100",
    "namespace_path": "acme",
    "pipeline_id": "1200345",
    "pipeline_source": "push",
    "project_id": "20011",
    "project_path": "acme/payments",
    "project_visibility": "private",
    "ref": "main",
    "ref_path": "refs/heads/main",
    "ref_protected": "true",
    "ref_type": "branch",
    "runner_environment": "gitlab-hosted",
    "runner_id": 42,
    "sha": "8c1d6f0f7a4b1e9b0d1c2a3f4e5d6c7b8a990011",
    "user_access_level": "maintainer",
    "user_email": "dana@acme.example",
    "user_id": "5501",
    "user_identities": [],
    "user_login": "dana",
}
_NO_ENVIRONMENT = {
    name: value
    for name, value in _MAIN.items()
    if name not in ("deployment_tier", "environment", "environment_action", "environment_protected")
}
_MERGE_REQUEST = {
    **_NO_ENVIRONMENT,
    "sub": "project_path:acme/payments:ref_type:branch:ref:faster-refunds",
    "ci_config_ref_uri": "gitlab.com/acme/payments//.gitlab-ci.yml@refs/heads/faster-refunds",
    "pipeline_source": "merge_request_event",
    "ref": "faster-refunds",
    "ref_path": "refs/heads/faster-refunds",
    "ref_protected": "false",
}

GITLAB: Final = IssuerKind(
    name="gitlab",
    title="GitLab CI/CD",
    url="https://gitlab.com",
    accepts=r"https://[^/?#]+(/[^?#]*)?",
    required=frozenset({"sub", "project_id", "project_path", "namespace_id", "pipeline_source", "job_id"}),
    claims=MappingProxyType({
        **STANDARD,
        "sub": Trust.NAME,
        "jti": Trust.ID,
        "project_id": Trust.ID,
        "namespace_id": Trust.ID,
        "job_project_id": Trust.ID,
        "job_namespace_id": Trust.ID,
        "user_id": Trust.ID,
        "pipeline_id": Trust.ID,
        "job_id": Trust.ID,
        "runner_id": Trust.ID,
        "pipeline_source": Trust.FACT,
        "ref_type": Trust.FACT,
        "ref_protected": Trust.FACT,
        "environment_protected": Trust.FACT,
        "user_access_level": Trust.FACT,
        "runner_environment": Trust.FACT,
        "sha": Trust.FACT,
        "ci_config_sha": Trust.FACT,
        "project_visibility": Trust.FACT,
        "job_source": Trust.FACT,
        "job_config": Trust.FACT,
        "project_path": Trust.NAME,
        "namespace_path": Trust.NAME,
        "job_project_path": Trust.NAME,
        "job_namespace_path": Trust.NAME,
        "user_login": Trust.NAME,
        "user_email": Trust.NAME,
        "user_identities": Trust.NAME,
        "groups_direct": Trust.NAME,
        "ci_config_ref_uri": Trust.NAME,
        "ref": Trust.USER,
        "ref_path": Trust.USER,
        "environment": Trust.USER,
        "deployment_tier": Trust.USER,
        "environment_action": Trust.USER,
        "target_audience": Trust.USER,
    }),
    identity=identity,
    unsafe_triggers=unsafe_triggers,
    trigger_names=TRIGGERS,
    immutable=("project_id", "owner_id"),
    jti="required",
    max_age=timedelta(hours=1),  # one token for the whole job: it may build for a while before it asks
    max_lifetime=timedelta(hours=12),  # exp is the job's timeout; `timeout: 24h` would be a day's worth of replay
    fresh_tokens=False,
    chooses_audience=False,  # the YAML says it before the job starts
    custom_subject=True,
    docs="https://docs.gitlab.com/ci/secrets/id_token_authentication/",
    examples=MappingProxyType({
        "gitlab-protected-branch": _NO_ENVIRONMENT,
        "gitlab-environment": _MAIN,
        "gitlab-tag": {
            **_NO_ENVIRONMENT,
            "sub": "project_path:acme/payments:ref_type:tag:ref:v1.2.0",
            "ci_config_ref_uri": "gitlab.com/acme/payments//.gitlab-ci.yml@refs/tags/v1.2.0",
            "ref": "v1.2.0",
            "ref_path": "refs/tags/v1.2.0",
            "ref_type": "tag",
        },
        "gitlab-feature-branch": {**_MERGE_REQUEST, "pipeline_source": "push"},
        "gitlab-schedule": {**_NO_ENVIRONMENT, "pipeline_source": "schedule"},
        "gitlab-merge-request": _MERGE_REQUEST,
        "gitlab-fork-merge-request": {
            **_MERGE_REQUEST,
            "sub": "project_path:mallory/payments:ref_type:branch:ref:main",
            "ci_config_ref_uri": "gitlab.com/mallory/payments//.gitlab-ci.yml@refs/heads/main",
            "namespace_id": "66600",
            "namespace_path": "mallory",
            "project_id": "77001",
            "project_path": "mallory/payments",
            "ref": "main",
            "ref_path": "refs/heads/main",
        },
    }),
)  # fmt: skip
