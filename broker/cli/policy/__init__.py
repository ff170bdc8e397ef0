"""`jobkey-broker policy`: what authors do with trust policies, without a running broker. One file a command."""

import typer

from broker.cli.policy.check import check
from broker.cli.policy.describe import describe
from broker.cli.policy.diff import diff
from broker.cli.policy.explain import explain
from broker.cli.policy.matrix import matrix
from broker.cli.policy.new import new
from broker.cli.policy.push import push
from broker.cli.policy.record import record
from broker.cli.policy.rollout import tell_rollout
from broker.cli.policy.test import try_examples

app = typer.Typer(name="policy", help="Check trust policies, and explain what they decide.", no_args_is_help=True)
for command in (check, describe, diff, explain, matrix, new, push, record):
    app.command()(command)
app.command(name="rollout")(tell_rollout)
app.command(name="test")(try_examples)
