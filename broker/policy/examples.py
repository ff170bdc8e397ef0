"""The examples of a policy, run when it loads: what an author believes, compared with what the policy does.

An example's token is as good as one that broker.tokens verified, and exists only here: it never meets a backend.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from broker.documents import Path, suggestion
from broker.issuers.seam import IssuerKind
from broker.model import GrantRequest, VerifiedToken
from broker.policy.answers import AllowedGrant, BadParams, told
from broker.policy.conditions import Report
from broker.policy.decide import judge, trusting
from broker.policy.document import ExamplePart, PolicyFile
from broker.policy.policyset import Policy
from broker.policy.world import Reporter, World

LIKE: Final = "$like"
_NOON: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleOutcome:
    """What became of one example; no problem means that it came out as it says."""

    number: int  # from 0
    name: str = field(repr=False)
    expected: tuple[str, ...]  # the grants it says it gets; none for a refusal
    problems: tuple[tuple[Path, str], ...] = field(repr=False)  # below the example: where, and what happened instead
    token: VerifiedToken | None = field(repr=False)  # None where the claims make none


def run_examples(policy: Policy, written: PolicyFile, world: World, report: Reporter) -> None:
    """Report every example that does not come out as it says, with what happened instead."""
    for outcome in example_outcomes(policy, written, world):
        for path, problem in outcome.problems:
            report(("examples", outcome.number, *path), problem)


def example_outcomes(policy: Policy, written: PolicyFile, world: World) -> Iterator[ExampleOutcome]:
    """Try every example of a compiled policy, in the order in which they are written."""
    names: set[str] = set()
    for number, example in enumerate(written.examples):
        problems: list[tuple[Path, str]] = []

        def here(path: Path, message: str, into: list[tuple[Path, str]] = problems) -> None:
            into.append((path, message))

        if example.name in names:
            here(("name",), "an example of this name stands above; each says something of its own")
        names.add(example.name)
        token = _token(policy, example, world, here)
        if token is not None:
            for problem in _differences(policy, example, token):
                here(("expect",), f"{example.name!r}: {problem}")
        yield ExampleOutcome(
            number=number,
            name=example.name,
            expected=tuple(example.expect.allow),
            problems=tuple(problems),
            token=token,
        )


def example_token(issuer: str, kind: IssuerKind, claims: Mapping[str, Any]) -> VerifiedToken:
    """The token that a job with these claims would present. Raises what the kind's own mapping raises."""
    return VerifiedToken(
        issuer=issuer,
        kind=kind.name,
        claims=claims,
        job=kind.identity(claims),
        unsafe_triggers=kind.unsafe_triggers(claims),
        token_key=bytes(32),
        issued_at=_NOON,
        expires_at=_NOON + timedelta(minutes=5),
        longest_job=kind.longest_job,
    )


def example_claims(kind: IssuerKind, name: str) -> Mapping[str, Any] | None:
    """The claims that `$like: name` begins with: `environment`, or `github-environment`."""
    for known, claims in kind.examples.items():
        if name in {known, f"{kind.name}-{known}"}:
            return claims
    return None


def _token(policy: Policy, example: ExamplePart, world: World, report: Report) -> VerifiedToken | None:
    issuers = sorted({statement.issuer for statement in policy.statements})
    issuer = example.issuer or issuers[0]
    if example.issuer is None and len(issuers) > 1:
        report(
            (), f"say which issuer this job comes from, `issuer: {issuers[0]}` or another: the policy trusts several"
        )
        return None
    kind = world.issuers.get(issuer)
    if kind is None:
        report(("issuer",), f"no issuer {issuer!r} is configured{suggestion(issuer, world.issuers)}")
        return None
    claims: dict[str, Any] = {}
    if LIKE in example.claims:
        like = example.claims[LIKE]
        base = example_claims(kind, like) if isinstance(like, str) else None
        if base is None:
            known = [name if name.startswith(kind.name) else f"{kind.name}-{name}" for name in kind.examples]
            report(("claims", LIKE), f"no example {like!r} of {kind.title}{suggestion(str(like), known)}")
            return None
        claims = dict(base)
        if issuer in world.issuer_urls:
            claims["iss"] = world.issuer_urls[issuer]
    claims |= {name: value for name, value in example.claims.items() if name != LIKE}
    claims = {name: value for name, value in claims.items() if value is not None}
    try:
        return example_token(issuer, kind, claims)
    except Exception as error:  # noqa: BLE001  an author's claims of any shape; what they break is reported to the author
        report(("claims",), f"{kind.title} could not have signed these claims ({type(error).__name__})")
        return None


def _differences(policy: Policy, example: ExamplePart, token: VerifiedToken) -> Iterator[str]:
    asked = [example.grant] if example.grant else list(policy.grants)
    trusted = trusting(policy, token) is not None
    for name in asked:
        expected = name in example.expect.allow
        if not trusted and not expected:  # as it should be; nobody asks why
            continue
        request = GrantRequest(grant=f"{policy.name}/{name}", params=example.params)
        outcome = judge(policy, policy.grants[name], token, request, trust_only=example.params is None)
        match outcome:
            case AllowedGrant(statement=statement) if not expected:
                yield f"expected a refusal of {name}, but trust[{statement}] allows it"
            case BadParams(problems=problems) if expected:
                yield f"expected {name}, but what it sends is wrong: {problems[0].param}: {problems[0].message}"
            case [*misses] if expected:
                yield f"expected {name}, but it is refused: {told(misses)}"
            case _:
                pass
