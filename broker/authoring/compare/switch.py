"""A set as it would be if every version on trial decided: what a reviewer of a switch compares with the set of today."""

import hashlib
import json
from dataclasses import replace

from broker.documents import parse
from broker.policy.policyset import Policy, PolicySet
from broker.policy.trial import next_document


def switched(policies: PolicySet) -> PolicySet:
    """Each `next:` in the place of what decides; a policy without one stays. The set itself where none has one.

    Versions are those of texts that nobody has written yet: the same keys, as JSON.
    """
    if not policies.on_trial:
        return policies
    return PolicySet.of(map(_switched, policies.policies.values()), policies.guardrails)


def _switched(policy: Policy) -> Policy:
    if policy.next is None:
        return policy
    text = json.dumps(next_document(parse(policy.text, policy.file)).value, indent=2)
    version = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    return replace(policy.next, text=text, version=version, next=None)
