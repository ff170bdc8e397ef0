"""A policy in plain words: sentences, and a matrix of who may have what, when, and for how long.

One structure, which every output renders word for word. It leaves nothing out: two policies that decide differently are
described differently (options stand there as written too, since a backend's own words may round them off).
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from broker.authoring.describe.sentences import Said, duration_words, said
from broker.authoring.describe.words import condition_words, filled_words, listed, value_words
from broker.issuers.seam import IssuerKind
from broker.policy.document import GrantPart, PolicyFile, StatementPart
from broker.policy.world import World

CLOSED: Final = (
    "Every other job gets nothing. Neither does one that a pull request or another trigger started that can run other"
    " people's code, unless a line says that it may."
)
_STEP: Final = re.compile(r"[A-Za-z0-9_-]+")
TRIAL: Final = "On trial (mode: observe): requests are judged and recorded, and nothing is given."


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantWords:
    """One entry of `grants:`."""

    name: str  # payments/shell
    backend: str
    what: str  # "an SSH certificate for the principal deploy"
    how_long: str  # "10 minutes"
    options: tuple[tuple[str, str], ...]  # path below `with:` -> the value, as JSON
    params: tuple[str, ...]  # "public_key has to match ssh-ed25519 *"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementWords:
    """One entry of `trust:`."""

    number: int
    issuer: str
    who: str  # "jobs of acme/payments (id 512345678) on GitHub Actions"
    when: str  # "they run from the protected branch main"; empty where nothing more is asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the matrix: a statement and a grant."""

    who: str
    what: str
    when: str
    how_long: str
    grant: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """One policy."""

    name: str
    title: str  # its own description; may be empty
    owners: tuple[str, ...]
    file: str
    notes: tuple[str, ...]
    sentences: tuple[str, ...]  # one for each statement
    statements: tuple[StatementWords, ...]
    grants: tuple[GrantWords, ...]
    rows: tuple[Row, ...]
    following: "Description | None" = None  # the version on trial beside it


def describe(written: PolicyFile, world: World, *, file: str, following: "Description | None" = None) -> Description:
    """The words for a file that loads."""
    statements = tuple(_statement(number, part, world.issuers) for number, part in enumerate(written.trust))
    grants = tuple(
        grant_words(f"{written.policy}/{name}", part, world) for name, part in sorted(written.grants.items())
    )
    observed = written.mode == "observe"
    return Description(
        name=written.policy,
        title=written.description,
        owners=tuple(written.owners),
        file=file,
        notes=((TRIAL,) if observed else ()) + (CLOSED,),
        sentences=tuple(_sentence(statement, grants, observed=observed) for statement in statements),
        statements=statements,
        grants=grants,
        rows=tuple(
            Row(who=one.who, what=_what(grant), when=one.when or "always", how_long=grant.how_long, grant=grant.name)
            for one in statements
            for grant in grants
        ),
        following=following,
    )


def _statement(number: int, part: StatementPart, kinds: Mapping[str, IssuerKind]) -> StatementWords:
    words = statement_part_words(part, kinds)
    return StatementWords(number=number, issuer=part.issuer, who=f"jobs {words.who}", when=words.when)


def statement_part_words(part: StatementPart, kinds: Mapping[str, IssuerKind]) -> Said:
    """A statement as written, in the words of broker.authoring.describe.sentences."""
    return said(
        issuer=part.issuer,
        kind=kinds.get(part.issuer),
        conditions=[
            *((f"job.{name}", spec) for name, spec in part.job.items()),
            *((f"claims.{name}", spec) for name, spec in part.claims.items()),
        ],
        when=part.when,
        triggers=part.allow_triggers,
    )


def grant_words(name: str, part: GrantPart, world: World) -> GrantWords:
    """One grant in its backend's own words; in general ones where no backend is known."""
    target = (world.targets or {}).get(part.backend)
    tell = target.describe if target is not None else None
    what = tell(filled_words(part.options)) if tell is not None else f"a credential of the backend {part.backend}"
    return GrantWords(
        name=name,
        backend=part.backend,
        what=what,
        how_long=duration_words(part.ttl),
        options=tuple(sorted(_flat(part.options, ""))),
        params=tuple(
            f"what the job sends as {value_words(param, text=True)} is {condition_words(spec)}"
            for param, spec in sorted(part.params.items())
        ),
    )


def _sentence(statement: StatementWords, grants: tuple[GrantWords, ...], *, observed: bool) -> str:
    have = "would have" if observed else "may have"
    what = listed([f"{grant.what} for at most {grant.how_long}{_sending(grant)}" for grant in grants])
    when = f", if {statement.when}" if statement.when else ""
    return f"{statement.who[0].upper()}{statement.who[1:]} {have} {what}{when}."


def _sending(grant: GrantWords) -> str:
    return f" (where {listed(grant.params)})" if grant.params else ""


def _what(grant: GrantWords) -> str:
    return grant.what + _sending(grant)


def _flat(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every leaf of the options with its path, values as JSON, so that nothing reads like something else."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            name = key if _STEP.fullmatch(key) else json.dumps(key, ensure_ascii=False)
            yield from _flat(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value:
        for number, item in enumerate(value):
            yield from _flat(item, f"{path}[{number}]")
    elif path:
        yield path, json.dumps(value, ensure_ascii=False)
