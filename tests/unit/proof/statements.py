"""Statements made from plain data, as the loader makes them, without a file around each; and random ones, near each other."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from operator import attrgetter
from random import Random
from typing import Any

from broker.documents import Path
from broker.issuers import ISSUERS
from broker.issuers.generic import build
from broker.issuers.seam import IssuerKind
from broker.model import JOB_FIELDS, VerifiedToken
from broker.policy.claims import absent, reader
from broker.policy.conditions import Condition, compile_condition
from broker.policy.expressions import compile_expression
from broker.policy.policyset import Bound, PolicySet, Statement
from broker.proof.realise import claim_path
from broker.proof.sources import sources_of
from tests.unit.policy.world import load, policy_text

KINDS: Mapping[str, IssuerKind] = {
    **ISSUERS,
    "inhouse": build({
        "project": "claims.repo", "project_id": "claims.repo_id", "ref": "claims.ref", "trigger": "claims.event",
        "ref_protected": "claims.protected", "run_id": "claims.run", "runner": 'claims["kubernetes.io"].node.name',
    }),
}  # fmt: skip
FLAGS = frozenset({"ref_protected", "environment_protected", "fork"})
LOADED = load(policy_text())


def compiled(spec: Any, only: type | None = None) -> Condition:
    problems: list[tuple[Path, str]] = []
    condition = compile_condition(spec, lambda path, message: problems.append((path, message)), only=only)
    assert condition is not None, (spec, problems)
    return condition


def statement(part: Mapping[str, Any], issuer: str = "github", number: int = 0) -> Statement:
    """`{"job": {...}, "claims": {...}, "when": ..., "allow_triggers": [...]}`, with `never` for the guardrails' triggers."""
    bounds = [
        Bound(
            key=f"job.{name}", read=attrgetter(f"job.{name}"), condition=compiled(spec, bool if name in FLAGS else str)
        )
        for name, spec in part.get("job", {}).items()
    ]
    for name, spec in part.get("claims", {}).items():
        bounds.append(Bound(key=f"claims.{name}", read=from_claims(name), condition=compiled(spec)))
    when = part.get("when")
    return Statement(
        number=number,
        issuer=part.get("issuer", issuer),
        conditions=tuple(bounds),
        when=None if when is None else compile_expression(when),
        allow_triggers=frozenset(part.get("allow_triggers", ())),
        never_triggers=frozenset(part.get("never", ())),
        tests=tuple((bound.read, bound.condition.holds) for bound in bounds),
    )


def from_claims(name: str) -> Any:
    read = reader(name)

    def from_token(token: VerifiedToken) -> Any:
        return read(token.claims)

    return from_token


def policies(statements: list[Statement]) -> PolicySet:
    """A loaded set whose one policy, `payments`, has these statements."""
    policy = LOADED.policies["payments"]
    return PolicySet.of([replace(policy, statements=tuple(statements))], LOADED.guardrails)


ODD: list[Any] = [
    None, "", [], {}, 0, 1, 1.0, True, False, "true", "false", "1", "x\n", "\ud800", "é", ["a"], ["a", "b"], [None],
    [1, True], [["a"]], {"a": 1}, "refs/heads/\x00", "refs/", "/", float("nan"),
]  # fmt: skip
WHENS = [
    "claims.sub != 'x'",
    "has(claims.ref)",
    "int(claims.run_attempt) < 4",
    "job.ref_protected",
    "size(claims.sub) > 3",
]
ITEMS: list[Any] = [
    "a", "b", 1, True, ["a", 1], ["a", "b"], {"not": "a"}, {"not": ["a", 1]}, {"not": 1}, {"glob": "a*"}, {"not": {"glob": "a*"}}, {"contains": "a"},
    {"not": {"contains": "a"}}, ["a", {"not": 1}], {"regex": "[ab]"},
]  # fmt: skip
LISTS: list[Any] = [
    ["a"], ["b"], ["a", "b"], ["a", 1], [1], [True], [1, True], ["c"], [["a"]], [["b"], "a"], [None, "b"], [None], ["ax", "b"], [{}], "a", 1,
]  # fmt: skip
WORDS = ["a", "b", "main", "acme/payments", "refs/heads/main", "1"]


