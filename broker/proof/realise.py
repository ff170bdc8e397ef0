"""From a box to the claims of a job in it: tokens that a CI could have signed, put to the statements themselves.

It begins with each of the issuer kind's examples, keeps what already fits, and writes other values only where the box
asks for them. Which claim tells a field of the job is found by trying. Nothing of it is believed: `verified` is asked of
every token, and it is the statements' own `trusts`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice, product
from typing import Any, Final

from broker.issuers.seam import IssuerKind
from broker.model import JobIdentity, VerifiedToken
from broker.policy.claims import reader
from broker.policy.examples import example_token
from broker.proof.boxes import TRIGGER, WHEN, Box
from broker.proof.guesses import guesses
from broker.proof.sources import Change, Path, Source, respelled, sources_of
from broker.proof.terms import Budget

MOST_TRIES: Final = 160  # tokens for one box
MOST_VALUES: Final = 6  # of one key
_FAR: Final = 100  # an unsafe trigger too many is worse than any value
_TELLING: Final = 6  # characters; a shorter value stands inside others by chance

Claims = Mapping[str, Any]
Choice = list[Change]


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
    if not kind.examples:
        return
    near = sorted(kind.examples.values(), key=lambda claims: _distance(box, kind, claims))
    later: list[Iterator[Claims]] = []
    for example in near:
        base = {**example, "iss": url} if url is not None else dict(example)
        choices = _choices(box, kind, base, budget)
        first = [choice[0] for choice in choices]
        yield _consistent(base, first, box)
        yield _changed(base, first)
        later.append(_varied(base, choices))
    while later:  # in turn, or the first example's variations would take all the tries
        for varied in list(later):
            claims = next(varied, None)
            if claims is None:
                later.remove(varied)
            else:
                yield claims


def _distance(box: Box, kind: IssuerKind, claims: Claims) -> int:
    """How much of an example has to be changed."""
    job, triggers = _identity(kind, claims), kind.unsafe_triggers(claims)
    wanted = {key.removeprefix(TRIGGER) for key, region in box.items() if key.startswith(TRIGGER) and True in region}
    lacking = [name for name in wanted if name not in triggers and False not in box[TRIGGER + name]]
    unlike = sum(
        _value(key, job, claims) not in region for key, region in box.items() if key.startswith(("job.", "claims."))
    )
    return unlike + _FAR * (len(set(triggers) - wanted) + len(lacking))


def _identity(kind: IssuerKind, claims: Claims) -> JobIdentity:
    try:
        return kind.identity(claims)
    except Exception:  # noqa: BLE001  a generic kind's map need not fit the examples
        return JobIdentity()


def _value(key: str, job: JobIdentity, claims: Claims) -> Any:
    where, _, name = key.partition(".")
    return getattr(job, name, None) if where == "job" else reader(name)(claims)


def _choices(box: Box, kind: IssuerKind, base: Claims, budget: Budget) -> list[Choice]:
    """For each key of the box what could be written for it, best first. An empty change keeps what is there."""
    job, triggers = _identity(kind, base), kind.unsafe_triggers(base)
    found: list[Choice] = []
    for key, region in box.items():
        where, _, name = key.partition(".")
        if where not in {"job", "claims"}:
            continue
        keep: Choice = [()] if _value(key, job, base) in region else []
        worth_trying = hints(kind, key)
        if where == "claims":
            path = claim_path(name, base)
            worth_trying += _told(box, kind, path, budget)
            changes: Choice = [((path, value),) for value in islice(region.examples(worth_trying, budget), MOST_VALUES)]
        else:
            values = list(islice(region.examples(worth_trying, budget), MOST_VALUES))
            changes = _field_changes(kind, base, (name, getattr(job, name, None)), values)
        if keep or changes:
            found.append(keep + changes)
    for key, region in box.items():
        for asked, worth in guesses(key.removeprefix(WHEN)) if key.startswith(WHEN) else ():
            where, _, name = asked.partition(".")
            changes = _field_changes(kind, base, (name, None), worth)
            found.append([(), *(changes if where == "job" else [(((name,), value),) for value in worth])])
        name = key.removeprefix(TRIGGER)
        missing = key.startswith(TRIGGER) and False not in region and name not in triggers
        if missing and (changes := _field_changes(kind, base, ("trigger", None), [name])):
            found.append(changes)
    return found


def _field_changes(kind: IssuerKind, base: Claims, field: tuple[str, Any], values: Iterable[Any]) -> Choice:
    """Ways to give a field (its name, and its value in `base`) each of these values."""
    name, old = field
    found: Choice = []
    for value in values:
        written = (source.write(value) for source in sources_of(kind).get(name, ()))
        found += [change for change in written if change is not None]
        if isinstance(old, str) and isinstance(value, str):
            found += [change for change in respelled(base, old, value) if change]
    return found


def _told(box: Box, kind: IssuerKind, path: Path, budget: Budget) -> list[Any]:
    """What fields of the job that this claim tells have to be."""
    fields = [field for field, sources in sources_of(kind).items() if Source(path) in sources and f"job.{field}" in box]
    return [value for field in fields for value in islice(box[f"job.{field}"].examples((), budget), 3)]


def hints(kind: IssuerKind, key: str) -> list[Any]:
    """The values that the kind's examples have there."""
    known = (_value(key, _identity(kind, claims), claims) for claims in kind.examples.values())
    return [value for value in known if value is not None]


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


def _varied(base: Claims, choices: list[Choice]) -> Iterator[dict[str, Any]]:
    """One choice after the other changed alone, then all of them together."""
    first = [choice[0] for choice in choices]
    for number, choice in enumerate(choices):
        for change in choice[1:]:
            yield _changed(base, [*first[:number], change, *first[number + 1 :]])
    for changes in islice(product(*choices), 1, None):
        yield _changed(base, list(changes))
