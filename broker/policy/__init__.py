"""Decide whether a verified CI job may receive a credential, and say why.

Owns matching and explaining. Signatures belong to broker.tokens, minting to broker.backends.

* Pure: the same policies, token and request give the same answer. No clock, socket or event loop, except in `watch`.
* Closed by default: no policy, no statement, a missing claim, an error in an expression is a denial, never a pass.
* Adding a condition never widens a policy; adding a guardrail never widens anything.
* A set of policies is loaded whole or not at all.

Read in this order: document (what an author writes), conditions (what one condition means), policyset (the compiled,
frozen form), decide (the answer). load, compile, examples and watch are how a folder of files becomes a PolicySet.
"""

from broker.policy.answers import Allowed, AllowedGrant, BadParams, Decision, Denied, Miss, ParamProblem
from broker.policy.decide import decide
from broker.policy.guardrails import Guardrails, load_guardrails
from broker.policy.load import load_policies
from broker.policy.policyset import Grant, Policy, PolicySet, Source, Statement, Target

__all__ = [
    "Allowed",
    "AllowedGrant",
    "BadParams",
    "Decision",
    "Denied",
    "Grant",
    "Guardrails",
    "Miss",
    "ParamProblem",
    "Policy",
    "PolicySet",
    "Source",
    "Statement",
    "Target",
    "decide",
    "load_guardrails",
    "load_policies",
]
