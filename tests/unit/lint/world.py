"""A world for the linter: every issuer kind, every backend kind, as a broker.yaml configures them."""

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

from broker.authoring.finding import Finding
from broker.authoring.lint import History, lint_guardrails, lint_policy, lint_set
from broker.catalog import policy_inputs
from broker.documents import parse, validated
from broker.issuers import ISSUERS
from broker.policy.guardrails import Guardrails, read_guardrails
from broker.policy.load import Checked, PolicyText, check_text
from broker.policy.world import World
from broker.settings import BrokerFile, Settings

URL = "https://broker.acme.example"
BROKER = f"""\
url: {URL}
listen: 127.0.0.1:8400
issuers: {{github: {{kind: github}}}}
backends:
  token: {{kind: identity-token}}
  ssh: {{kind: ssh-ca}}
  vault: {{kind: vault, url: "https://vault.acme.example:8200", auth: {{token: "env:VAULT_TOKEN"}}}}
  aws: {{kind: aws-sts, region: eu-central-1, auth: {{web_identity: "arn:aws:iam::111122223333:role/jobkey"}}}}
"""
URLS = {name: kind.url for name, kind in ISSUERS.items() if kind.url}
LOOSE = Guardrails(require_immutable_id=False)  # so that a policy which trusts a name alone loads, and is linted


@cache
def world() -> World:
    document = parse(BROKER, "broker.yaml")
    _, _, targets = policy_inputs(Settings(validated(BrokerFile, document), document, Path("/nonexistent")))
    return World(issuers=ISSUERS, issuer_urls=URLS, targets=targets, guardrails=LOOSE)


def under(guardrails: Guardrails) -> World:
    return replace(world(), guardrails=guardrails)


def check(text: str, here: World | None = None, name: str = "policy.yaml") -> Checked:
    return check_text(PolicyText(name, name, text.encode()), here or world())


def lint(
    *texts: str, guardrails: str | None = None, history: History | None = None, people: Iterable[str] | None = None
) -> list[Finding]:
    """All findings in policies and guardrails, linted as `policy check` does."""
    limits = LOOSE if guardrails is None else read_guardrails(guardrails, "guardrails.yaml")
    here = under(limits)
    checked = [check(text, here, f"{number}.yaml") for number, text in enumerate(texts)]
    found = [one for each in checked for one in lint_policy(each, here, history=history, people=people and set(people))]
    found += lint_set(checked, here, guardrails=limits)
    if guardrails is not None:
        found += lint_guardrails(limits, here)
    return found


def rules(*texts: str, **more: object) -> set[str]:
    return {finding.rule for finding in lint(*texts, **more)}  # type: ignore[arg-type]  # passed on as it is
