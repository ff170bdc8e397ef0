"""Which of a token's claims make which of a job's words, found out by asking the issuer kind.

* No table: each leaf of the claims is changed, or taken away, and the words that change with it come from there. So a new
  issuer kind, and a generic one with any map, is understood without a line here.
* The way back: claims for a job that is known by its words alone, which are checked by the kind before they are believed.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from broker.issuers.seam import Claims, IssuerKind
from broker.model import JobIdentity

Leaf = tuple[str, ...]  # ("kubernetes.io", "pod", "uid")
Origins = Mapping[str, frozenset[Leaf]]

TRIGGERS: Final = "unsafe_triggers"  # not a word, but made of claims as words are
DERIVED: Final = frozenset({"run_url"})  # from nearly everything, and read by people only
_DEEPEST: Final = 8


def leaves(claims: Claims, at: Leaf = ()) -> Iterator[Leaf]:
    """The path of every value that is no object; an object that is empty or too deep is a leaf itself."""
    for name, value in claims.items():
        if isinstance(value, Mapping) and value and len(at) < _DEEPEST:
            yield from leaves(value, (*at, name))
        else:
            yield (*at, name)


def at(claims: Claims, leaf: Leaf) -> Any:
    """The value at a path, or None."""
    value: Any = claims
    for step in leaf:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def put(claims: Claims, leaf: Leaf, value: Any) -> dict[str, Any]:
    """A copy with this value at the path; None takes it away."""
    first, rest = leaf[0], leaf[1:]
    changed = dict(claims)
    if rest:
        inner = changed.get(first)
        changed[first] = put(inner if isinstance(inner, Mapping) else {}, rest, value)
    elif value is None:
        changed.pop(first, None)
    else:
        changed[first] = value
    return changed


def origins(kind: IssuerKind, claims: Claims) -> Origins:
    """Word (or TRIGGERS) -> the leaves that it comes from."""
    words, triggers = kind.identity(claims).present(), kind.unsafe_triggers(claims)
    found: dict[str, set[Leaf]] = {}
    for leaf in leaves(claims):
        for probe in _probes(at(claims, leaf)):
            changed = put(claims, leaf, probe)
            now = kind.identity(changed).present()
            for word in words.keys() | now.keys():
                if words.get(word) != now.get(word) and word not in DERIVED:
                    found.setdefault(word, set()).add(leaf)
            if kind.unsafe_triggers(changed) != triggers:
                found.setdefault(TRIGGERS, set()).add(leaf)
    for word in words.keys() - found.keys() - DERIVED:  # said twice: no single change is enough
        found[word] = _enough(claims, lambda less, word=word: getattr(kind.identity(less), word) == words[word])  # type: ignore[misc]  # a loop's default
    if triggers and TRIGGERS not in found:
        found[TRIGGERS] = _enough(claims, lambda less: kind.unsafe_triggers(less) == triggers)
    return {word: frozenset(paths) for word, paths in found.items()}


def _enough(claims: Claims, same: Callable[[Claims], bool]) -> set[Leaf]:
    """Leaves that say it by themselves: all are taken away, one after another, but for those it hangs on."""
    less: Claims = claims
    for leaf in list(leaves(claims)):
        if same(without := put(less, leaf, None)):
            less = without
    return set(leaves(less))


def _probes(value: Any) -> Iterator[Any]:
    yield None
    match value:
        case bool():
            yield not value
        case str():
            yield value + "x"
            yield {"true": "false", "false": "true"}.get(value, "x")
            if value.startswith("refs/"):
                yield "refs/tags/x" if value.startswith("refs/heads/") else "refs/heads/x"
        case int():
            yield value + 1
        case _:
            pass


def claims_of(kind: IssuerKind, words: Mapping[str, str | bool]) -> dict[str, Any] | None:
    """Claims of which the kind makes exactly these words (a link aside), or None where none were found."""
    wanted = {word: value for word, value in words.items() if word not in DERIVED}
    for example in kind.examples.values():
        claims: dict[str, Any] = dict(example)
        for _ in range(3):  # a word made of two claims settles once the other words have theirs
            for word, value in wanted.items():
                claims = _towards(kind, claims, word, value)
        for word in kind.identity(claims).present().keys() - wanted.keys() - DERIVED:
            for leaf in origins(kind, claims).get(word, ()):
                without = put(claims, leaf, None)
                if all(getattr(kind.identity(without), word) == value for word, value in wanted.items()):
                    claims = without
        if _without_link(kind.identity(claims)) == wanted:
            return claims
    return None


def _without_link(job: JobIdentity) -> dict[str, str | bool]:
    return {word: value for word, value in job.present().items() if word not in DERIVED}


def _towards(kind: IssuerKind, claims: dict[str, Any], word: str, value: str | bool) -> dict[str, Any]:
    """The claims with one leaf changed so that the word has this value; unchanged where no single change does it."""
    if (now := getattr(kind.identity(claims), word)) == value:
        return claims
    for leaf in sorted(origins(kind, claims).get(word, ())):
        for candidate in _candidates(at(claims, leaf), now, value):
            changed = put(claims, leaf, candidate)
            if getattr(kind.identity(changed), word) == value:
                return changed
    return claims


def _candidates(claim: Any, now: str | bool | None, value: str | bool) -> Iterator[Any]:
    if isinstance(value, bool):
        yield from (value, "true" if value else "false")
        return
    yield value
    if value.isdecimal():
        yield int(value)
    if isinstance(claim, str) and isinstance(now, str) and now:
        if now in claim:  # the word is part of the claim
            yield claim.replace(now, value)
        yield from _rejoined(claim, now, value)
        before, found, after = now.partition(claim)  # the claim is part of the word
        if found and value.startswith(before) and value.endswith(after):
            yield value[len(before) : len(value) - len(after)]


def _rejoined(claim: str, now: str, value: str) -> Iterator[str]:
    """The word's segments stand in the claim with something of its own between them, as in a Jenkins job's URL."""
    found = re.search("(.+?)".join(re.escape(part) for part in now.split("/")), claim) if "/" in now else None
    if found is not None and len(set(found.groups())) == 1:
        yield claim[: found.start()] + found[1].join(value.split("/")) + claim[found.end() :]
