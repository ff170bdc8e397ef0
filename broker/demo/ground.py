"""The files of a practice broker, written into a folder: broker.yaml, guardrails and one policy."""

from pathlib import Path
from typing import Final

BROKER: Final = """\
url: {url}
listen: 127.0.0.1:{port}
data: ./data
policies: ./policies
issuers:
  github: {{kind: github, url: "{issuer}"}}     # the practice CI signs like GitHub Actions
backends:
  token: {{kind: identity-token}}
  ssh: {{kind: ssh-ca}}
"""

POLICY: Final = """\
policy: payments
description: Deploys the payments service from its protected main branch.
owners: [team-payments@acme.example]

trust:
  - issuer: github
    job:
      project: acme/payments
      project_id: "512345678"        # an id survives a rename, and nobody can register it again
      ref: refs/heads/main
      ref_protected: true
      environment: production

grants:
  deploy:
    backend: token
    ttl: 10m
    with: {audience: "https://deploy.acme.example"}
  ssh:
    backend: ssh
    ttl: 5m
    with: {principals: [deploy]}

examples:
  - name: a push to main deploys
    claims: {$like: github-environment, repository: acme/payments, repository_id: "512345678"}
    expect: {allow: [deploy, ssh]}
  - name: a pull request gets nothing
    claims: {$like: github-pull-request, repository: acme/payments, repository_id: "512345678"}
    expect: refuse
"""


def lay(folder: Path, *, url: str, port: int, issuer: str) -> Path:
    """Write the files, keeping a policy that is there already; gives broker.yaml's path."""
    (folder / "policies").mkdir(parents=True, exist_ok=True)
    policy = folder / "policies" / "payments.yaml"
    if not policy.exists():
        policy.write_text(POLICY)
    config = folder / "broker.yaml"
    config.write_text(BROKER.format(url=url, port=port, issuer=issuer))
    return config
