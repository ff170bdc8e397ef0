"""Forgejo Actions: GitHub's words, one issuer per instance (`https://<instance>/api/actions`).

The id claims come with newer versions only; a policy on them refuses a token without. `sub` joins names and ids by hyphens
(`repo:acme-12/payments-311:...`), which a user called `acme-12` can produce as well, so it is never read.
Source: Forgejo docs, "OpenID Connect"; Forgejo pull request 12355.
"""

from datetime import timedelta
from types import MappingProxyType
from typing import Final

from broker.issuers.github import TRIGGERS, unsafe_triggers
from broker.issuers.seam import STANDARD, Claims, IssuerKind, Trust
from broker.issuers.words import flag, full_ref, page, ref_type, text
from broker.model import JobIdentity

_PATH: Final = "/api/actions"


def identity(claims: Claims) -> JobIdentity:
    """Forgejo's claims in the broker's words. A run's page goes by its number within the repository."""
    ref, repository = full_ref(text(claims, "ref")), text(claims, "repository")
    issuer, number = text(claims, "iss") or "", text(claims, "run_number")
    origin = issuer.removesuffix(_PATH) if issuer.endswith(_PATH) else None
    return JobIdentity(
        project=repository,
        project_id=text(claims, "repository_id"),
        owner=text(claims, "repository_owner"),
        owner_id=text(claims, "repository_owner_id"),
        ref=ref,
        ref_type=ref_type(ref),
        ref_protected=flag(claims, "ref_protected"),
        trigger=text(claims, "event_name"),
        workflow=text(claims, "workflow_ref"),
        run_id=text(claims, "run_id"),
        attempt=text(claims, "run_attempt"),
        actor=text(claims, "actor"),
        actor_id=text(claims, "actor_id"),
        sha=text(claims, "sha"),
        run_url=page(origin, "/{}/actions/runs/{}", repository, number),
    )


_MAIN = {
    "sub": "repo:acme-12/payments-311:ref:refs/heads/main",
    "actor": "dana",
    "actor_id": "57",
    "base_ref": "",
    "event_name": "push",
    "head_ref": "",
    "ref": "refs/heads/main",
    "ref_protected": "true",
    "ref_type": "branch",
    "repository": "acme/payments",
    "repository_id": "311",
    "repository_owner": "acme",
    "repository_owner_id": "12",
    "run_attempt": "1",
    "run_id": "900",
    "run_number": "77",
    "sha": "8c1d6f0f7a4b1e9b0d1c2a3f4e5d6c7b8a990011",
    "workflow": "release.yml",
    "workflow_ref": "acme/payments/.forgejo/workflows/release.yml@refs/heads/main",
}

FORGEJO: Final = IssuerKind(
    name="forgejo",
    title="Forgejo Actions",
    url=None,
    accepts=r"https://[^/?#]+(/[^?#]*)?/api/actions",
    required=frozenset({"sub", "repository", "event_name", "run_id"}),
    claims=MappingProxyType({
        **STANDARD,
        "sub": Trust.NAME,
        "jti": Trust.ID,
        "repository_id": Trust.ID,
        "repository_owner_id": Trust.ID,
        "actor_id": Trust.ID,
        "run_id": Trust.ID,
        "run_number": Trust.ID,
        "run_attempt": Trust.ID,
        "event_name": Trust.FACT,
        "ref_type": Trust.FACT,
        "ref_protected": Trust.FACT,
        "sha": Trust.FACT,
        "repository": Trust.NAME,
        "repository_owner": Trust.NAME,
        "actor": Trust.NAME,
        "workflow_ref": Trust.NAME,
        "ref": Trust.USER,
        "head_ref": Trust.USER,
        "base_ref": Trust.USER,
        "workflow": Trust.USER,
    }),
    identity=identity,
    unsafe_triggers=unsafe_triggers,
    trigger_names=TRIGGERS,
    immutable=("project_id", "owner_id"),
    max_lifetime=timedelta(hours=2),
    custom_subject=False,
    docs="https://forgejo.org/docs/latest/user/actions/security-openid-connect/",
    examples=MappingProxyType({
        "forgejo-branch": _MAIN,
        "forgejo-tag": {
            **_MAIN,
            "sub": "repo:acme-12/payments-311:ref:refs/tags/v1.2.0",
            "ref": "refs/tags/v1.2.0",
            "ref_type": "tag",
            "workflow_ref": "acme/payments/.forgejo/workflows/release.yml@refs/tags/v1.2.0",
        },
        "forgejo-pull-request": {
            **_MAIN,
            "sub": "repo:acme-12/payments-311:pull_request",
            "base_ref": "main",
            "event_name": "pull_request",
            "head_ref": "faster-refunds",
            "ref": "refs/pull/9/head",
            "ref_protected": "false",
            "workflow_ref": "acme/payments/.forgejo/workflows/release.yml@refs/pull/9/head",
        },
        "forgejo-pull-request-target": {**_MAIN, "event_name": "pull_request_target", "actor": "mallory", "actor_id": "4501"},
    }),
)  # fmt: skip
