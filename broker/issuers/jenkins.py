"""Jenkins with the oidc-provider plugin: the controller, or one folder of it, is the issuer.

There are no ids: `sub` is the job's URL (or what an administrator's template says), whose last part in a multibranch job
is the branch's name. The gate is which folder owns the credential, so configure one issuer per folder and name the whole
`project`. A pull request's job is known by its name, `PR-12` or `MR-12`, which is Jenkins's default and can be renamed.
Source: jenkinsci/oidc-provider-plugin README and IdTokenConfiguration.java.
"""

import re
from datetime import timedelta
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote, urlsplit

from broker.issuers.seam import STANDARD, Claims, IssuerKind, Trust
from broker.issuers.words import ident, page, text
from broker.model import JobIdentity

PULL_REQUEST: Final = "pull-request"
NO_JOB: Final = "no-job"
TRIGGERS: Final = MappingProxyType({
    PULL_REQUEST: "a pull request's job of a multibranch project: its code and Jenkinsfile are the author's",
    NO_JOB: "the subject is no job's URL: a token made outside a build, or under a changed template",
})  # fmt: skip
_PULL_REQUEST: Final = re.compile(r"(PR|MR)-[0-9]+(-(head|merge))?", re.IGNORECASE)


def _job(claims: Claims) -> tuple[str, ...]:
    """`https://host/jenkins/job/release/job/payments/` is `("release", "payments")`; what is no such URL is `()`."""
    try:
        parts = urlsplit(text(claims, "sub") or "")
    except ValueError:
        return ()
    if parts.scheme not in ("https", "http") or parts.query or parts.fragment:
        return ()
    before, found, path = parts.path.partition("/job/")
    names = path.removesuffix("/").split("/job/") if found else []
    if not names or "/job" in before or any("/" in name for name in names):
        return ()
    decoded = tuple(unquote(name) for name in names)
    # No job's name holds a slash (a branch's is encoded twice), so one that does would only pass for another job's path.
    return () if any(not name or "/" in name for name in decoded) else decoded


def identity(claims: Claims) -> JobIdentity:
    """Jenkins's claims in the broker's words: `project` is the job's full name, folders first, branch last."""
    names, build = _job(claims), ident(claims, "build_number")
    return JobIdentity(
        project="/".join(names) or None,
        owner="/".join(names[:-1]) or None,
        run_id=build,
        run_url=page(text(claims, "sub") if names else None, "{}/", build),
    )


def unsafe_triggers(claims: Claims) -> tuple[str, ...]:
    """A pull request's job anywhere in the path, and a subject that is no job."""
    names = _job(claims)
    if not names:
        return (NO_JOB,)
    return (PULL_REQUEST,) if any(_PULL_REQUEST.fullmatch(name) for name in names) else ()


_JOB = "https://jenkins.acme.example/job/release/job/payments/job/"

JENKINS: Final = IssuerKind(
    name="jenkins",
    title="Jenkins",
    url=None,  # https://<jenkins>/oidc, or https://<jenkins>/oidc/job/<folder>
    accepts=r"https://[^/?#]+(/[^?#]*)?",  # an alternate issuer may be any static page
    required=frozenset({"sub", "build_number"}),
    claims=MappingProxyType({
        **STANDARD,
        "sub": Trust.NAME,
        "build_number": Trust.FACT,
        "*": Trust.USER,  # templates an administrator made of build variables: as trusted as the variable, which may be a branch
    }),
    identity=identity,
    unsafe_triggers=unsafe_triggers,
    trigger_names=TRIGGERS,
    immutable=(),
    max_age=timedelta(hours=1),
    fresh_tokens=False,
    chooses_audience=False,  # a property of the credential
    custom_subject=True,
    docs="https://plugins.jenkins.io/oidc-provider/",
    examples=MappingProxyType({
        "jenkins-branch": {"sub": _JOB + "main/", "build_number": 318},
        "jenkins-feature-branch": {"sub": _JOB + "faster-refunds/", "build_number": 2},
        "jenkins-pull-request": {"sub": _JOB + "PR-12/", "build_number": 4},
        "jenkins-outside-a-build": {"sub": "https://jenkins.acme.example/", "build_number": 0},
    }),
)  # fmt: skip
