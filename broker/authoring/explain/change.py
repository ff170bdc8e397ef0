"""What could be changed in a policy so that one missed condition holds, or why nobody should change it.

A reason names the danger and the way out; it never hides behind "not possible".
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from broker.authoring.describe.words import TITLES, condition_words, value_words
from broker.authoring.explain.nearest import Near
from broker.documents import Path
from broker.model import VerifiedToken
from broker.policy.claims import absent
from broker.policy.conditions import LONGEST_VALUE, MOST_VALUES, compile_condition
from broker.policy.misses import Check
from broker.policy.policyset import Bound
from broker.policy.world import World

_PULL: Final = "pull-request"
_IDS: Final = ("project_id", "owner_id")
_FIELDS: Final = (*_IDS, "project", "owner")
_ONE_RUN: Final = frozenset({"run_id", "job_id", "run_url", "jti", "iat", "nbf", "exp", "check_run_id", "pipeline_id", "run_number"})  # fmt: skip
# condition that missed -> what its holding protects from
_PROTECTIONS: Final[Mapping[str, str]] = {
    "ref_protected": "anybody who may push could put code on an unprotected ref; protect the ref, then the job is trusted as it is",
    "environment_protected": "an environment without rules asks nobody; give it rules, then the job is trusted as it is",
    "fork": "a fork's code is its owner's, not yours; run the job from the project itself",
}
_ITEMS: Final = 4  # of a list that came, to try under `contains`


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One value of one statement, changed."""

    key: str  # job.ref, claims.x, allow_triggers
    path: Path  # below the statement
    value: Any  # what stands there after it
    fresh: bool = False  # whether the key is new
    newly: tuple[
        Bound, ...
    ] = ()  # conditions of which all hold exactly where the changed one holds and the old did not
    exactly: bool = True  # False: `newly` also holds for some that the old one let pass
    trigger: str | None = None
    says: str  # "let job.ref also be refs/heads/release"


def changes(near: Near, miss: Check, token: VerifiedToken, world: World) -> tuple[Change, ...] | str:
    """The changes that would make this miss hold, smallest first; or a sentence on why it should stay."""
    if miss.key == "issuer":
        return (
            f"the job comes from the issuer {token.issuer}, and the nearest statement trusts {near.statement.issuer};"
            " trusting another issuer is a statement of its own"
        )
    if miss.key == "when":
        return f"`when` is a program, and no small edit widens one: it gave {miss.got}; its owners have to look at {near.statement.when.source if near.statement.when else ''}"
    if miss.key in {"allow_triggers", "guardrails"}:
        return _trigger(near, miss, token, world)
    bound = next(bound for bound in near.statement.conditions if bound.key == miss.key)
    value = bound.read(token)
    why = _unsafe(near, bound, value, token, world)
    return why if why is not None else _widened(bound, value)


def _trigger(near: Near, miss: Check, token: VerifiedToken, world: World) -> tuple[Change, ...] | str:
    kind = world.issuers.get(token.issuer)
    attack = kind.trigger_names.get(miss.got, "") if kind is not None else ""
    danger = f"{miss.got}: {attack or 'it can run code of people who may not push'}"
    if miss.key == "guardrails" or miss.got in near.statement.never_triggers:
        return f"the guardrails never allow this trigger, so this stays refused. {danger}"
    if token.job.fork or token.job.ref_type == _PULL:
        return f"the job runs what a pull request's author wrote, so this should stay refused. {danger}"
    allowed = [*sorted(near.statement.allow_triggers), miss.got]
    says = f"let the unsafe trigger {miss.got} start these jobs. The danger: {danger}"
    return (
        Change(
            key="allow_triggers", path=("allow_triggers",), value=allowed, fresh=len(allowed) == 1,
            trigger=miss.got, says=says,
        ),
    )  # fmt: skip


def _unsafe(near: Near, bound: Bound, value: Any, token: VerifiedToken, world: World) -> str | None:
    """Why this condition should go on refusing this value; None where an owner may well let it in."""
    name = bound.key.partition(".")[2]
    if name in _PROTECTIONS:
        return f"{bound.key} should stay as it is: {_PROTECTIONS[name]}"
    if name in _ONE_RUN:
        return f"{bound.key} is another one in every run; a policy that lists runs lets in none of tomorrow's"
    if token.job.ref_type == _PULL and name not in _FIELDS:
        return (
            "the job runs from a pull request's ref, whose code its author chooses: this should stay refused;"
            " run the job after the merge"
        )
    field = _says(bound, token, world)
    return None if field is None else _other_party(near, field, value, token, world)


