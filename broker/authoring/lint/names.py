"""Rules about whose job it is: names that can be registered again, and patterns that let somebody else in."""

from collections.abc import Iterator
from functools import lru_cache

from broker.authoring.lint.patterns import Open, opens
from broker.authoring.lint.seam import Desk, Problem
from broker.authoring.lint.stated import Said, Stated
from broker.issuers.seam import IssuerKind, Trust

_RUN = ("run_id", "job_id", "attempt", "actor_id", "sha")
_WHOSE = ("project", "project_id", "owner", "owner_id")


def _pinned(stated: Stated) -> bool:
    """Whether an id, or where a kind has none the project's whole name, is written out."""
    return stated.pins(*(stated.kind.immutable or ("project",)))


def _narrower(stated: Stated) -> bool:
    """Whether an id of something below the owner is written out: the project's, or a container's such as a workspace's."""
    return any(
        said.condition.exact is not None
        and said.trust is Trust.ID
        and said.field not in {"owner_id", *_RUN}
        and said.name not in {"jti", "sub"}
        for said in stated.said
    )


def _reviewed(stated: Stated) -> bool:
    """Whether one workflow file is written out, as far as its ref: an organisation's own, which every project may call."""
    return any(
        said.condition.exact is not None or all("@" in found.prefix for found in opens(said.condition.spec))
        for said in stated.said
        if said.name == "job_workflow_ref" or (said.name == "workflow" and not said.raw)
    )


@lru_cache(maxsize=256)
def _owner_segment(kind_name: str, examples: tuple[tuple[str | None, str | None], ...]) -> int:  # noqa: ARG001  the kind tells two tables of examples apart
    """Which `/` segment of `project` is the owner's: 0 in acme/payments, 1 in github.com/acme/payments."""
    for project, owner in examples:
        if project is not None:
            segments = project.split("/")
            if owner is None:
                return max(0, len(segments) - 2)
            return segments.index(owner.split("/")[0]) if owner.split("/")[0] in segments else 0
    return 0


def _owner_open(said: Said, found: Open, kind: IssuerKind) -> bool:
    """Whether the pattern begins to be open before the owner's name is complete."""
    if said.field == "owner":
        return True
    jobs = [kind.identity(claims) for claims in kind.examples.values()]
    segment = _owner_segment(kind.name, tuple((job.project, job.owner) for job in jobs))
    return found.prefix.count("/") <= segment


def _partial(found: Open) -> str:
    """What the last segment before the first wildcard begins with."""
    return found.prefix.rpartition("/")[2]


def _named(stated: Stated) -> Iterator[tuple[Said, Open]]:
    """Patterns about an owner or a project, where no id and no name beside them closes what they leave open."""
    if _pinned(stated) and (stated.pins("project_id") or not stated.kind.immutable):
        return
    for said in stated.about(*_WHOSE):
        for found in opens(said.condition.spec):
            yield said, found
            break


def open_prefix(desk: Desk) -> Iterator[Problem]:
    """`acme*`: whoever registers a name that begins so is in."""
    for stated in desk.statements:
        for said, found in _named(stated):
            owner_open = _owner_open(said, found, stated.kind)
            ids = said.field in {"project_id", "owner_id"}
            named = owner_open and not ids and said.field != "owner" and stated.pins("owner")
            if not _partial(found) or named or stated.pins("owner_id") or found.form == "not":
                continue
            begins = f"{found.prefix}..." if ids else f"{found.prefix}-evil"
            how = "waits for an id that begins so, and they are handed out in order," if ids else f"registers {begins}"
            yield Problem(
                path=said.path,
                message=f"{found.shown} leaves the end of {said.name} open: a stranger who {how} gets every grant here",
                remedy=_write_out(stated),
            )


def wildcard_across_owners(desk: Desk) -> Iterator[Problem]:
    """`*/payments`: every owner there is."""
    for stated in desk.statements:
        for said, found in _named(stated):
            if said.field in {"owner_id", "project_id"} and _partial(found):
                continue
            closed = stated.pins("owner_id") or (stated.pins("owner") and said.field != "owner")
            if closed or not _owner_open(said, found, stated.kind) or (_partial(found) and found.form != "not"):
                continue
            yield Problem(
                path=said.path,
                message=f"{found.shown} admits every owner: anybody with an account at {stated.kind.title} makes a "
                "project that fits, and gets every grant here",
                remedy=_write_out(stated),
            )


def wildcard_across_projects(desk: Desk) -> Iterator[Problem]:
    """`acme/*`, or an owner's id alone: every project of the organisation, those not made yet too."""
    for stated in desk.statements:
        if not stated.kind.immutable or _narrower(stated):
            continue
        patterns = [(said, found) for said, found in _named(stated) if said.field in {"project", "project_id"}]
        inside = [
            (said, found)
            for said, found in patterns
            if stated.pins("owner_id")
            or (not _owner_open(said, found, stated.kind) and not _partial(found))
            or (stated.pins("owner") and not _partial(found))
        ]
        if inside:
            said, found = inside[0]
            path, what = said.path, f"{found.shown} admits every project that fits"
        elif stated.pins("owner_id") and not patterns and not any(stated.about("project")):
            if stated.kind.immutable == ("owner_id",) or _reviewed(stated):
                continue
            first = next(stated.about("owner_id", "owner"))
            path, what = first.path, "nothing here says which project: every one of the owner's is trusted"
        else:
            continue
        yield Problem(
            path=path,
            message=f"{what}; a member who may create a project, or push to the least guarded one, gets every grant here",
            remedy='list the projects by their ids, `project_id: ["...", "..."]`, or give each a statement of its own',
        )


def name_without_id(desk: Desk) -> Iterator[Problem]:
    """`project: acme/payments` alone: the name may be somebody else's tomorrow."""
    for stated in desk.statements:
        if not stated.kind.immutable or _pinned(stated):
            continue
        if desk.found(stated.number, "open-prefix", "wildcard-across-owners"):
            continue
        named = next((said for said in stated.said if said.field in _WHOSE or said.trust is Trust.NAME), None)
        yield Problem(
            path=named.path if named else stated.path,
            message="a name can be registered again: when the account or the project is renamed or deleted, whoever takes "
            "its name gets every grant here"
            if named
            else f"nothing here says whose job it is: anybody with an account at {stated.kind.title} runs one that fits",
            remedy=_write_out(stated),
        )


def project_name_under_owner_id(desk: Desk) -> Iterator[Problem]:
    """The owner's id, and the project by its name only."""
    for stated in desk.statements:
        if not stated.pins("owner_id") or "project_id" not in stated.kind.immutable or _narrower(stated):
            continue
        named = next((said for said in stated.about("project") if said.condition.exact is not None), None)
        if named is not None:
            yield Problem(
                path=named.path,
                message="the owner is held by an id, the project only by its name: a member who deletes or renames it, or "
                "finds the name free, makes a new project of that name and gets every grant here",
                remedy=_write_out(stated, ("project_id",)),
            )


def _write_out(stated: Stated, fields: tuple[str, ...] | None = None) -> str:
    wanted = fields or stated.kind.immutable or ("project",)
    example = next(
        (job for claims in stated.kind.examples.values() if (job := stated.kind.identity(claims)).project_id), None
    )
    name = wanted[0]
    like = getattr(example, name, None) if example else None
    shown = f' (`jobkey whoami` shows it; it looks like "{like}")' if like else " (`jobkey whoami` shows it)"
    return f'write the immutable id out, `{name}: "..."`{shown}'
