"""CircleCI: one issuer per organisation, or the root issuer for all of them.

A build of a fork that was given secrets carries the parent's ids, and nothing in the token says "fork": only `vcs-origin`
names the fork's repository. So `project` here is `vcs-origin` with its host (`github.com/acme/payments`), and a policy
needs it beside `project_id`. No claim names the event, so pull requests show only in a `refs/pull/` ref.
Source: CircleCI docs, "OpenID Connect tokens" and "OIDC tokens with custom claims".
"""

import re
from datetime import timedelta
from types import MappingProxyType
from typing import Final

from broker.issuers.seam import STANDARD, Claims, IssuerKind, Trust
from broker.issuers.words import full_ref, page, ref_type, text
from broker.model import JobIdentity

PREFIX: Final = "oidc.circleci.com/"
SSH_RERUN: Final = "ssh-rerun"
PULL_REQUEST: Final = "pull-request"
TRIGGERS: Final = MappingProxyType({
    SSH_RERUN: "the job was started again with SSH: a person has a shell inside it and can ask for anything by hand",
    PULL_REQUEST: "the ref is a pull request's: the code is its author's",
})  # fmt: skip
_USER: Final = re.compile(r"org/[^/]+/project/[^/]+/user/([0-9a-fA-F-]{36})(/vcs-origin/.*)?", re.DOTALL)


def identity(claims: Claims) -> JobIdentity:
    """CircleCI's claims in the broker's words. The user's id stands in `sub` only, whose shape nobody can change."""
    ref = full_ref(text(claims, PREFIX + "vcs-ref"))
    workflow = text(claims, PREFIX + "workflow-id")
    user = _USER.fullmatch(text(claims, "sub") or "")
    cloud = (text(claims, "iss") or "").startswith("https://oidc.circleci.com")
    return JobIdentity(
        project=text(claims, PREFIX + "vcs-origin"),
        project_id=text(claims, PREFIX + "project-id"),
        owner_id=text(claims, PREFIX + "org-id"),
        ref=ref,
        ref_type=ref_type(ref),
        workflow=text(claims, PREFIX + "pipeline-definition-id"),
        run_id=text(claims, PREFIX + "pipeline-id"),
        job_id=text(claims, PREFIX + "job-id"),
        actor_id=user[1] if user else None,
        run_url=page("https://circleci.com" if cloud else None, "/workflow-run/{}", workflow),
    )


def unsafe_triggers(claims: Claims) -> tuple[str, ...]:
    """An SSH re-run unless the token says in so many words that it is none; and a pull request's ref."""
    found = [] if claims.get(PREFIX + "ssh-rerun") is False else [SSH_RERUN]
    ref = claims.get(PREFIX + "vcs-ref")
    if type(ref) is str and ref_type(ref) == "pull-request":
        found.append(PULL_REQUEST)
    return tuple(found)


_ORG, _PROJECT = "0b6f0000-aaaa-4aaa-8aaa-0000000000a1", "1c7f0000-bbbb-4bbb-8bbb-0000000000b1"
_SUB = f"org/{_ORG}/project/{_PROJECT}/user/2d8f0000-cccc-4ccc-8ccc-0000000000c1/vcs-origin/"
_MAIN = {
    "sub": _SUB + "github.com/acme/payments/vcs-ref/refs/heads/main",
    PREFIX + "context-ids": ["3e9f0000-dddd-4ddd-8ddd-0000000000d1"],
    PREFIX + "job-id": "4faf0000-eeee-4eee-8eee-0000000000e1",
    PREFIX + "org-id": _ORG,
    PREFIX + "pipeline-definition-id": "50bf0000-ffff-4fff-8fff-0000000000f1",
    PREFIX + "pipeline-id": "61cf0000-aaaa-4aaa-8aaa-0000000000a2",
    PREFIX + "project-id": _PROJECT,
    PREFIX + "ssh-rerun": False,
    PREFIX + "vcs-origin": "github.com/acme/payments",
    PREFIX + "vcs-ref": "refs/heads/main",
    PREFIX + "workflow-id": "72df0000-bbbb-4bbb-8bbb-0000000000b2",
}

CIRCLECI: Final = IssuerKind(
    name="circleci",
    title="CircleCI",
    url=None,  # https://oidc.circleci.com/org/<organization-id>
    accepts=r"https://oidc\.circleci\.com(/org/[0-9a-f-]{36})?|https://[A-Za-z0-9.-]+(:[0-9]+)?(/org/[0-9a-f-]{36})?",
    required=frozenset({"sub", PREFIX + "org-id", PREFIX + "project-id", PREFIX + "job-id"}),
    claims=MappingProxyType({
        **STANDARD,
        "sub": Trust.ID,
        PREFIX + "org-id": Trust.ID,
        PREFIX + "project-id": Trust.ID,
        PREFIX + "pipeline-definition-id": Trust.ID,
        PREFIX + "pipeline-id": Trust.ID,
        PREFIX + "workflow-id": Trust.ID,
        PREFIX + "job-id": Trust.ID,
        PREFIX + "context-ids": Trust.FACT,  # contexts whose restrictions this job met: the approval lever
        PREFIX + "ssh-rerun": Trust.FACT,
        PREFIX + "vcs-origin": Trust.NAME,
        PREFIX + "vcs-ref": Trust.USER,
    }),
    identity=identity,
    unsafe_triggers=unsafe_triggers,
    trigger_names=TRIGGERS,
    immutable=("project_id", "owner_id"),
    docs="https://circleci.com/docs/openid-connect-tokens/",
    max_lifetime=timedelta(hours=2),
    examples=MappingProxyType({
        "circleci-branch": _MAIN,
        "circleci-tag": {
            **_MAIN,
            "sub": _SUB + "github.com/acme/payments/vcs-ref/refs/tags/v1.2.0",
            PREFIX + "vcs-ref": "refs/tags/v1.2.0",
        },
        "circleci-feature-branch": {
            **_MAIN,
            "sub": _SUB + "github.com/acme/payments/vcs-ref/refs/heads/faster-refunds",
            PREFIX + "context-ids": [],
            PREFIX + "vcs-ref": "refs/heads/faster-refunds",
        },
        "circleci-fork": {
            **_MAIN,
            "sub": _SUB + "github.com/mallory/payments/vcs-ref/refs/heads/main",
            PREFIX + "context-ids": [],
            PREFIX + "vcs-origin": "github.com/mallory/payments",
        },
        "circleci-ssh-rerun": {**_MAIN, PREFIX + "ssh-rerun": True},
    }),
)  # fmt: skip