def _says(bound: Bound, token: VerifiedToken, world: World) -> str | None:
    """Which of the four words for whose job it is this condition is about."""
    where, _, name = bound.key.partition(".")
    if where == "job":
        return name if name in _FIELDS else None
    kind = world.issuers.get(token.issuer)
    return None if kind is None else next((field for field in _FIELDS if world.says(kind, name, (field,))), None)


def _other_party(near: Near, field: str, value: Any, token: VerifiedToken, world: World) -> str | None:
    pinned = {
        said
        for bound, check in zip(near.statement.conditions, near.checks[1:], strict=False)
        if check.held and bound.condition.exact is not None and (said := _says(bound, token, world)) is not None
    }
    shown = "missing" if absent(value) else value_words(value, text=True)
    if field == "owner_id" or (field == "owner" and "owner_id" not in pinned):
        return f"the job belongs to another owner ({TITLES[field]} {shown}); this should stay refused, or be a statement of its own that names that owner"
    if field == "project_id" and "owner_id" not in pinned:
        if "project" in pinned:
            return (
                f"the job's project has the name that the policy trusts and another id, {shown}: it is another project of"
                " that name, registered again perhaps by somebody else; this should stay refused until its owner is known"
            )
        return f"the job is another project's (id {shown}); that is a statement or policy of its own: jobkey-broker policy new"
    if field == "project" and not pinned & {*_IDS}:
        return f"the job is another project's ({shown}); that is a statement or policy of its own: jobkey-broker policy new"
    return None


def _widened(bound: Bound, value: Any) -> tuple[Change, ...] | str:
    spec, where = bound.condition.spec, tuple(bound.key.split(".", 1))
    if absent(value):
        return (_any_of(bound, where, {"absent": True}),)
    if isinstance(spec, Mapping) and isinstance(value, list) and set(spec) == {"contains"}:
        return (
            tuple(_contained(bound, where, value)) or f"{bound.key} is a list without one value that could be asked for"
        )
    if isinstance(value, list | Mapping):
        return f"{bound.key} is no single value in this job; what is in a list is asked by `contains`, what is in an object by a JSON pointer"
    if isinstance(value, str) and (len(value) > LONGEST_VALUE or not value.isprintable()):
        return f"{bound.key} came with a value that no policy can hold: too long, or with invisible characters"
    found = list(_fewer(bound, where, value))
    if not isinstance(spec, list) or len(spec) < MOST_VALUES:
        found.append(_any_of(bound, where, value))
    return tuple(found) or f"{bound.key} lists {MOST_VALUES} values already, and takes no more; split the statement"


def _any_of(bound: Bound, where: Path, value: Any) -> Change:
    spec = bound.condition.spec
    items = spec if isinstance(spec, list) else [spec]
    says = f"let {bound.key} also be {condition_words(value, text=bound.key.startswith('job.'))}"
    return Change(key=bound.key, path=where, value=[*items, value], newly=(_asking(bound, value),), says=says)


def _fewer(bound: Bound, where: Path, value: Any) -> Iterator[Change]:
    """`{not: [a, b]}` without the value that came, which reads better than letting it back in by a list around it."""
    spec = bound.condition.spec
    inner = spec.get("not") if isinstance(spec, Mapping) else None
    if isinstance(inner, list) and len(inner) > 1 and all(not isinstance(item, Mapping) for item in inner):
        left = [item for item in inner if item != value or type(item) is not type(value)]
        if len(left) == len(inner) - 1:
            says = f"no longer keep out {bound.key} {value_words(value, text=bound.key.startswith('job.'))}"
            yield Change(key=bound.key, path=(*where, "not"), value=left, newly=(_asking(bound, value),), says=says)


def _contained(bound: Bound, where: Path, value: list[Any]) -> Iterator[Change]:
    """One item more that the list may hold. The longest first: of group paths, it is the most particular."""
    inner = bound.condition.spec["contains"]
    items = inner if isinstance(inner, list) else [inner]
    texts = sorted(
        {item for item in value if isinstance(item, str) and 0 < len(item) <= LONGEST_VALUE and item.isprintable()},
        key=lambda item: (-len(item), item),
    )
    for item in texts[:_ITEMS] if len(items) < MOST_VALUES else ():
        asked = _asking(bound, {"contains": item})
        says = f"let {bound.key} hold {value_words(item)} instead"
        yield Change(
            key=bound.key, path=(*where, "contains"), value=[*items, item], newly=(asked,), exactly=False, says=says
        )


def _asking(bound: Bound, spec: Any) -> Bound:
    """The same claim, asked another condition."""
    condition = compile_condition(spec, lambda *_: None)
    assert condition is not None, "a value that came, or a part of a condition that was compiled before"
    return replace(bound, condition=condition)
