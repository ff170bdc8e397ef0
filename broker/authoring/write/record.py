"""A real token's claims as an example of a policy: only what says something, and nothing about a person.

* The nearest of the issuer kind's examples is the beginning (`$like`), and only what differs from it is written.
* What belongs to one run (ids, times, commits) or to a person (actor, e-mail, login) is left out, unless something that
  judges reads it; the example's own made-up values stand in.
* The example decides exactly as the token does: that is checked, condition by condition, before it is given out.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from broker.authoring.write.origins import Leaf, Origins, at, leaves, origins, put
from broker.issuers.seam import Claims, IssuerKind
from broker.model import GrantRequest, VerifiedToken
from broker.policy.answers import AllowedGrant, BadParams, told
from broker.policy.decide import judge
from broker.policy.examples import LIKE, example_token
from broker.policy.misses import checks
from broker.policy.policyset import Policy
from broker.policy.world import World

RUN: Final = frozenset({"run_id", "job_id", "attempt", "sha"})
PERSON: Final = frozenset({"actor", "actor_id"})
_STANDARD: Final = frozenset({"iss", "aud", "iat", "nbf", "exp", "jti", "sub", "auth_time"})
_INCIDENTAL: Final = re.compile(
    r"(^|_)sha$|commit|(^|[_-])(run|build|job|pipeline|workflow|ppl|wf|step|agent|instance|runner)[_-]?(id|number|attempt)$"
    r"|(run|runner|build|job|pipeline|step|account|user)(run)?(id|uuid)$|timestamp"
    r"|actor|(^|_)user|email|login|groups|author",
    re.IGNORECASE,
)

_ADDRESS: Final = re.compile(r"email$", re.IGNORECASE)
Keep = Callable[[Leaf, Origins], bool]


def written_claims(kind: IssuerKind, claims: Claims, *, issuer: str, world: World, keep: Keep) -> dict[str, Any]:
    """`claims:` of an example whose token says the same as these in every leaf that `keep` wants, by what is made of it."""
    return next(_written(kind, claims, issuer=issuer, world=world, keep=keep))


def _written(
    kind: IssuerKind, claims: Claims, *, issuer: str, world: World, keep: Keep, bare: bool = False
) -> Iterator[dict[str, Any]]:
    """One for each of the kind's examples to begin with, the shortest first. `bare`: with nothing that the token lacks."""
    made = origins(kind, claims)
    kept = [leaf for leaf in sorted(leaves(claims)) if keep(leaf, made)]
    if issuer in world.issuer_urls:
        kept = [leaf for leaf in kept if leaf != ("iss",)]  # whoever runs the example adds it
    found: list[tuple[int, int, dict[str, Any]]] = []
    for number, (name, base) in enumerate(kind.examples.items()):
        meant, of_base = dict(base), origins(kind, base)
        for leaf in leaves(base):
            if at(claims, leaf) is None and (bare or keep(leaf, of_base)):  # not in the token, and not by accident
                meant = put(meant, leaf, None)
        for leaf in kept:
            meant = put(meant, leaf, at(claims, leaf))
        written = {claim: value for claim, value in meant.items() if claim not in base or base[claim] != value}
        written |= dict.fromkeys(sorted(base.keys() - meant.keys()))
        like = name if name.startswith(kind.name) else f"{kind.name}-{name}"
        found.append((len(written), number, {LIKE: like, **written}))
    yield from (written for _, _, written in sorted(found, key=lambda item: item[:2]))
    if not found:  # a kind without examples
        yield {leaf[0]: claims[leaf[0]] for leaf in kept}


def accident(leaf: Leaf, made: Origins) -> bool:
    """Whether a leaf says who ran what when, and nothing about whose job it is."""
    if _ADDRESS.search(leaf[-1]):
        return True  # a person's, even where it is what the job goes by
    words = {word for word, paths in made.items() if leaf in paths}
    if words - RUN - PERSON:
        return False
    return bool(words) or leaf[0] in _STANDARD or _INCIDENTAL.search(leaf[-1]) is not None


def reads(policy: Policy, token: VerifiedToken, kind: IssuerKind) -> frozenset[Leaf]:
    """Every leaf of the token's claims that the policy's decision depends on: conditions, `when`, triggers, `with`."""
    found: set[Leaf] = set()
    before = _judged(policy, token)
    for leaf in leaves(token.claims):
        value = at(token.claims, leaf)
        for other in (None, _other(value)):
            changed = put(token.claims, leaf, other)
            if _judged(policy, example_token(token.issuer, kind, changed)) != before:
                found.add(leaf)
    return frozenset(found)


