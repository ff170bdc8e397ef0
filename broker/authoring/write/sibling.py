"""The most dangerous job that is nearly this one: other people's code under the same ids, or a stranger under the same name."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from broker.authoring.write.origins import TRIGGERS, at, origins, put
from broker.issuers.seam import Claims, IssuerKind
from broker.model import VerifiedToken
from broker.policy.examples import LIKE

_WHOSE: Final = ("project_id", "owner_id", "project", "owner")
_FIRST: Final = ("pull", "merge", "fork")  # what most people call an attack, before what only some CIs have


def dangerous_sibling(
    kind: IssuerKind, allowed: Mapping[str, Any], token: VerifiedToken, words: Collection[str]
) -> tuple[dict[str, Any], str]:
    """`claims:` of an example that has to be refused, and its name. `allowed` is the job's own example, `token` its token.

    `words` are what the policy asks for: the best sibling has all of them, so that its trigger alone stands in its way.
    """
    same = {word: getattr(token.job, word) for word in words}
    far: tuple[dict[str, Any], str] | None = None
    for name, unsafe in _unsafe(kind):
        found = _same_project(kind, unsafe, token.claims)
        for trigger in kind.unsafe_triggers(found):
            called = f"the same project, but {trigger}"
            written = {key: value for key, value in found.items() if key not in unsafe or unsafe[key] != value}
            if _has(kind, found, same):
                return {LIKE: name, **written}, called
            if (turned := with_trigger(kind, token.claims, trigger)) is not None and _has(kind, turned, same):
                return _as_written(allowed, token.claims, turned), called
            far = far or ({LIKE: name, **written}, called)
    for trigger in kind.trigger_names:  # a generic issuer's map decides what its tokens are told by, not its examples
        if (turned := with_trigger(kind, token.claims, trigger)) is not None:
            return _as_written(allowed, token.claims, turned), f"the same project, but {trigger}"
    return far or _somebody_else(kind, allowed, token)


def _has(kind: IssuerKind, claims: Claims, same: Mapping[str, Any]) -> bool:
    job = kind.identity(claims)
    return all(getattr(job, word) == value for word, value in same.items())


def _as_written(allowed: Mapping[str, Any], claims: Claims, changed: Claims) -> dict[str, Any]:
    """The allowed example, with what changed in its place."""
    different = {key: changed.get(key) for key in [*changed, *claims] if claims.get(key) != changed.get(key)}
    return {**allowed, **different}


def with_trigger(kind: IssuerKind, claims: Claims, trigger: str) -> dict[str, Any] | None:
    """The same job, but for as little as makes this unsafe trigger of it; None where the claims leave no way."""
    told: dict[tuple[str, ...], None] = dict.fromkeys(sorted(origins(kind, claims).get(TRIGGERS, ())))
    shown = [unsafe for unsafe in kind.examples.values() if trigger in kind.unsafe_triggers(unsafe)]
    for unsafe in [*shown, *(one for one in kind.examples.values() if kind.unsafe_triggers(one))]:
        told |= dict.fromkeys(sorted(origins(kind, unsafe).get(TRIGGERS, ())))
    made = origins(kind, claims)  # a safe token's trigger tells of none: what its own words come from may
    told |= dict.fromkeys(leaf for word in ("trigger", "ref_type", "ref") for leaf in sorted(made.get(word, ())))
    for leaf in told:
        for value in (*(at(unsafe, leaf) for unsafe in shown), trigger, None, another(at(claims, leaf))):
            changed = put(claims, leaf, value)
            if trigger in kind.unsafe_triggers(changed) and changed != claims:
                return changed
    return None


def _unsafe(kind: IssuerKind) -> Iterator[tuple[str, Claims]]:
    """The kind's unsafe examples, pull requests first, with the fewest changes to a safe one first among them."""
    safe = [claims for claims in kind.examples.values() if not kind.unsafe_triggers(claims)]
    found = [(name, claims) for name, claims in kind.examples.items() if kind.unsafe_triggers(claims)]

    def order(item: tuple[str, Claims]) -> tuple[bool, int]:
        name, claims = item
        far = min(
            (sum(claims.get(key) != one.get(key) for key in claims.keys() | one.keys()) for one in safe), default=0
        )
        return not any(word in name for word in _FIRST), far

    yield from sorted(found, key=order)


def _same_project(kind: IssuerKind, unsafe: Claims, claims: Claims) -> dict[str, Any]:
    """The unsafe job in the other's project, as far as it stays unsafe: every id and name that can be taken over is."""
    found, triggers = dict(unsafe), kind.unsafe_triggers(unsafe)
    made = origins(kind, claims)
    for word in _WHOSE:
        for leaf in sorted(made.get(word, ())):
            for value in (at(claims, leaf), _transplanted(kind, leaf, unsafe, claims)):
                changed = put(found, leaf, value)
                if value is not None and leaf[0] != "iss" and set(kind.unsafe_triggers(changed)) >= set(triggers):
                    found = changed
                    break
    return found


def _transplanted(kind: IssuerKind, leaf: tuple[str, ...], unsafe: Claims, claims: Claims) -> str | None:
    """Where a path says both whose job it is and what it is (Jenkins): the job's own path with the unsafe one's last parts."""
    mine, theirs = at(claims, leaf), at(unsafe, leaf)
    for safe in kind.examples.values():
        usual = at(safe, leaf)
        if kind.unsafe_triggers(safe) or not all(isinstance(text, str) for text in (mine, theirs, usual)):
            continue
        own, other, known = mine.split("/"), theirs.split("/"), usual.split("/")
        if len(other) != len(known) or len(own) < 4:  # noqa: PLR2004  scheme, nothing, host, and a path
            continue
        for back in range(1, len(known) + 1):
            if other[-back] != known[-back] and back <= len(own) - 3:
                own[-back] = other[-back]
        if own != mine.split("/"):
            return "/".join(own)
    return None


def _somebody_else(kind: IssuerKind, allowed: Mapping[str, Any], token: VerifiedToken) -> tuple[dict[str, Any], str]:
    """The job's own example with another id: what is left where a CI's tokens show no trigger at all."""
    made = origins(kind, token.claims)
    for word in (*kind.immutable, "project"):
        for leaf in sorted(made.get(word, ())):
            value = at(token.claims, leaf)
            other = another(value)
            changed = put(token.claims, leaf, other)
            if getattr(kind.identity(changed), word) != getattr(token.job, word):
                return {**allowed, leaf[0]: changed[leaf[0]]}, f"the same name with another {word}"
    raise AssertionError("no claim says whose job it is")  # a policy pins one of these, so one is there


def another(value: Any) -> Any:
    """A value of the same type that looks much like this one."""
    if value is None or isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    text = str(value)
    digits = [place for place, character in enumerate(text) if character.isdecimal()]
    if not digits:
        return text + "-evil"
    place = digits[-1]
    return text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :]
