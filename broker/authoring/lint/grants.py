"""Rules about what a policy gives, for how long, who answers for it, and whether its examples show it."""

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta
from typing import Any, Final

from broker.authoring.finding import Fix
from broker.authoring.lint import edits
from broker.authoring.lint.seam import Desk, Problem
from broker.authoring.lint.stated import claim_trust, field_trust
from broker.documents import Path
from broker.durations import render
from broker.issuers.seam import Trust

_SLOT: Final = re.compile(r"\{\{\s*(job|claims)\.([^\s{}]+)\s*\}\}")
_ADDRESS: Final = re.compile(r"[^@\s]+@(?P<domain>[^@\s]+\.[^@\s.]+)")
_TEAM: Final = re.compile(r"@[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
# RFC 2606 and RFC 6761 names, and what people leave in from a template. `.example` is for documentation, ours included.
_NOBODY: Final = re.compile(
    r"(?:^|[@.])example\.(?:com|org|net)$|\.(?:invalid|test|localhost|local)$|@localhost$"
    r"|^@?(?:todo|fixme|tbd|xxx|changeme|change-me|replace-me|your[-_.]?\w*|someone|nobody|noreply|no-reply|you)(?:@|/|$)",
    re.IGNORECASE,
)
MOST_COMPARED: Final = 1_000  # names, each with an owner that is none of them
_SLACK: Final = timedelta(minutes=2)


def long_ttl(desk: Desk) -> Iterator[Problem]:
    """Longer than the guardrails advise, though not longer than they allow."""
    for name, grant in desk.checked.written.grants.items():
        target = (desk.world.targets or {}).get(grant.backend)
        advised = desk.world.guardrails.advised_ttl.get(target.kind) if target else None
        if target is None or advised is None or grant.ttl <= advised:
            continue
        fits = max(advised, target.shortest)
        if fits >= grant.ttl:
            continue
        path = ("grants", name, "ttl")
        yield Problem(
            path=path,
            message=f"{render(grant.ttl)} is longer than the {render(advised)} that the guardrails advise for {target.kind}: a "
            "credential that leaks from the job's log or memory works that much longer",
            remedy=f"write `ttl: {render(fits)}`; a job that runs longer renews it or asks again",
            fix=_ttl(desk, path, grant.ttl, fits),
        )


def ttl_beyond_history(desk: Desk) -> Iterator[Problem]:
    """Longer than any job was seen to need."""
    for name, grant in desk.checked.written.grants.items():
        longest = (desk.history or {}).get(f"{desk.checked.policy.name}/{name}")
        if longest is None:
            continue
        target = (desk.world.targets or {}).get(grant.backend)
        enough = _rounded(max(longest * 2, longest + _SLACK, target.shortest if target else _SLACK))
        if grant.ttl <= enough:
            continue
        path = ("grants", name, "ttl")
        yield Problem(
            path=path,
            message=f"no job was seen to use this for longer than {render(_rounded(longest, seconds=1))}, and it lives "
            f"{render(grant.ttl)}: for all that is left, only a thief has a use for it",
            remedy=f"write `ttl: {render(enough)}`, at least twice what was needed",
            fix=_ttl(desk, path, grant.ttl, enough),
        )


def _rounded(length: timedelta, *, seconds: int = 60) -> timedelta:
    return timedelta(seconds=-(-int(length.total_seconds()) // seconds) * seconds)


def _ttl(desk: Desk, path: Path, old: timedelta, new: timedelta) -> Fix | None:
    return edits.value(desk.checked, path, render(old), render(new), f"shorten the ttl to {render(new)}")


def untested_grant(desk: Desk) -> Iterator[Problem]:
    """No example gets it, or none is refused it."""
    examples = desk.checked.written.examples
    for name in desk.checked.written.grants:
        asked = [example for example in examples if example.grant in {None, name}]
        allowed = any(name in example.expect.allow for example in asked)
        refused = any(name not in example.expect.allow for example in asked)
        if allowed and refused:
            continue
        lacks = "no example gets it" if not allowed else "no example is refused it"
        yield Problem(
            path=("grants", name),
            message=f"{lacks}: "
            + (
                "a change that locks every job out, or lets another in, passes the check unseen"
                if not allowed
                else "a change that gives it to everybody passes the check unseen"
            ),
            remedy=f"add an example with `expect: {{allow: [{name}]}}`"
            if not allowed
            else "add one with `expect: refuse` that comes near: the right project from a branch that may not",
        )


def unresolved_owner(desk: Desk) -> Iterator[Problem]:
    """An owner whom nobody can write to."""
    literal = {glob for glob in desk.world.guardrails.owners or () if not re.search(r"[*?]", glob)}
    for number, owner in enumerate(desk.checked.written.owners):
        if _NOBODY.search(owner):
            why = "is a placeholder"
        elif desk.people is not None:
            known = owner in desk.people
            why = "" if known else f"is not in the lists of owners{_meant(owner, desk.people)}"
        elif owner in literal or _ADDRESS.fullmatch(owner) or _TEAM.fullmatch(owner):
            why = ""
        else:
            why = "is neither an address nor a team (`@acme/payments`)"
        if why:
            yield Problem(
                path=("owners", number),
                message=f"{owner} {why}: nobody reads this policy's refusals or answers for it, so that an attempt on it "
                "goes unnoticed",
                remedy="write the address of the team that answers for it, `owners: [team-payments@acme.example]`",
            )


def _meant(owner: str, people: Collection[str]) -> str:
    """The nearest of them, where one is near; never the whole list."""
    near = difflib.get_close_matches(owner, people, n=1) if len(people) <= MOST_COMPARED else []
    return f" ({near[0]} is)" if near else ""


def template_chosen_by_job(desk: Desk) -> Iterator[Problem]:
    """`{{ job.environment }}` in `with:`, where the job's author chooses the environment."""
    for name, grant in desk.checked.written.grants.items():
        for path, text in _texts(grant.options, ("grants", name, "with")):
            for match in _SLOT.finditer(text):
                where, value = match[1], match[2]
                free = [
                    stated.number
                    for stated in desk.statements
                    if (
                        field_trust(stated.kind, value, desk.world)
                        if where == "job"
                        else claim_trust(stated.kind, value)
                    )
                    in {Trust.USER, None}
                    and not any(
                        said.condition.exact is not None
                        and (said.name == value or (where == "job" and said.field == value))
                        for said in stated.said
                    )
                ]
                if free:
                    yield Problem(
                        path=path,
                        message=f"{match[0]} is filled with text that the job's author chooses, and trust[{free[0]}] does not say "
                        "which: a job that trust lets in picks another role, host or path for itself",
                        remedy=f"list what it may be in every statement, `{value}: [staging, production]`, or write the value "
                        "itself here",
                    )
                    break


def _texts(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, (*path, key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _texts(item, (*path, number))