def _other(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case str():
            return {"true": "false", "false": "true"}.get(value, value + "x")
        case int():
            return value + 1
        case list():
            return [*value, "x"]
        case _:
            return None


def _judged(policy: Policy, token: VerifiedToken) -> list[Any]:
    """Everything that a decision of this policy about this token shows: each check, and each grant's outcome."""
    shown: list[Any] = [list(checks(statement, token)) for statement in policy.statements]
    for grant in policy.grants.values():
        outcome = judge(policy, grant, token, GrantRequest(grant=grant.name), trust_only=True)
        shown.append((outcome.statement, outcome.options) if isinstance(outcome, AllowedGrant) else outcome)
    return shown


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a policy says of a token, grant by grant (short names); what the job sends is left out of it."""

    allowed: tuple[str, ...]
    refused: Mapping[str, str]  # grant -> the nearest statement's misses, in words

    def told(self) -> Iterator[str]:
        """A line each."""
        for grant in self.allowed:
            yield f"{grant}: allowed"
        for grant, why in self.refused.items():
            yield f"{grant}: refused: {why}"


def outcome(policy: Policy, token: VerifiedToken) -> Outcome:
    """Ask for every grant of the policy."""
    allowed: list[str] = []
    refused: dict[str, str] = {}
    for name, grant in policy.grants.items():
        said = judge(policy, grant, token, GrantRequest(grant=grant.name), trust_only=True)
        if isinstance(said, list):
            refused[name] = told(said)
        else:
            assert not isinstance(said, BadParams) or said.problems  # trusted, whatever it sends
            allowed.append(name)
    return Outcome(tuple(allowed), refused)


def recorded(
    policy: Policy | None, token: VerifiedToken, kind: IssuerKind, world: World, *, name: str, expect: Collection[str]
) -> dict[str, Any]:
    """An entry of `examples:` for this token. Without a policy nothing is known to read it, and only accidents are left out."""
    found = frozenset[Leaf]() if policy is None else reads(policy, token, kind)

    def keep(leaf: Leaf, made: Origins) -> bool:
        return leaf in found or not accident(leaf, made)

    written = next(
        (
            one
            for bare in (False, True)
            for one in _written(kind, token.claims, issuer=token.issuer, world=world, keep=keep, bare=bare)
            if _same(policy, token, kind, world, one)
        ),
        None,
    )
    if written is None:
        # The decision hangs on several accidents together; then all of them are evidence.
        written = written_claims(kind, token.claims, issuer=token.issuer, world=world, keep=lambda leaf, made: True)  # noqa: ARG005  a Keep
    example: dict[str, Any] = {"name": name}
    if policy is None or len({statement.issuer for statement in policy.statements} | {token.issuer}) > 1:
        example["issuer"] = token.issuer
    example["claims"] = written
    example["expect"] = {"allow": list(expect)} if expect else "refuse"
    return example


def _same(
    policy: Policy | None, token: VerifiedToken, kind: IssuerKind, world: World, written: Mapping[str, Any]
) -> bool:
    again = as_token(token.issuer, kind, world, written)
    if again.unsafe_triggers != token.unsafe_triggers:
        return False
    return policy is None or _judged(policy, again) == _judged(policy, token)


def as_token(issuer: str, kind: IssuerKind, world: World, written: Mapping[str, Any]) -> VerifiedToken:
    """The token of an example's `claims:`, as broker.policy.examples makes it."""
    claims = {**kind.examples.get(str(written.get(LIKE)), {})}
    if claims and issuer in world.issuer_urls:
        claims["iss"] = world.issuer_urls[issuer]
    claims |= {key: value for key, value in written.items() if key != LIKE}
    return example_token(issuer, kind, {key: value for key, value in claims.items() if value is not None})


def title(subject: VerifiedToken, taken: Callable[[str], bool]) -> str:
    """A name for the example: what started the job, where; with a number where the name is taken."""
    job = subject.job
    words = [
        job.trigger or "a job",
        f"on {job.ref}" if job.ref else "",
        f"in {job.environment}" if job.environment else "",
    ]
    if not job.ref and job.project and "@" not in job.project:  # which may be a person's address
        words.insert(1, f"of {job.project}")
    plain = " ".join(word for word in words if word)
    plain = "".join(character if character.isprintable() else "?" for character in plain)[:180]
    number, name = 1, plain
    while taken(name):
        number += 1
        name = f"{plain} ({number})"
    return name
