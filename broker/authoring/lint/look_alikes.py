"""Rules that try things out: jobs that look like the right one and are not, and policies that look like another.

A look-alike is built from a job that the statement trusts: what a fork, a stranger's pull request or another account
changes is laid over its claims, and the statement is asked again. What passes is printed.
"""

from collections.abc import Iterator
from typing import Any, Final

from broker.authoring.lint.jobs import Job, foreign, overlaid, strangers
from broker.authoring.lint.seam import Desk, Problem, Room, place
from broker.authoring.lint.stated import Stated
from broker.issuers.seam import Claims
from broker.policy.load import Checked

_EXPLAINED: Final = (
    "name-without-id", "open-prefix", "wildcard-across-owners", "wildcard-across-projects", "project-name-under-owner-id",
    "unsafe-trigger", "subject-pattern", "user-chosen-claim",
)  # fmt: skip
_BRANCH: Final = "a run of that workflow from any branch of its repository"
_SHORT: Final = 5  # names shorter than this are too near to each other to say anything
_CONFUSED: Final = str.maketrans({"0": "o", "1": "l", "i": "l", "5": "s", "8": "b", "-": None})
_PAIRS: Final = (("rn", "m"), ("vv", "w"), ("cl", "d"))


def look_alike(desk: Desk) -> Iterator[Problem]:
    """A fork's job, or another account's, that a statement takes for the right one."""
    for stated in desk.statements:
        if desk.found(stated.number, *_EXPLAINED):
            continue
        for base in desk.jobs(stated.statement.issuer):
            if base.allowed and base.trusted_by(stated.statement) and (found := _passing(desk, stated, base)):
                name, changed = found
                yield Problem(
                    path=stated.path,
                    message=f"a look-alike passes: the example {base.name!r} with {changed}, as {stated.kind.title} signs "
                    f"for {name}, is trusted; its code is somebody else's",
                    remedy=_remedy(stated, base, name),
                )
                break


def _passing(desk: Desk, stated: Stated, base: Job) -> tuple[str, str] | None:
    for name, job in strangers(base, desk.world):
        if job.trusted_by(stated.statement):
            return name, _shown(base.claims, job.claims)
    if (unreviewed := _unreviewed(stated, base)) is not None:
        return unreviewed
    for name, changed in foreign(stated.kind):
        claims = overlaid(base.claims, changed)
        job = Job(name, claims, stated.kind, base.issuer)
        if job.trusted_by(stated.statement):
            return name, _shown(base.claims, claims)
    return None


def _unreviewed(stated: Stated, base: Job) -> tuple[str, str] | None:
    """A shared workflow from a branch that anybody with write access there made, where any project may call it."""
    if stated.pins("project_id", "project"):
        return None
    for said in stated.said:
        value = said.bound.read(base.token)
        if said.name not in {"job_workflow_ref", "workflow"} or not isinstance(value, str):
            continue
        file, at, _ = value.partition("@refs/")
        changed = f"{file}@refs/heads/look-alike"
        same = {name: changed for name, held in base.claims.items() if at and held == value and name != "sub"}
        job = Job("", {**base.claims, **same}, stated.kind, base.issuer)
        if same and job.trusted_by(stated.statement):
            return _BRANCH, f"{said.name} {changed!r}"
    return None


def _shown(before: Claims, after: Claims) -> str:
    said = [
        f"{name} {value!r}" if isinstance(value, str | int | bool) else f"another {name}"
        for name, value in after.items()
        if before.get(name) != value and name not in {"sub", "jti"}
    ]
    said += [f"no {name}" for name in before if name not in after]
    return ", ".join(said[:4]) or "another run"


def _remedy(stated: Stated, base: Job, name: str) -> str:
    if name == _BRANCH:
        return (
            "write the workflow out with its ref, `job_workflow_ref: acme/ci/.github/workflows/deploy.yml@refs/tags/v3`"
        )
    changed = dict(foreign(stated.kind)).get(name)
    if changed is None:
        return f'write the immutable id out, `{(stated.kind.immutable or ("project",))[0]}: "..."`'
    other = stated.kind.identity(overlaid(base.claims, changed)).present()
    for field in ("project_id", "owner_id", "project", "trigger", "ref"):
        value = base.identity.present().get(field)
        if value is not None and other.get(field) != value:
            return f'write what tells them apart, `{field}: "{value}"`, and keep the look-alike as an example that is refused'
    return "add the condition that tells them apart, and keep the look-alike as an example that is refused"


def look_alike_policy(room: Room) -> Iterator[tuple[Checked, Problem]]:
    """Two policies whose names people take for one another, of different owners."""
    seen: dict[str, Checked] = {}
    for checked in sorted(room.all, key=lambda one: (len(one.policy.name), one.policy.name)):
        name = checked.policy.name
        if len(name) < _SHORT:
            continue
        other = next((seen[key] for key in _keys(name) if key in seen), None)
        for key in _keys(name):
            seen.setdefault(key, checked)
        if other is None or set(other.policy.owners) & set(checked.policy.owners):
            continue
        yield (
            checked,
            Problem(
                path=("policy",),
                message=f"{name} looks like {other.policy.name}, which belongs to {', '.join(other.policy.owners)}: a job "
                "whose author or reviewer takes one for the other asks here, and hands this policy's owners its identity",
                remedy="give the policy a name that nobody takes for the other",
                related=((place(other.document, ("policy",)), other.policy.name),),
            ),
        )


def _keys(name: str) -> Iterator[str]:
    """What a name looks like: alike are names that differ in look-alike letters, a hyphen, or two letters swapped."""
    if not any(
        character.isdigit() for character in name[-2:]
    ):  # payments-1 and payments-2 are told apart by their digits
        letters: Any = name.replace("-", "")
        yield "swapped:" + letters[0] + "".join(sorted(letters))
    skeleton = name
    for pair, one in _PAIRS:
        skeleton = skeleton.replace(pair, one)
    yield "alike:" + skeleton.translate(_CONFUSED)
