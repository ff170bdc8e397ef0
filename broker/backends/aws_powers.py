"""What a session of `aws-sts` can be used for, as far as a grant's options tell: the role, and its session policy.

The role's own permissions stand in AWS and are not known here. A session policy only ever takes away from them, so what
it allows is the most that the session can do.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from broker.backends.seam import Power, opened

# What only looks: AWS names such actions with these words. Everything else may change something.
_READS: Final = ("get", "list", "describe", "head", "batchget", "simulate", "generate", "lookup", "view")
# Managed policies with which a session makes itself any role of its account.
_IAM_ARNS: Final = ("policy/AdministratorAccess", "policy/IAMFullAccess")
_EVERY_ROLE: Final = "IAM: any role and policy of the account, those that the broker acts under too"


def powers(options: Mapping[str, Any], own: str | None) -> Iterator[Power]:
    """`options` as written; `own` is the role that the broker itself assumes by web identity, where it does."""
    role = options["role_arn"]
    yield Power(
        object=f"aws:{role}", deed="act as", controls="the role that the broker itself assumes" if role == own else None
    )
    for arn in options.get("policy_arns") or ():
        yield Power(object=f"aws:{arn}", deed="act under", controls=_EVERY_ROLE if arn.endswith(_IAM_ARNS) else None)
    written = options.get("session_policy")
    policy = json.loads(written) if isinstance(written, str) else written
    for statement in _each(policy["Statement"]) if policy else ():
        if statement.get("Effect") == "Allow":
            yield from _allowed(statement)


def _allowed(statement: Mapping[str, Any]) -> Iterator[Power]:
    actions = [str(action) for action in _each(statement.get("Action", "*"))]  # NotAction leaves nearly all
    for resource in _each(statement.get("Resource", "*")):
        # In IAM a `*` crosses every separator.
        name = "**".join(part for part in opened(str(resource)).replace("**", "*").split("*"))
        for action in actions:
            if not _changes(action):
                continue
            service, _, verb = action.partition(":")
            iam = service in {"*", "iam"} and resource in {"*", "arn:aws:iam::*"} and _hands_out(verb or "*")
            yield Power(object=f"aws:{name}", deed=f"use {action} on", controls=_EVERY_ROLE if iam else None)


def _changes(action: str) -> bool:
    _, _, verb = action.partition(":")
    return not verb.lower().startswith(_READS)


def _hands_out(verb: str) -> bool:
    """Whether an IAM action, or one that its wildcard covers, hands permissions or identities to somebody."""
    word = verb.lower().partition("*")[0]
    return any(
        give.startswith(word) if "*" in verb else give == word
        for give in (
            "addusertogroup", "attachgrouppolicy", "attachrolepolicy", "attachuserpolicy", "createaccesskey",
            "createloginprofile", "createpolicyversion", "createrole", "deleterolepermissionsboundary", "passrole",
            "putgrouppolicy", "putrolepolicy", "putuserpolicy", "setdefaultpolicyversion", "updateassumerolepolicy",
            "updateloginprofile",
        )
    )  # fmt: skip


def _each(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]
