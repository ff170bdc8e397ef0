"""`jobkey-broker policy explain`: decide one request, and show why it came out so."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from broker.cli.policy.setting import Config, read_object, read_setting, read_token
from broker.cli.policy.show import excerpt
from broker.errors import ConfigError
from broker.model import GrantRequest, VerifiedToken
from broker.policy.decide import Allowed, BadParams, Decision, Denied, checks, decide
from broker.policy.load import load_policies
from broker.policy.policyset import PolicySet


def explain(
    *,
    claims: Annotated[Path, typer.Option("--claims", help="A JSON file with a token's claims; - for standard input.")],
    grant: Annotated[str, typer.Option("--grant", "-g", help="The grant the job asks for: policy/grant.")],
    policies: Annotated[Path | None, typer.Option("--policies", "-p", help="The folder of policies.")] = None,
    issuer: Annotated[str | None, typer.Option("--issuer", "-i", help="The issuer's name in broker.yaml.")] = None,
    config: Config = None,
    params: Annotated[str | None, typer.Option("--params", help="What the job sends, as a JSON object.")] = None,
) -> None:
    """Decide one request and show each statement, each condition, what it expected and what came.

    Exit code 0: allowed (or allowed but for what the job sent). 1: refused. 2: the question itself is wrong.
    """
    out = Console(highlight=False, soft_wrap=True)
    try:
        setting = read_setting(config, None)
        found = load_policies(
            policies or setting.policies,
            issuers=setting.world.issuers,
            issuer_urls=setting.world.issuer_urls,
            targets=setting.world.targets,
            guardrails=setting.world.guardrails,
        )
        token = read_token(claims, issuer, grant, found, setting.world)
        request = GrantRequest(grant=grant, params=read_object(params, "--params") if params else None)
    except ConfigError as error:
        for problem in error.problems:
            for line in excerpt(problem):
                out.print(line)
        raise typer.Exit(2) from None
    decision = decide(found, token, [request], now=datetime.now(UTC))
    for line in _explained(found, token, grant, decision):
        out.print(line)
    if setting.world.targets is None:
        out.print("not checked: the backend's options and params, for want of --config broker.yaml")
    if isinstance(decision, Denied):
        raise typer.Exit(1)


def _explained(policies: PolicySet, token: VerifiedToken, grant: str, decision: Decision) -> Iterator[Text | str]:
    entry = policies.grants.get(grant)
    if entry is None:
        yield f"[red]refused[/red]: no policy has the grant {escape(repr(grant))}"
        return
    policy, found = entry
    for statement in policy.statements:
        tried = list(checks(statement, token))
        good = all(one.held for one in tried)
        yield Text.assemble(
            (f"{policy.name} trust[{statement.number}]", "bold"), ": ", "holds" if good else "does not hold"
        )
        first = True
        for one in tried:
            mark, style = ("ok  ", "green") if one.held else ("miss", "red")
            pointer = "  <- first miss" if not one.held and first else ""
            first = first and one.held
            yield Text.assemble(
                "  ", (mark, style), f" {one.key}: expected {one.expected}, got {one.got}", (pointer, "bold red")
            )
    match decision:
        case Allowed(grants=grants):
            allowed = grants[0]
            how = (
                "observed: judged and recorded, nothing is minted"
                if allowed.observed
                else f"by trust[{allowed.statement}]"
            )
            seconds = int(allowed.ttl.total_seconds())
            yield Text.assemble(("allowed", "green"), f": {grant}, {how}; {found.backend}, {seconds}s at most")
        case BadParams(problems=problems):
            yield Text.assemble(("allowed", "green"), f": {grant}, once the job sends what the backend needs")
            for problem in problems:
                yield Text(f"  {problem.param or 'params'}: {problem.message}")
        case Denied() as denied:
            yield Text.assemble(("refused", "red"), f": {grant} ({denied.code})")
            for miss in denied.misses:
                if miss.code in {"template", "params"}:
                    yield Text(f"  {miss.key}: expected {miss.expected}, got {miss.got}")
