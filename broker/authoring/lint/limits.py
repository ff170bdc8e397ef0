"""Rules about guardrails.yaml itself: limits that limit nothing, and what a platform forgets."""

from collections.abc import Iterator
from typing import Final

from broker.authoring.lint.patterns import overlap
from broker.authoring.lint.seam import Limits, Problem
from broker.durations import render

# What any outsider starts on the trusted branch, or runs with another project's code. Pull requests are left to the teams.
STRANGERS: Final = (
    "pull_request_target", "workflow_run", "issue_comment", "issues", "discussion", "discussion_comment", "fork",
)  # fmt: skip
_SYSTEMS: Final = ("aws", "identity", "ssh", "subject", "vault", "vault-policy")
_WHOSE: Final = ("job.project", "job.project_id", "job.owner", "job.owner_id")
_ANYBODY: Final = ("mallory@mail.evil.test", "mallory", "@mallory/all")


def guardrails_limit_nothing(limits: Limits) -> Iterator[Problem]:
    """A file, or an entry of it, that takes nothing away."""
    rails = limits.guardrails
    limiting = (
        rails.longest_ttl,
        rails.no_wildcards,
        rails.triggers_never_allowed,
        rails.owners,
        rails.require_immutable_id,
    )
    folders = any(one.issuers is not None or one.backends is not None for one in rails.folders.values())
    if not any(limiting) and not folders:
        yield Problem(
            path=(),
            message="these guardrails limit nothing: whoever may merge a policy decides alone what it gives to whom",
            remedy="begin with configs/guardrails.yaml: longest_ttl, require_immutable_id, no_wildcards, triggers_never_allowed, owners",
        )
    for name, one in rails.folders.items():
        if one.issuers is None and one.backends is None:
            yield Problem(
                path=("folders", name),
                message=f"the entry for {name!r} limits nothing, and reads as if it did: a policy below it uses any issuer and backend",
                remedy=f"say what the policies there may use, `{name}: {{issuers: [github], backends: [token]}}`, or remove the entry",
            )


def guardrails_any_owner(limits: Limits) -> Iterator[Problem]:
    """Owners that are everybody."""
    for number, glob in enumerate(limits.guardrails.owners or ()):
        if any(overlap(glob, somebody) for somebody in _ANYBODY) and "@mail.evil.test" not in glob:
            yield Problem(
                path=("owners", number),
                message=f"{glob} admits any owner, outsiders too: a policy may name a stranger as the one who reads its refusals",
                remedy='name your own domain or teams, `owners: ["*@acme.example"]`',
            )


def guardrails_no_ttl(limits: Limits) -> Iterator[Problem]:
    """A backend kind in use whose credentials may live as long as the backend can make them."""
    kinds = {target.kind: target for target in (limits.world.targets or {}).values()}
    for kind in sorted(set(kinds) - set(limits.guardrails.longest_ttl)):
        longest = render(kinds[kind].longest)
        yield Problem(
            path=("longest_ttl",),
            message=f"nothing limits {kind}: a policy may ask for {longest}, and a stolen credential then works for {longest}",
            remedy=f"write `{kind}: 15m` under `longest_ttl`, or what your longest job needs",
        )


def guardrails_unsafe_triggers(limits: Limits) -> Iterator[Problem]:
    """Triggers that an outsider starts, and that a policy may allow."""
    known = {name for kind in limits.world.issuers.values() for name in kind.trigger_names}
    open_ = [name for name in STRANGERS if name in known and name not in limits.guardrails.triggers_never_allowed]
    if open_:
        yield Problem(
            path=("triggers_never_allowed",),
            message=f"a policy may allow {', '.join(open_)}: jobs that any outsider starts, or whose code is another project's",
            remedy="write `triggers_never_allowed: ["
            + ", ".join(sorted({*limits.guardrails.triggers_never_allowed, *open_}, key=_order))
            + "]`",
        )


def guardrails_names_allowed(limits: Limits) -> Iterator[Problem]:
    """Names without an id, or wildcards in names."""
    rails = limits.guardrails
    if not rails.require_immutable_id:
        yield Problem(
            path=("require_immutable_id",),
            message="policies may trust a name alone: whoever registers the name of a renamed or deleted project gets its grants",
            remedy="take the line out, or write `require_immutable_id: true`",
        )
    missing = [name.removeprefix("job.") for name in _WHOSE if name not in rails.no_wildcards]
    if missing:
        yield Problem(
            path=("no_wildcards",),
            message=f"a policy may leave {', '.join(missing)} to a pattern: one `*` too many trusts every project of everybody",
            remedy="write `no_wildcards: [project, project_id, owner, owner_id]`",
        )


def guardrails_protect_nothing(limits: Limits) -> Iterator[Problem]:
    """An entry of `protects` that nothing can ever reach, because its system is misspelt."""
    known = {*_SYSTEMS, *(kind.name for kind in limits.world.issuers.values())}
    for section, globs in limits.guardrails.protects.items():
        for number, glob in enumerate(globs):
            system = glob.partition(":")[0]
            if system not in known:
                yield Problem(
                    path=("protects", section, number),
                    message=f"{glob} protects nothing: no backend speaks of the system {system!r}, so that a grant which reaches "
                    "it is not shown",
                    remedy=f"begin with one of {', '.join(sorted(known))}",
                )


def _order(name: str) -> tuple[int, str]:
    return (STRANGERS.index(name) if name in STRANGERS else len(STRANGERS), name)
