"""Ten thousand policies of five statements, as a large organisation would have them, and a world for them."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from broker.backends.identity_token import IdentityToken
from broker.backends.seam import Backend
from broker.backends.ssh_ca import SshCa
from broker.issuers import ISSUERS
from broker.policy import Guardrails, Target
from broker.policy.load import PolicyText
from broker.policy.world import World

ENVIRONMENTS: Final = ("production", "staging", "preview")

_POLICY: Final = """\
policy: service-{n}
description: Deploys service {n} from its protected branches and release tags.
owners: [team-{team}@acme.example]
trust:
  - issuer: github
    job:
      project: acme-{team}/service-{n}
      project_id: "{id}"
      ref: refs/heads/main
      ref_protected: true
      environment: production
  - issuer: github
    job:
      project: acme-{team}/service-{n}
      project_id: "{id}"
      ref: {{glob: "refs/tags/v*"}}
      environment: [production, staging]
    claims:
      job_workflow_ref: {{glob: "acme-{team}/service-{n}/.github/workflows/*@refs/tags/v*"}}
  - issuer: github
    job:
      project_id: "{id}"
      ref: {{regex: "refs/heads/release-[0-9]+[.][0-9]+"}}
      environment: staging
      actor: {{not: "dependabot[bot]"}}
  - issuer: github
    job:
      project_id: "{id}"
      environment: preview
    allow_triggers: [pull_request]
    when: int(claims.run_attempt) < 4
  - issuer: gitlab
    job:
      project_id: "{id}"
      project: mirrors/acme-{team}/service-{n}
      ref: main
      ref_protected: true
grants:
  deploy:
    backend: token
    ttl: 10m
    with: {{audience: "https://service-{n}.acme.example"}}
  shell:
    backend: ssh
    ttl: 5m
    with: {{principals: [deploy]}}
examples:
  - name: a push to main deploys
    issuer: github
    claims: {{$like: github-environment, repository: acme-{team}/service-{n}, repository_id: "{id}", ref: refs/heads/main, ref_protected: "true", environment: production}}
    expect: {{allow: [deploy, shell]}}
  - name: a stranger gets nothing
    issuer: github
    claims: {{$like: github-environment, repository: acme-{team}/service-{n}, repository_id: "1{id}", ref: refs/heads/main, ref_protected: "true", environment: production}}
    expect: refuse
"""


def project_id(n: int) -> str:
    """The immutable id of service n's repository."""
    return str(500_000_000 + n)


def policies(count: int) -> Iterator[PolicyText]:
    """`count` files in folders of a hundred."""
    for n in range(count):
        file = f"team-{n // 100}/service-{n}.yaml"
        text = _POLICY.format(n=n, team=n // 100, id=project_id(n))
        yield PolicyText(file, file, text.encode())


def world(guardrails: Guardrails | None = None) -> World:
    """GitHub and GitLab as issuers, identity tokens and SSH certificates as backends."""
    kinds: dict[str, type[Backend]] = {"token": IdentityToken, "ssh": SshCa}
    targets = {
        name: Target(
            backend=name, kind=name, options=kind.Options, params=kind.Params, shortest=timedelta(seconds=30),
            longest=timedelta(hours=1),
        )
        for name, kind in kinds.items()
    }  # fmt: skip
    issuers = {name: ISSUERS[name] for name in ("github", "gitlab")}
    urls = {name: str(kind.url) for name, kind in issuers.items()}
    return World(issuers=issuers, issuer_urls=urls, targets=targets, guardrails=guardrails or Guardrails())
