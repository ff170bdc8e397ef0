"""An example that would notice a loosened statement: the nearest job that only the loosened one trusts.

First the policy's own allowed examples with one claim changed, since an author knows them; then what a proof found.
"""

import json
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from broker.authoring.mutation.alternatives import Literals, alternatives
from broker.authoring.write.origins import Leaf, at, leaves, origins, put
from broker.authoring.write.record import written_claims
from broker.authoring.write.sibling import with_trigger
from broker.issuers.seam import Claims, IssuerKind
from broker.model import VerifiedToken
from broker.policy.claims import absent
from broker.policy.document import ExamplePart
from broker.policy.examples import LIKE, example_token
from broker.policy.expressions import Expression
from broker.policy.policyset import Policy, Statement
from broker.policy.world import World

LONGEST_NAME: Final = 100  # characters of a value in an example's name
MOST: Final = 600  # candidates that are tried for one hole
Allowed = tuple[ExamplePart, VerifiedToken]
Found = tuple[dict[str, Any], VerifiedToken]


def suggestions(
    policy: Policy, loosened: Statement, allowed: Sequence[Allowed], world: World, *,
    key: str, spec: Any, triggers: frozenset[str], taken: set[str], witnesses: Sequence[Claims] = (),
) -> Iterator[Found]:  # fmt: skip
    """Entries of `examples:` with their tokens, the nearest first. `key` and `spec` say what was loosened.

    With `witnesses`, claims that a proof found, these; otherwise neighbours of what the policy's examples allow.
    """
    kind = world.issuers[loosened.issuer]

    def let_in(found: Claims) -> VerifiedToken | None:
        try:
            token = example_token(loosened.issuer, kind, found)
        except Exception:  # noqa: BLE001  claims that were made up; no such token could be
            return None
        new = loosened.trusts(token) and not any(statement.trusts(token) for statement in policy.statements)
        return token if new else None

    for claims in witnesses:
        if (found := let_in(claims)) is not None:
            entry = written_claims(
                kind,
                claims,
                issuer=loosened.issuer,
                world=world,
                keep=lambda leaf, made: True,  # noqa: ARG005  a Keep
            )
            yield _entry(policy, found, entry, key, taken), found
    if witnesses:
        return
    when = next((one.when for one in policy.statements if one.number == loosened.number), None)
    nearby = (
        (example, token, changed)
        for example, token in allowed
        if token.issuer == loosened.issuer
        for changed in _neighbours(kind, token, key, spec, triggers=triggers, when=when)
    )
    for example, token, changed in islice(nearby, MOST):
        if (found := let_in(changed)) is not None:
            yield _entry(policy, found, _as_written(example, token, changed), key, taken), found


def _neighbours(
    kind: IssuerKind, token: VerifiedToken, key: str, spec: Any, *, triggers: frozenset[str], when: Expression | None
) -> Iterator[Claims]:
    """The token's claims, changed in as little as the loosened part reads; the likeliest attack first."""
    for trigger in kind.trigger_names:
        if trigger in triggers and (turned := with_trigger(kind, token.claims, trigger)) is not None:
            yield turned
    paths = list(_paths(kind, token, key, when))
    literals = Literals() if when is None or key != "when" else Literals.of(when.source)
    where, _, name = key.partition(".")
    shadowed: list[Claims] = []
    for leaf in paths:
        value = at(token.claims, leaf)
        twins = [one for one in leaves(token.claims) if one != leaf and value and at(token.claims, one) == value]
        for other in alternatives(kind, leaf, value, spec, literals):
            changed: Claims = put(token.claims, leaf, other)
            shadowed.append(changed)
            yield changed
            if twins and other is not None:  # two claims that say the same, and whose difference would be a trigger
                for twin in twins:
                    changed = put(changed, twin, other)
                yield changed
    if where == "job":  # a word can come from either of two claims: a ref by its path, or by its name and type
        for changed in shadowed:
            for leaf in sorted(origins(kind, changed).get(name, frozenset()) - set(paths)):
                for other in alternatives(kind, leaf, at(changed, leaf), spec, literals):
                    yield put(changed, leaf, other)


