"""What policies are checked against, and how their problems are collected."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from broker.documents import Document, Path
from broker.issuers.seam import IssuerKind
from broker.model import JobIdentity
from broker.policy.claims import reader
from broker.policy.guardrails import Guardrails
from broker.policy.policyset import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What policies are checked against. `targets` is None where the backends are not known."""

    issuers: Mapping[str, IssuerKind]
    issuer_urls: Mapping[str, str]
    targets: Mapping[str, Target] | None
    guardrails: Guardrails
    _jobs: dict[str, list[tuple[Mapping[str, Any], JobIdentity]]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def says(self, kind: IssuerKind, path: str, fields: Iterable[str]) -> bool:
        """Whether the claim at `path` is one of these JobIdentity fields under its raw name.

        Told by the kind's own examples: in every one, the claim's value is that of the field. A trust class would not
        do: a run's number is set by the platform too, and says nothing about whose run it is.
        """
        if kind.name not in self._jobs:
            self._jobs[kind.name] = [(claims, kind.identity(claims)) for claims in kind.examples.values()]
        read = reader(path)
        known = [(read(claims), job) for claims, job in self._jobs[kind.name]]
        for name in fields:
            pairs = [(value, getattr(job, name)) for value, job in known if getattr(job, name) is not None]
            if pairs and all(value is not None and str(value) == said for value, said in pairs):
                return True
        return False


@dataclass(frozen=True, slots=True)
class Reporter:
    """Collects problems below one path of a document."""

    document: Document
    problems: list[str]
    path: Path = ()

    def __call__(self, path: Path, message: str) -> None:
        self.problems.append(self.document.problem((*self.path, *path), message))

    def at(self, *path: str | int) -> "Reporter":
        return Reporter(self.document, self.problems, (*self.path, *path))
