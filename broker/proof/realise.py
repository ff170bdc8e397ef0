"""From a box to the claims of a job in it: tokens that a CI could have signed, put to the statements themselves.

It begins with each of the issuer kind's examples, keeps what already fits, and writes other values only where the box
asks for them. Which claim tells a field of the job is found by trying. Nothing of it is believed: `verified` is asked of
every token, and it is the statements' own `trusts`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice, product
from typing import Any, Final

from broker.issuers.seam import IssuerKind
from broker.model import VerifiedToken
from broker.policy.examples import example_token
from broker.proof.boxes import TRIGGER, WHEN, Box
from broker.proof.guesses import guesses
from broker.proof.samples import Sample, sample, samples_of
from broker.proof.sources import Change, Path, Source, respelled, sources_of
from broker.proof.terms import Budget

MOST_TRIES: Final = 160  # tokens for one box
MOST_VALUES: Final = 6  # of one key
_FAR: Final = 100  # an unsafe trigger too many is worse than any value
_TELLING: Final = 6  # characters; a shorter value stands inside others by chance

Claims = Mapping[str, Any]


def realise(
    box: Box, issuer: tuple[str, IssuerKind, str | None], verified: Callable[[VerifiedToken], bool], budget: Budget
) -> VerifiedToken | None:
    """The first token of this issuer (its name, kind and URL) that `verified` admits; None where none was found.

    Raises Exhausted.
    """
    name, kind, url = issuer
    for claims in islice(_candidates(box, kind, url, budget), MOST_TRIES):
        budget.spend(50)
        try:
            token = example_token(name, kind, claims)
        except Exception:  # noqa: BLE001, S112  a kind may break on claims that its CI never signs; then these are none
            continue
        if verified(token):
            return token
    return None


def _candidates(box: Box, kind: IssuerKind, url: str | None, budget: Budget) -> Iterator[Claims]:
    near = sorted(samples_of(kind).all, key=lambda one: _distance(box, one))
    later: list[Iterator[Claims]] = []
    for example in near:
        base = example if url is None else sample(kind, {**example.claims, "iss": url})
        first: list[Change] = []
        rest: list[Iterator[Change]] = []
        for choice in _choices(box, kind, base, budget):
            if (change := next(choice, None)) is not None:
                first.append(change)
                rest.append(choice)
        yield _consistent(base.claims, first, box)
        yield _changed(base.claims, first)
        later.append(_varied(base.claims, first, rest))
    while later:  # in turn, or the first example's variations would take all the tries
        for varied in list(later):
            claims = next(varied, None)
            if claims is None:
                later.remove(varied)
            else:
                yield claims


def _distance(box: Box, example: Sample) -> int:
    """How much of an example has to be changed."""
    wanted = {key.removeprefix(TRIGGER) for key, region in box.items() if key.startswith(TRIGGER) and True in region}
    lacking = [name for name in wanted if name not in example.triggers and False not in box[TRIGGER + name]]
    unlike = sum(example.value(key) not in region for key, region in box.items() if key.startswith(("job.", "claims.")))
    return unlike + _FAR * (len(example.triggers - wanted) + len(lacking))


def _choices(box: Box, kind: IssuerKind, base: Sample, budget: Budget) -> Iterator[Iterator[Change]]:
    """For each key of the box what could be written for it, best first. An empty change keeps what is there."""
    for key in box:
        if key.startswith(("job.", "claims.")):
            yield _for_key(key, box, kind, base, budget)
    for key, region in box.items():
        for asked, worth in guesses(key.removeprefix(WHEN)) if key.startswith(WHEN) else ():
            yield _guessed(asked, worth, kind, base)
        name = key.removeprefix(TRIGGER)
        if key.startswith(TRIGGER) and False not in region and name not in base.triggers:
            yield _field_changes(kind, base.claims, ("trigger", None), [name])


def _guessed(key: str, values: Iterable[Any], kind: IssuerKind, base: Sample) -> Iterator[Change]:
    yield ()
    where, _, name = key.partition(".")
    if where == "job":
        yield from _field_changes(kind, base.claims, (name, None), values)
        return
    for value in values:
        yield (((name,), value),)


def _for_key(key: str, box: Box, kind: IssuerKind, base: Sample, budget: Budget) -> Iterator[Change]:
    where, _, name = key.partition(".")
    old = base.value(key)
    if old in box[key]:
        yield ()
    worth_trying = list(samples_of(kind).hints(key))
    if where == "job":
        values = islice(box[key].examples(worth_trying, budget), MOST_VALUES)
        yield from _field_changes(kind, base.claims, (name, old), values)
        return
    path = claim_path(name, base.claims)
    worth_trying += _told(box, kind, path, budget)
    for value in islice(box[key].examples(worth_trying, budget), MOST_VALUES):
        yield ((path, value),)


def _field_changes(kind: IssuerKind, base: Claims, field: tuple[str, Any], values: Iterable[Any]) -> Iterator[Change]:
    """Ways to give a field (its name, and its value in `base`) each of these values."""
    name, old = field
    for value in values:
        written = [source.write(value) for source in sources_of(kind).get(name, ())]
        if isinstance(old, str) and isinstance(value, str):
            written += respelled(base, old, value)
        yield from filter(None, written)


def _told(box: Box, kind: IssuerKind, path: Path, budget: Budget) -> list[Any]:
    """What fields of the job that this claim tells have to be."""
    fields = [field for field, sources in sources_of(kind).items() if Source(path) in sources and f"job.{field}" in box]
    return [value for field in fields for value in islice(box[f"job.{field}"].examples((), budget), 3)]


def claim_path(name: str, claims: Claims) -> Path:
    """Where a claim is written that a policy names so (broker.policy.claims.reader)."""
    if not name.startswith("/") or name in claims:
        return (name,)
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in name[1:].split("/"))


def _changed(base: Claims, changes: list[Change]) -> dict[str, Any]:
    claims = dict(base)
    for path, value in chain.from_iterable(changes):
        _write(claims, path, value)
    return claims


def _write(claims: dict[str, Any], path: Path, value: Any) -> None:
    for step in path[:-1]:
        inner = claims.get(step)
        claims[step] = dict(inner) if isinstance(inner, Mapping) else {}
        claims = claims[step]
    if value is None:
        claims.pop(path[-1], None)
    else:
        claims[path[-1]] = value


def _consistent(base: Claims, changes: list[Change], box: Box) -> dict[str, Any]:
    """The same, with a changed text changed inside other claims too: a `sub` speaks of the repository and the ref."""
    claims = _changed(base, changes)
    written = dict(chain.from_iterable(changes))
    for path, value in written.items():
        old = base.get(path[0]) if len(path) == 1 else None
        if not (isinstance(old, str) and isinstance(value, str) and len(old) >= _TELLING):
            continue
        for name, text in claims.items():
            if isinstance(text, str) and (name,) not in written and f"claims.{name}" not in box:
                claims[name] = text.replace(old, value)
    return claims


def _varied(base: Claims, first: list[Change], rest: list[Iterator[Change]]) -> Iterator[dict[str, Any]]:
    """One choice after the other changed alone, then all of them together."""
    choices = [[one, *others] for one, others in zip(first, rest, strict=True)]
    for number, choice in enumerate(choices):
        for change in choice[1:]:
            yield _changed(base, [*first[:number], change, *first[number + 1 :]])
    for changes in islice(product(*choices), 1, None):
        yield _changed(base, list(changes))