class Near:
    """Random conditions, statements and claims around one issuer kind's examples."""

    def __init__(self, rng: Random, issuer: str) -> None:
        self.rng = rng
        self.issuer = issuer
        self.kind = KINDS[issuer]
        self.examples = list(self.kind.examples.values())
        names = sorted({name for claims in self.examples for name in claims})
        told = [name for name in JOB_FIELDS if sources_of(self.kind).get(name)]
        keys = [f"job.{name}" for name in told] + [f"claims.{name}" for name in names] + ["claims.teams", "claims./a/b"]
        self.keys = rng.sample(keys, min(len(keys), 4))
        if rng.random() < 0.2:
            self.keys = ["claims.teams", *self.keys[:1]]

    def known(self, key: str) -> list[Any]:
        where, _, name = key.partition(".")
        found = [
            getattr(self.kind.identity(claims), name) if where == "job" else reader(name)(claims)
            for claims in self.examples
        ]
        return [value for value in found if not absent(value)]

    def condition(self, key: str, depth: int = 0) -> Any:
        rng = self.rng
        only = (
            bool
            if key.partition(".")[2] in FLAGS and key.startswith("job.")
            else str
            if key.startswith("job.")
            else None
        )
        values = [value for value in self.known(key) if isinstance(value, str | int | float)] or WORDS
        form = rng.randrange(12)
        if only is bool:
            return rng.choice([True, False, {"absent": True}, {"not": True}, [True, {"absent": True}], {"not": False}])
        value = rng.choice(values)
        text = value if isinstance(value, str) and value else rng.choice(WORDS)
        if only is None and rng.random() < (0.7 if key == "claims.teams" else 0.1):
            if depth:
                return rng.choice(ITEMS[:4])
            item = rng.choice(ITEMS)
            choice = item if rng.random() < 0.3 else {"contains": item}
            return choice if rng.random() < 0.6 else {"not": choice}
        if form < 3 or (only is str and not isinstance(value, str)):
            return value if only is None and rng.random() < 0.8 else text
        if form < 4:
            return [text, rng.choice(WORDS), text + "-x"][: rng.randint(1, 3)]
        if form < 6:
            return {"glob": self.glob(text)}
        if form < 7:
            return {"regex": self.regex(text)}
        if form < 9 and depth < 3:
            return {"not": self.condition(key, depth + 1)}
        if form < 10:
            return {"absent": True}
        if form < 11 and only is None and depth < 2:
            inner = self.condition("claims.teams", depth + 1)
            return text if "absent" in str(inner) else {"contains": inner}
        if only is None and rng.random() < 0.3:
            return rng.choice([True, False, 1, 1.0, 0, 2])
        if depth < 2:
            return [
                item
                for item in (self.condition(key, depth + 2), self.condition(key, depth + 2))
                if not isinstance(item, list)
            ] or text
        return text

    def glob(self, text: str) -> str:
        rng, cut = self.rng, self.rng.randrange(len(text) + 1)
        return rng.choice(["*", "**", text[:cut] + "*", text[:cut] + "**", "*" + text[cut:], "**" + text[cut:],
                           text[:cut] + "?" + text[cut + 1 :], text.replace("/", "/*/", 1)]).replace("***", "**")[:200] or "*"  # fmt: skip

    def regex(self, text: str) -> str:
        rng, cut = self.rng, self.rng.randrange(len(text) + 1)
        plain = "".join("\\" + char if not char.isalnum() and char.isascii() else char for char in text)
        return rng.choice([".*", ".+", plain + ".?", "(?i)" + plain, f"({plain})?[a-z/]*", f"{plain}|main", "[^/]*/[^/]*",
                           "\\w+", "\\b" + plain, "[[:alnum:]]{1,9}", f"^{plain}$", f"[{'a-z' if cut else 'A-Z'}0-9]+"])  # fmt: skip

    def part(self) -> dict[str, Any]:
        rng = self.rng
        part: dict[str, Any] = {"job": {}, "claims": {}}
        for key in rng.sample(self.keys, rng.randint(1, min(3, len(self.keys)))):
            where, _, name = key.partition(".")
            part[where][name] = self.condition(key)
        if rng.random() < 0.15:
            part["when"] = rng.choice(WHENS)
        if rng.random() < 0.3:
            names = list(self.kind.trigger_names)
            part["allow_triggers"] = rng.sample(names, rng.randint(1, min(3, len(names))))
            if rng.random() < 0.3:
                part["never"] = rng.sample(part["allow_triggers"], 1)
        return part

    def sibling(self, part: dict[str, Any]) -> dict[str, Any]:
        """The same with one thing dropped, added or changed, or quite another."""
        rng = self.rng
        changed = {name: dict(value) if isinstance(value, dict) else value for name, value in part.items()}
        written = [(where, name) for where in ("job", "claims") for name in changed[where]]
        match rng.randrange(7):
            case 0:
                return self.part()
            case 1 | 2:
                where, name = rng.choice(written)
                del changed[where][name]
            case 3 | 4:
                where, name = rng.choice(written)
                changed[where][name] = self.condition(f"{where}.{name}")
            case 5:
                changed = {
                    **changed,
                    **{name: value for name, value in self.part().items() if name not in {"job", "claims"}},
                }
            case 6 if "allow_triggers" in part:
                changed["never"] = rng.sample(part["allow_triggers"], 1)
            case _:
                where, _, name = rng.choice(self.keys).partition(".")
                changed[where][name] = self.condition(f"{where}.{name}")
        return changed

    def claims(self, parts: list[dict[str, Any]], base: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Claims near these statements: an example with some values that the conditions name, or odd ones."""
        rng = self.rng
        claims = dict(rng.choice(self.examples) if base is None else base)
        named = [
            (where, name, spec) for part in parts for where in ("job", "claims") for name, spec in part[where].items()
        ]
        for _ in range(rng.randint(0, 4)):
            where, name, spec = rng.choice(named) if named else ("claims", "sub", "x")
            paths = (
                [claim_path(name, claims)]
                if where == "claims"
                else [one.path for one in sources_of(self.kind).get(name, ())]
            )
            if paths:
                lists = name == "teams" and rng.random() < 0.8
                value = rng.choice(LISTS) if lists else self.value(spec, self.known(f"{where}.{name}"))
                write(claims, rng.choice(paths), value)
        return claims

    def value(self, spec: Any, known: list[Any]) -> Any:
        rng = self.rng
        texts = list(leaves(spec))
        if texts and rng.random() < 0.7:
            value = rng.choice(texts)
            if isinstance(value, str):
                value = value.replace("**", "x/y").replace("*", "x").replace("?", "z").replace("\\", "")
                return rng.choice(
                    [
                        value,
                        value,
                        value + "-x",
                        value + "/x",
                        "x" + value,
                        value[:-1],
                        [value],
                        value + "\n",
                        value.upper(),
                    ]
                )
            return value
        return rng.choice(ODD if rng.random() < 0.5 or not known else known)


def leaves(spec: Any) -> Iterator[Any]:
    match spec:
        case list():
            for item in spec:
                yield from leaves(item)
        case Mapping():
            yield from leaves(next(iter(spec.values())))
        case _:
            yield spec


def write(claims: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for step in path[:-1]:
        inner = claims.get(step)
        claims[step] = dict(inner) if isinstance(inner, Mapping) else {}
        claims = claims[step]
    claims[path[-1]] = value
