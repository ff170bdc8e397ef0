"""A small world for policies: the true issuer kinds, one made-up backend that shows what reached it."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import Field

from broker.backends.seam import Strict, Templated
from broker.issuers import ISSUERS
from broker.model import GrantRequest, VerifiedToken
from broker.policy import Decision, Guardrails, PolicySet, Target, decide
from broker.policy.examples import example_token
from broker.policy.load import PolicyText, compile_all
from broker.policy.world import World

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class SafeOptions(Strict):
    role: Annotated[str, Templated(r"[a-z0-9-]{1,32}"), Field(pattern=r"^[a-z0-9{][a-z0-9{}_. -]*$")] = "reader"
    hosts: list[Annotated[str, Templated(r"[0-9]+")]] = Field(default_factory=list)
    tags: dict[str, Annotated[str, Templated(r"[a-z/]+")] | bool] = Field(default_factory=dict)
    level: int | None = None
    fixed: str | None = None


class SafeParams(Strict):
    session: Annotated[str, Field(pattern=r"^[a-z]{1,8}$")] | None = None
    size: int | None = None


class NeedyParams(Strict):
    public_key: str


def target(name: str, params: type[Strict] = SafeParams) -> Target:
    return Target(
        backend=name, kind=f"{name}-kind", options=SafeOptions, params=params,
        shortest=timedelta(seconds=30), longest=timedelta(hours=12),
    )  # fmt: skip


TARGETS = {"safe": target("safe"), "needy": target("needy", NeedyParams)}
URLS = {name: kind.url for name, kind in ISSUERS.items() if kind.url}


def world(guardrails: Guardrails | None = None, **issuers: Any) -> World:
    return World(issuers=issuers or ISSUERS, issuer_urls=URLS, targets=TARGETS, guardrails=guardrails or Guardrails())


POLICY = """\
policy: payments
owners: [team@acme.example]
{top}
trust:
  - issuer: github
    job:
      project_id: "512345678"
{job}
{rest}
grants:
  deploy:
    backend: {backend}
    ttl: 15m
{grant}
examples:
  - name: a stranger
    claims: {{$like: github-branch, repository_id: "1"}}
    expect: refuse
{examples}
"""


def indented(text: str, by: int) -> str:
    return "\n".join(" " * by + line for line in text.splitlines())


def policy_text(
    *, job: str = "", rest: str = "", grant: str = "", top: str = "", examples: str = "", backend: str = "safe"
) -> str:
    return POLICY.format(
        top=top,
        job=indented(job, 6),
        rest=indented(rest, 4),
        grant=indented(grant, 4),
        examples=indented(examples, 2),
        backend=backend,
    )


def load(*texts: str, guardrails: Guardrails | None = None, file: str = "payments.yaml") -> PolicySet:
    files = [
        PolicyText(f"{i}.yaml" if i else file, f"{i}.yaml" if i else file, text.encode())
        for i, text in enumerate(texts)
    ]
    return compile_all(files, world(guardrails), [])


def job_token(like: str = "github-environment", issuer: str = "github", /, **changed: Any) -> VerifiedToken:
    kind = ISSUERS[issuer]
    claims: Mapping[str, Any] = {**kind.examples[like], **changed}
    return example_token(issuer, kind, {name: value for name, value in claims.items() if value is not ...})


def ask(policies: PolicySet, token: VerifiedToken, grant: str = "payments/deploy", **kwargs: Any) -> Decision:
    return decide(policies, token, [GrantRequest(grant=grant, **kwargs)], now=NOON)
