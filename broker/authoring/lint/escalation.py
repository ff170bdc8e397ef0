"""Self-escalation: a grant whose holder could change who gets what, and the path that leads there.

What a grant reaches is said by its backend (`Backend.writes`), what the broker's safety rests on by the guardrails
(`protects`), and what is known without either by both: the broker's own URL and role, the server's own policies, the
repositories whose workflows the policies trust, and the names that other grants sign with.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from broker.authoring.finding import Place
from broker.authoring.lint.patterns import overlap
from broker.authoring.lint.seam import Problem, Room, place
from broker.authoring.lint.stated import Stated, stated
from broker.backends.seam import Power
from broker.documents import Path
from broker.policy.load import Checked

_MEANS: Final = {
    "policies": "where the policies are changed",
    "broker": "what the broker runs on",
    "workflows": "where workflows that policies trust are changed",
    "identities": "what hands out other identities",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """A grant, and one thing that its credential can be used for."""

    checked: Checked
    grant: str  # its short name
    backend: str
    kind: str
    power: Power

    @property
    def path(self) -> Path:
        return ("grants", self.grant)

    @property
    def start(self) -> str:
        """The path's first steps, in words."""
        return f"{self.checked.policy.name}/{self.grant} -> may {self.power.deed} {self.power.object} (backend {self.backend})"


def self_escalation(room: Room) -> Iterator[tuple[Checked, Problem]]:
    """Every grant that leads back to the broker; one finding a grant and place, the shortest path first."""
    reaches = list(_reaches(room))
    repositories = _repositories(room)
    document = room.guardrails.document
    for reach in reaches:
        if reach.power.controls is not None:
            yield reach.checked, _problem(reach, reach.power.controls)
            continue
        protected = _protected(room, reach.power.object)
        if protected is not None:
            section, number, glob = protected
            where = (
                ()
                if document is None
                else ((place(document, ("protects", section, number)), f"protects.{section}: {glob}"),)
            )
            yield reach.checked, _problem(reach, f"{glob} (protects.{section}): {_MEANS[section]}", where)
            continue
        for repository, (other, grants, at) in repositories.get(reach.power.object.partition(":")[0], {}).items():
            if overlap(reach.power.object, repository) or overlap(reach.power.object, f"{repository}/**"):
                ends = f"{repository}, whose workflow {other} trusts -> gets {grants}"
                yield reach.checked, _problem(reach, ends, ((at, f"{other} trusts it here"),))
                break
    yield from _impersonated(reaches)


def _reaches(room: Room) -> Iterator[Reach]:
    targets = room.world.targets or {}
    for checked in room.all:
        for name, grant in checked.written.grants.items():
            target = targets.get(grant.backend)
            if target is not None:
                for power in target.writes(grant.options):
                    yield Reach(checked=checked, grant=name, backend=grant.backend, kind=target.kind, power=power)


def _protected(room: Room, reached: str) -> tuple[str, int, str] | None:
    for section, globs in room.guardrails.protects.items():
        for number, glob in enumerate(globs):
            if overlap(reached, glob):
                return section, number, glob
    return None


def _repositories(room: Room) -> dict[str, dict[str, tuple[str, str, Place]]]:
    """Kind -> `github:acme/payments` -> the policy that trusts its jobs, what they get, and where it says so."""
    found: dict[str, dict[str, tuple[str, str, Place]]] = {}
    for checked in room.all:
        for one in stated(checked, room.world):
            for repository, path in _trusted(one):
                grants = ", ".join(f"{checked.policy.name}/{name}" for name in list(checked.written.grants)[:3])
                found.setdefault(one.kind.name, {}).setdefault(
                    f"{one.kind.name}:{repository}", (checked.policy.name, grants, place(checked.document, path))
                )
    return found


def _trusted(one: Stated) -> Iterator[tuple[str, Path]]:
    """The projects whose people decide what runs: the statement's own, and that of a workflow it names."""
    for said in one.about("project", "workflow"):
        for value in said.condition.exact or ():
            if isinstance(value, str) and value.count("/") >= 1:
                yield "/".join(value.split("/")[:2]) if said.field == "workflow" else value, said.path


def _impersonated(reaches: list[Reach]) -> Iterator[tuple[Checked, Problem]]:
    """An identity token whose `subject` is one that another policy says too, for the same audience.

    The subject that a token has by itself is nobody else's: the backend keeps `grant:` to the broker.
    """
    named: dict[str, list[tuple[str, Reach]]] = {}  # audience -> subjects, as globs, with whose they are
    for reach in reaches:
        system, _, rest = reach.power.object.partition(":")
        audience, _, subject = rest.partition(" ")
        if system == "subject":
            named.setdefault(audience, []).append((subject, reach))
    for subjects in named.values():
        for subject, reach in subjects:
            for other, theirs in subjects:
                if theirs.checked is not reach.checked and overlap(subject, other):
                    victim = f"{theirs.checked.policy.name}/{theirs.grant}"
                    at = place(theirs.checked.document, theirs.path)
                    yield reach.checked, _problem(reach, f"the name that {victim} signs with", ((at, victim),))
                    break


def _problem(reach: Reach, ends: str, related: tuple[tuple[Place, str], ...] = ()) -> Problem:
    return Problem(
        path=reach.path,
        message=f"{reach.start} -> which is {ends}. A job that has this grant can give itself every other one",
        remedy="narrow the grant so that it ends before that (another principal, path, role or audience), or give it to "
        "nobody but the platform's own reviewed pipeline and silence this with that reason",
        related=related,
    )
