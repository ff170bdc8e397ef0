"""Semaphore: one issuer per organisation, whose URL is the audience of every token (it cannot be chosen).

For a pull request `branch` holds the *target*, so `branch: main` is true of every pull request against main; `ref` and
`ref_type` tell. Debug jobs have a person inside. Source: Semaphore docs, "OpenID Connect".
"""

from datetime import timedelta
from types import MappingProxyType
from typing import Final

from broker.issuers.seam import STANDARD, Claims, IssuerKind, Trust
from broker.issuers.words import full_ref, page, ref_type, text
from broker.model import JobIdentity

PULL_REQUEST: Final = "pull-request"
UNKNOWN: Final = "unknown-job-type"
TRIGGERS: Final = MappingProxyType({
    PULL_REQUEST: "a pull request's pipeline: the code is its author's, and `branch` names the branch it aims at",
    "debug_job": "a person is attached to the job and can ask for anything by hand",
    "project_debug_job": "a person is attached to the job and can ask for anything by hand",
    UNKNOWN: "the job's type is none this broker knows",
})  # fmt: skip


def identity(claims: Claims) -> JobIdentity:
    """Semaphore's claims in the broker's words."""
    ref, job = full_ref(text(claims, "ref")), text(claims, "job_id")
    return JobIdentity(
        project=text(claims, "repo_slug") or text(claims, "prj"),
        project_id=text(claims, "prj_id"),
        owner=text(claims, "org"),
        owner_id=text(claims, "org_id"),
        ref=ref,
        ref_type="pull-request" if text(claims, "ref_type") == "pull-request" else ref_type(ref),
        trigger=text(claims, "trg"),
        run_id=text(claims, "wf_id"),
        job_id=job,
        run_url=page(text(claims, "iss"), "/jobs/{}", job),
    )


def unsafe_triggers(claims: Claims) -> tuple[str, ...]:
    """Pull requests, by any of the three claims that show one, and every job that is no pipeline's."""
    found = []
    asked = text(claims, "ref_type") == "pull-request" or text(claims, "pr") or text(claims, "pr_branch")
    if asked or ref_type(text(claims, "ref")) == "pull-request":
        found.append(PULL_REQUEST)
    job_type = text(claims, "job_type")
    if job_type != "pipeline_job":
        found.append(job_type if job_type in ("debug_job", "project_debug_job") else UNKNOWN)
    return tuple(found)


_SUB = "org:acme:project:f5f5f5f5-1111-4111-8111-f5f5f5f5f5f5:repo:payments:ref_type:"
_MAIN = {
    "sub": _SUB + "branch:ref:refs/heads/main",
    "jti": "f6f6f6f6-0000-4000-8000-0000000000c1",
    "branch": "main",
    "job_id": "f9f9f9f9-1111-4111-8111-f9f9f9f9f9f9",
    "job_type": "pipeline_job",
    "org": "acme",
    "org_id": "f0f0f0f0-1111-4111-8111-f0f0f0f0f0f0",
    "ppl_id": "f8f8f8f8-1111-4111-8111-f8f8f8f8f8f8",
    "pr": "",
    "pr_branch": "",
    "prj": "payments",
    "prj_id": "f5f5f5f5-1111-4111-8111-f5f5f5f5f5f5",
    "ref": "refs/heads/main",
    "ref_type": "branch",
    "repo": "payments",
    "repo_slug": "acme/payments",
    "tag": "",
    "trg": "workflow_run",
    "wf_id": "f7f7f7f7-1111-4111-8111-f7f7f7f7f7f7",
}

SEMAPHORE: Final = IssuerKind(
    name="semaphore",
    title="Semaphore",
    url=None,  # https://<organization>.semaphoreci.com
    accepts=r"https://[A-Za-z0-9.-]+(:[0-9]+)?",
    required=frozenset({"sub", "org_id", "prj_id", "job_id", "job_type"}),
    claims=MappingProxyType({
        **STANDARD,
        "aud": Trust.FACT,
        "sub": Trust.NAME,
        "sub127": Trust.NAME,
        "jti": Trust.ID,
        "org_id": Trust.ID,
        "prj_id": Trust.ID,
        "wf_id": Trust.ID,
        "ppl_id": Trust.ID,
        "job_id": Trust.ID,
        "ref_type": Trust.FACT,
        "job_type": Trust.FACT,
        "trg": Trust.FACT,
        "org": Trust.NAME,
        "prj": Trust.NAME,
        "repo": Trust.NAME,
        "repo_slug": Trust.NAME,
        "ref": Trust.USER,
        "branch": Trust.USER,
        "tag": Trust.USER,
        "pr": Trust.USER,
        "pr_branch": Trust.USER,
    }),
    identity=identity,
    unsafe_triggers=unsafe_triggers,
    trigger_names=TRIGGERS,
    immutable=("project_id", "owner_id"),
    jti="required",
    max_age=timedelta(hours=1),  # put into the job's environment once
    fresh_tokens=False,
    chooses_audience=False,
    fixed_audience="{url}",
    docs="https://docs.semaphoreci.com/reference/openid",
    examples=MappingProxyType({
        "semaphore-branch": _MAIN,
        "semaphore-tag": {
            **_MAIN,
            "sub": _SUB + "tag:ref:refs/tags/v1.2.0",
            "branch": "",
            "ref": "refs/tags/v1.2.0",
            "ref_type": "tag",
            "tag": "v1.2.0",
        },
        "semaphore-pull-request": {
            **_MAIN,
            "sub": _SUB + "pull-request:ref:refs/pull/12/head",
            "pr": "12",
            "pr_branch": "faster-refunds",
            "ref": "refs/pull/12/head",
            "ref_type": "pull-request",
        },
        "semaphore-debug-job": {**_MAIN, "job_type": "debug_job"},
    }),
)  # fmt: skip
