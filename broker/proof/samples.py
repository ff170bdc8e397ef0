"""An issuer kind's own examples, read once: where the search for a witness begins, and the values that look real."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from broker.issuers.seam import IssuerKind
from broker.model import JobIdentity
from broker.policy.claims import reader

_MOST_KNOWN: Final = 64


@dataclass(frozen=True, slots=True)
class Sample:
    """One example."""

    claims: Mapping[str, Any]
    job: JobIdentity
    triggers: frozenset[str]

    def value(self, key: str) -> Any:
        """What stands at `job.ref` or `claims.x`."""
        where, _, name = key.partition(".")
        return getattr(self.job, name, None) if where == "job" else reader(name)(self.claims)


@dataclass(frozen=True, slots=True)
class Samples:
    """All of a kind's."""

    kind: IssuerKind
    all: tuple[Sample, ...]
    _hints: dict[str, Sequence[Any]] = field(default_factory=dict)

    def hints(self, key: str) -> Sequence[Any]:
        """The values that the examples have at a key."""
        found = self._hints.get(key)
        if found is None:
            known = (sample.value(key) for sample in self.all)
            found = self._hints[key] = [value for value in known if value is not None]
        return found


def sample(kind: IssuerKind, claims: Mapping[str, Any]) -> Sample:
    """Claims as this kind reads them. A generic kind's map need not fit them; then the job says nothing."""
    try:
        return Sample(claims, kind.identity(claims), frozenset(kind.unsafe_triggers(claims)))
    except Exception:  # noqa: BLE001  whatever a kind makes of claims that its CI never signs
        return Sample(claims, JobIdentity(), frozenset())


_known: dict[int, Samples] = {}


def samples_of(kind: IssuerKind) -> Samples:
    """The kind's examples, remembered."""
    found = _known.get(id(kind))
    if found is None:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        # The kind is kept inside: were it gone, another could have its id.
        found = _known[id(kind)] = Samples(kind, tuple(sample(kind, claims) for claims in kind.examples.values()))
    return found
