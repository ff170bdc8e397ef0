"""Rules about `sub` and `aud`: the claims that look most like an identity, and are the least worth."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from broker.authoring.lint.patterns import opens
from broker.authoring.lint.seam import Desk, Problem

# GitHub docs, "OpenID Connect reference": repo:<owner>@<id>/<name>@<id>:..., since 2026; repo:<owner>/<name>:... before.
_WITH_IDS: Final = re.compile(r"repo:[^/@:]+@[0-9]+/[^/@:]+@[0-9]+:.*")
_WITHOUT: Final = re.compile(r"repo:[^/@:]+/[^/@:]+:.*")
# Audiences that many services accept by default: a token with one is good wherever somebody left the default in place.
SHARED: Final[Mapping[str, str]] = {
    "sts.amazonaws.com": "AWS, in every account that has this broker as an identity provider",
    "sts.amazonaws.com.cn": "AWS in China, in every account that has this broker as an identity provider",
    "api://AzureADTokenExchange": "Microsoft Entra, in every tenant",
    "api://AzureADTokenExchangeUSGov": "Microsoft Entra for the US government, in every tenant",
    "sigstore": "every Sigstore instance",
    "https://kubernetes.default.svc": "every Kubernetes cluster with the default audience",
    "https://kubernetes.default.svc.cluster.local": "every Kubernetes cluster with the default audience",
    "https://iam.googleapis.com/": "Google Cloud's security token service",
    "vault": "every Vault with the usual audience",
    "https://vault": "every Vault with the usual audience",
    "pypi": "the Python Package Index",
}


def subject_pattern(desk: Desk) -> Iterator[Problem]:
    """`sub` by its shape where somebody can change the shape."""
    for stated in desk.statements:
        if not stated.kind.custom_subject:
            continue
        for said in stated.said:
            if not (said.raw and said.name == "sub"):
                continue
            found = next(opens(said.condition.spec), None)
            if found is not None:
                yield Problem(
                    path=said.path,
                    message=f"{found.shown} goes by the shape of sub, which {stated.kind.title} lets people change: an "
                    "administrator, or the job itself, puts other text where this expects a branch, and every job that "
                    "then fits gets every grant here",
                    remedy="take `sub` out and write what it was to say: `project_id`, `ref`, `ref_protected: true`",
                )


def one_subject_form(desk: Desk) -> Iterator[Problem]:
    """GitHub's subject in one of its two forms only."""
    for stated in desk.statements:
        if stated.kind.name != "github":
            continue
        for said in stated.said:
            if not (said.raw and said.name == "sub") or said.condition.exact is None:
                continue
            values = [value for value in said.condition.exact if isinstance(value, str)]
            new = any(_WITH_IDS.fullmatch(value) for value in values)
            old = any(_WITHOUT.fullmatch(value) for value in values)
            if old == new:
                continue
            has, lacks = ("with", "without") if new else ("without", "with")
            yield Problem(
                path=said.path,
                message=f"this is GitHub's subject {has} ids in it only; a repository that signs the form {lacks} them is "
                "refused from the day it is switched over"
                + ("" if new else ", and until then whoever takes the name over signs the very same text"),
                remedy="take `sub` out: `project_id`, `ref` and `environment` say the same in both forms. Or list both: "
                '`sub: ["repo:acme/payments:ref:refs/heads/main", "repo:acme@9123456/payments@512345678:ref:refs/heads/main"]`',
            )


def issuer_audience_shared(desk: Desk) -> Iterator[Problem]:
    """An issuer whose tokens all carry the same audience."""
    for stated in desk.statements:
        fixed = stated.kind.fixed_audience
        if fixed is not None:
            shown = fixed if "{" not in fixed else "one audience of its own"
            yield Problem(
                path=("trust", stated.number, "issuer"),
                message=f"{stated.kind.title} puts {shown} into every token, whoever it is for: any other service that a job "
                "shows its token to can bring it here first, and gets every grant here",
                remedy="show such tokens to this broker only; keep `max_age` short in broker.yaml, and say so in a silence "
                "(`# jobkey: allow issuer-audience-shared because ...`)",
            )


def token_audience_shared(desk: Desk) -> Iterator[Problem]:
    """An identity token that more than one service takes."""
    targets = desk.world.targets or {}
    for name, grant in desk.checked.written.grants.items():
        target = targets.get(grant.backend)
        if target is None or target.kind != "identity-token":
            continue
        path = ("grants", name, "with", "audience")
        audience = grant.options["audience"]
        listed = [audience] if isinstance(audience, str) else list(audience)
        if len(listed) > 1:
            yield Problem(
                path=path,
                message=f"one token for {len(listed)} services: each of them can take the token that it was shown to the "
                "others, and is the job there",
                remedy="make a grant for each service; a job asks for several at once",
            )
        for item in listed:
            if item in SHARED:
                yield Problem(
                    path=path,
                    message=f"{item} is the audience of {SHARED[item]}: a token that was made for one of them is good at "
                    "all, and only `sub` keeps this grant's from every other grant's",
                    remedy=f"give the service an audience of its own, `audience: {_own(item)}`, and let it check `sub` too"
                    + (
                        "; for AWS, a backend of kind aws-sts needs no token in the job at all" if "aws" in item else ""
                    ),
                )


def _own(audience: str) -> str:
    return "https://sts.amazonaws.com/payments-prod" if "amazonaws" in audience else "https://service.acme.example"