def _paths(kind: IssuerKind, token: VerifiedToken, key: str, when: Expression | None) -> Iterator[Leaf]:
    """Where the loosened part looks."""
    where, _, name = key.partition(".")
    if where == "job":
        yield from _of_words(kind, token.claims, {name})
    elif where == "claims":
        yield _path(token.claims, name)
    elif key == "when" and when is not None:
        names, words = when.reads
        named = [leaf for leaf in sorted(leaves(token.claims)) if names is None or leaf[0] in names]
        yield from named
        yield from (leaf for leaf in _of_words(kind, token.claims, words) if leaf not in named)


def _of_words(kind: IssuerKind, claims: Claims, words: Collection[str] | None) -> list[Leaf]:
    """What these words come from, all where None. A word that the job lacks: what the kind's examples make it of."""
    made = origins(kind, claims)
    found: set[Leaf] = set()
    for word in made if words is None else words:
        shown = (origins(kind, example).get(word, frozenset()) for example in kind.examples.values())
        found |= made.get(word) or frozenset[Leaf]().union(*shown)
    return sorted(found)


def _path(claims: Claims, name: str) -> Leaf:
    if name.startswith("/") and name not in claims:
        return tuple(step.replace("~1", "/").replace("~0", "~") for step in name[1:].split("/"))
    return (name,)


def _as_written(example: ExamplePart, token: VerifiedToken, changed: Claims) -> dict[str, Any]:
    """The allowed example's own words, with the changed claims in their place."""
    written = dict(example.claims)
    for name in changed.keys() | token.claims.keys():
        if changed.get(name) != token.claims.get(name):
            if name in changed:
                written[name] = changed[name]
            elif LIKE in written:
                written[name] = None
            else:
                written.pop(name, None)
    return written


def _entry(
    policy: Policy, token: VerifiedToken, written: Mapping[str, Any], key: str, taken: set[str]
) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": unused(f"{_said(token, key, written)} gets nothing", taken)}
    if len({statement.issuer for statement in policy.statements}) > 1:
        entry["issuer"] = token.issuer
    return {**entry, "claims": dict(written), "expect": "refuse"}


def _said(token: VerifiedToken, key: str, written: Mapping[str, Any]) -> str:
    """What is wrong with the job, in a few words: `ref refs/heads/main-evil`."""
    where, _, name = key.partition(".")
    if key == "allow_triggers":
        return ", ".join(token.unsafe_triggers) or "another trigger"
    if not name:  # an expression looks at several claims; the last one that differs is written last
        name = list(written)[-1]
    value = getattr(token.job, name) if where == "job" else at(token.claims, _path(token.claims, name))
    called = name.rpartition("/")[2]
    if absent(value):
        return f"no {called}"
    items = value if isinstance(value, list) else [value]
    plain = ", ".join(item if isinstance(item, str) else json.dumps(item) for item in items)
    return f"{called} " + "".join(one if one.isprintable() else "?" for one in plain)[:LONGEST_NAME]


def unused(name: str, taken: Container[str]) -> str:
    """The name, with a number where an example is called so already."""
    number, called = 1, name
    while called in taken:
        number += 1
        called = f"{name} ({number})"
    return called


def others_of(witness: Any, spec: Any) -> Iterator[Any]:
    """Values of a parameter that a job might send instead: a proof's, and what looks like one that is allowed."""
    if witness is not None:
        yield witness
    for item in spec if isinstance(spec, list) else [spec]:
        value = next(iter(item.values())) if isinstance(item, Mapping) else item
        if isinstance(value, str):
            plain = value.replace("**", "x").replace("*", "x").replace("?", "x")
            yield from (
                plain + "-evil",
                plain + "x",
                plain.capitalize(),
                plain + "evil",
                value.replace("*", "x/y"),
                "other",
            )
        elif isinstance(value, int):
            yield from (not value,) if isinstance(value, bool) else (value + 1,)
    yield None
