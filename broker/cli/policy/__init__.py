"""`jobkey-broker policy`: what authors do with trust policies, without a running broker. One file a command."""

from collections.abc import Mapping
from typing import ClassVar

import typer

from broker.cli.lazily import LazyGroup


class _Policy(LazyGroup):
    later: ClassVar[Mapping[str, str]] = {
        "new": "broker.cli.policy.new:new",
        "check": "broker.cli.policy.check:check",
        "rule": "broker.cli.policy.rule:rule",
        "test": "broker.cli.policy.test:try_examples",
        "record": "broker.cli.policy.record:record",
        "diff": "broker.cli.policy.diff:diff",
        "explain": "broker.cli.policy.explain:explain",
        "describe": "broker.cli.policy.describe:describe",
        "matrix": "broker.cli.policy.matrix:matrix",
        "rollout": "broker.cli.policy.rollout:rollout",
        "push": "broker.cli.policy.push:push",
    }


app = typer.Typer(name="policy", cls=_Policy, no_args_is_help=True)


@app.callback()
def policy() -> None:
    """Write trust policies, check them, prove what they do, and explain what they decide."""
