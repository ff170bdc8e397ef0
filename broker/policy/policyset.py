"""The compiled, frozen form of a folder of policies: everything `decide` looks at, checked and ready.

* A grant's name leads to its policy in one look-up; a statement is a tuple of functions that are tried in order.
* Options without templates are validated once, when the set is loaded.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from broker.backends.seam import Power
from broker.model import VerifiedToken
from broker.policy.conditions import Condition
from broker.policy.expressions import Expression
from broker.policy.guardrails import Guardrails
from broker.policy.naming import Naming
from broker.policy.template import Fill

Read = Callable[[VerifiedToken], Any]


def _nothing(options: Mapping[str, Any]) -> Iterable[Power]:  # noqa: ARG001  the shape of Target.writes
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What the policy engine needs to know of one configured backend."""

    backend: str  # its name in broker.yaml
    kind: str
    options: type[BaseModel]
    params: type[BaseModel]
    shortest: timedelta
    longest: timedelta
    describe: Callable[[Mapping[str, Any]], str] | None = None  # a grant's options in words; broker.backends.seam
    # A grant's `with:` as written -> what its credential can be used for (`Backend.writes`); for authors' tools only.
    writes: Callable[[Mapping[str, Any]], Iterable[Power]] = field(default=_nothing, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A condition with where its value comes from."""

    key: str  # job.ref, claims.repository_id
    read: Read = field(repr=False)
    condition: Condition
    anchor: bool = False  # says whose job it is: an owner, a project, an immutable id


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One entry of `trust:`."""

    number: int  # from 0
    issuer: str
    conditions: tuple[Bound, ...]
    when: Expression | None
    allow_triggers: frozenset[str]
    never_triggers: frozenset[str]  # the guardrails', asked again at decision time
    tests: tuple[tuple[Read, Callable[[Any], bool]], ...] = field(repr=False)

    def trusts(self, token: VerifiedToken) -> bool:
        """Whether every condition holds. The order is that of cost; `broker.policy.decide` explains a no."""
        if token.issuer != self.issuer:
            return False
        for read, holds in self.tests:
            if not holds(read(token)):
                return False
        for trigger in token.unsafe_triggers:
            if trigger not in self.allow_triggers or trigger in self.never_triggers:
                return False
        return self.when is None or self.when.holds(token.job, token.claims)

    def changed(self, **members: Any) -> "Statement":
        """Another statement that differs in these members; `tests` follow its conditions. For asking what would be if."""
        conditions = members.get("conditions", self.conditions)
        return replace(self, **members, tests=tuple((bound.read, bound.condition.holds) for bound in conditions))


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One entry of `grants:`."""

    name: str  # payments/deploy
    backend: str
    kind: str
    ttl: timedelta  # the longest a job may have it for, within the guardrails
    shortest: timedelta
    options_model: type[BaseModel] | None  # None where the backend is not known (checking without a broker.yaml)
    options: Any = field(repr=False)  # validated, where nothing has to be filled in
    fill: Fill | None = field(repr=False)  # makes the options' data from a token, where something has to
    params_model: type[BaseModel] | None
    restrictions: tuple[tuple[str, Condition], ...] = ()  # on what a job may send
    no_params: Any = field(default=None, repr=False)  # what an empty `params` validates to, where it does


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One file."""

    name: str
    description: str = field(repr=False)
    owners: tuple[str, ...]
    observed: bool
    version: str  # sha256:<hex> of its text
    statements: tuple[Statement, ...] = field(repr=False)
    grants: Mapping[str, Grant] = field(repr=False)  # by short name
    file: str  # relative to the folder of policies
    text: str = field(repr=False)
    next: "Policy | None" = field(default=None, repr=False)  # judged beside this one, never minted from

    @property
    def all_statements(self) -> tuple[Statement, ...]:
        """Those that decide and those on trial."""
        return self.statements if self.next is None else (*self.statements, *self.next.statements)


@dataclass(frozen=True, slots=True)
class Source:
    """A policy's text under its digest, for the ledger."""

    name: str
    sha256: str  # hex
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySet:
    """All policies and the guardrails they were checked against. Swapped whole, never changed."""

    version: str  # sha256:<hex> over every policy's digest and the guardrails'
    policies: Mapping[str, Policy] = field(repr=False)
    guardrails: Guardrails = field(repr=False)
    grants: Mapping[str, tuple[Policy, Grant]] = field(repr=False)  # by policy/grant
    on_trial: frozenset[str]  # policies with a version beside the one that decides
    _naming: Naming = field(repr=False)

    @classmethod
    def of(cls, policies: Iterable[Policy], guardrails: Guardrails) -> "PolicySet":
        """Build the set; the names are already known to differ."""
        named = {policy.name: policy for policy in sorted(policies, key=lambda policy: policy.name)}
        digests = [policy.version.removeprefix("sha256:") for policy in named.values()]
        version = hashlib.sha256("\n".join([*sorted(digests), guardrails.sha256]).encode()).hexdigest()
        return cls(
            version=f"sha256:{version}",
            policies=MappingProxyType(named),
            guardrails=guardrails,
            grants=MappingProxyType(
                {grant.name: (policy, grant) for policy in named.values() for grant in policy.grants.values()}
            ),
            on_trial=frozenset(name for name, policy in named.items() if policy.next is not None),
            _naming=Naming.of(
                (
                    statement.issuer,
                    [(bound.key, bound.read, bound.condition) for bound in statement.conditions if bound.anchor],
                )
                for policy in named.values()
                for statement in policy.all_statements
            ),
        )

    @property
    def sources(self) -> tuple[Source, ...]:
        """What the ledger stores of this set, so that an event can name for good what decided it."""
        return tuple(
            Source(policy.name, policy.version.removeprefix("sha256:"), policy.text)
            for policy in self.policies.values()
        )

    def names(self, token: VerifiedToken) -> bool:
        """Whether any policy names this job's project, owner or immutable id: a near miss, rather than a stranger."""
        return self._naming.holds(token)
