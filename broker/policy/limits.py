"""Whether a policy stays within the guardrails. Every check only takes away; what a policy says otherwise is compiled elsewhere."""

from broker.durations import render
from broker.issuers.seam import IssuerKind
from broker.policy.document import GrantPart, PolicyFile, StatementPart
from broker.policy.guardrails import Guardrails
from broker.policy.policyset import Bound, Target
from broker.policy.world import Reporter, World


def check_owners(written: PolicyFile, folder: str, guardrails: Guardrails, report: Reporter) -> None:
    """The platform's own list, and that of every folder that the policy stands in."""
    for number, owner in enumerate(written.owners):
        if not guardrails.admits_owner(owner):
            report(("owners", number), f"{owner} may not own a policy; the guardrails name who may")
        for name, limits in guardrails.limits(folder):
            if not limits.admits_owner(owner):
                report(("owners", number), f"{owner} may not own a policy in {name!r}; the guardrails name who may")


def check_issuer(part: StatementPart, folder: str, guardrails: Guardrails, report: Reporter) -> None:
    """Which issuers a folder's policies may trust."""
    for name, limits in guardrails.limits(folder):
        if limits.issuers is not None and part.issuer not in limits.issuers:
            report(("issuer",), f"the guardrails do not let policies in {name!r} trust the issuer {part.issuer!r}")


def check_triggers(part: StatementPart, guardrails: Guardrails, report: Reporter) -> None:
    """Triggers that no policy may allow."""
    for place, trigger in enumerate(part.allow_triggers):
        if trigger in guardrails.triggers_never_allowed:
            report(("allow_triggers", place), f"the guardrails never allow {trigger!r}")


def check_backend(part: GrantPart, folder: str, guardrails: Guardrails, report: Reporter) -> None:
    """Which backends a folder's policies may use."""
    for name, limits in guardrails.limits(folder):
        if limits.backends is not None and part.backend not in limits.backends:
            report(("backend",), f"the guardrails do not let policies in {name!r} use the backend {part.backend!r}")


def check_ttl(part: GrantPart, folder: str, target: Target, guardrails: Guardrails, report: Reporter) -> None:
    """What the backend can do, then what the platform and the folder allow."""
    longest = guardrails.longest(target.kind, part.ttl, folder)
    if part.ttl < target.shortest:
        report(("ttl",), f"{target.kind} credentials live {render(target.shortest)} or longer")
    if part.ttl > target.longest:
        report(("ttl",), f"{target.kind} credentials live {render(target.longest)} at most")
    elif part.ttl > longest:
        where = "" if longest == guardrails.longest(target.kind, part.ttl) else f" in {folder!r}"
        report(("ttl",), f"the guardrails let {target.kind} credentials{where} live {render(longest)} at most")


def check_pinned(conditions: list[Bound], kind: IssuerKind, world: World, report: Reporter) -> None:
    """A statement writes an immutable id out. Where a kind has none, its issuer is one installation, and a name does."""
    ids = kind.immutable or ("project",)
    for bound in conditions:
        where, _, name = bound.key.partition(".")
        if bound.condition.exact is not None and (name in ids if where == "job" else world.says(kind, name, ids)):
            return
    if kind.immutable:
        wanted = " or ".join(f"job.{name}" for name in ids)
        report((), f"a name can be registered again by somebody else: write out an immutable id too, {wanted}")
    else:
        report((), f"{kind.title} signs no immutable id: write out job.project, as a value and not a pattern")


def check_wildcards(conditions: list[Bound], guardrails: Guardrails, report: Reporter) -> None:
    for bound in conditions:
        only_absent = bound.condition.shown == '{"absent": true}'
        if bound.key in guardrails.no_wildcards and bound.condition.exact is None and not only_absent:
            where, _, name = bound.key.partition(".")
            report(
                (where, name),
                "the guardrails want this written out: a value or a list of values, no pattern and no `not`",
            )
