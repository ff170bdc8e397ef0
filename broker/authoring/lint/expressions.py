"""Rules about `when:`. An error in it is a refusal, so most of these keep the right jobs out; some let others in.

Judged by its words and by trial: the expression is put to every example of the issuer's kind and of the policy itself.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from broker.authoring.lint.jobs import Job
from broker.authoring.lint.seam import Desk, Problem
from broker.authoring.lint.stated import Stated
from broker.policy.claims import absent
from broker.policy.expressions import Expression

_NAME: Final = (
    r"(?P<where>job|claims)(?:\.(?P<name>[A-Za-z_][A-Za-z0-9_]*)|\[\s*(?P<quote>[\"'])(?P<text>[^\"']*)(?P=quote)\s*\])"
)
_LITERAL: Final = r"(?P<value>\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|-?[0-9]+(?:\.[0-9]+)?u?|true\b|false\b)"
_COMPARED: Final = re.compile(rf"(?<![\w.(]){_NAME}\s*(?P<sign>==|!=|<=|>=|<|>)\s*{_LITERAL}")
_CONVERTED: Final = re.compile(rf"\b(?P<function>int|uint|double|timestamp|duration)\(\s*{_NAME}\s*\)")
_USED: Final = re.compile(rf"(?<![\w.]){_NAME}(?!\s*\()")
_ASKED: Final = re.compile(rf"\bhas\(\s*{_NAME}\s*\)")
# What can end in an error although everything it names is there.
_FALLIBLE: Final = re.compile(r"\b(?:int|uint|double|timestamp|duration)\(|[\])\w]\s*\[\s*[0-9]|/|%|\.\w+\.\w+\.\w+")
_TEXT: Final = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'")
_TYPES: Final = {
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
}


def cel_type_mismatch(desk: Desk) -> Iterator[Problem]:
    """A comparison that cannot come out but one way, since the two sides are of different types."""
    for stated, expression in _whens(desk):
        jobs = _jobs(desk, stated)
        for match in _COMPARED.finditer(_bare(expression.source, texts=False)):
            name, literal = match["name"] or match["text"], _read(match["value"])
            seen = {_kind(value) for job in jobs if not absent(value := _value(job, match["where"], name))}
            if not seen or _kind(literal) in seen:
                continue
            is_, wrong = " or ".join(sorted(seen)), _kind(literal)
            if match["sign"] == "!=":
                ends = "so this holds for every job, and keeps nobody out who was meant to be"
            elif match["sign"] == "==":
                ends = "so this never holds"
            else:
                ends = "so this is an error, and an error is a refusal"
            yield Problem(
                path=_path(stated),
                message=f"{match['where']}.{name} is {is_} and is compared with {wrong} ({match[0]}): {ends}",
                remedy=_typed(match, name, seen, literal),
            )


def cel_can_fail(desk: Desk) -> Iterator[Problem]:
    """A claim that some jobs do not have, or a conversion that some values break."""
    for stated, expression in _whens(desk):
        source = _bare(expression.source, texts=False)
        jobs = _jobs(desk, stated)
        asked = {(match["where"], match["name"] or match["text"]) for match in _ASKED.finditer(source)}
        reported: set[tuple[str, str]] = set()
        for match in _CONVERTED.finditer(source):
            where, name = match["where"], match["name"] or match["text"]
            values = [value for job in jobs if not absent(value := _value(job, where, name))]
            if (missing := len(values) < len(jobs)) or not all(_converts(match["function"], value) for value in values):
                reported.add((where, name))
                why = "not every job has it" if missing else "not every value of it can be converted"
                yield Problem(
                    path=_path(stated),
                    message=f"{match[0]} can fail, since {why}: such a job is refused without a word about which condition it missed",
                    remedy=f'say it with a condition, `{name}: {{regex: "[1-3]"}}` under {where}, which can only hold or not',
                )
        for match in _USED.finditer(source):
            where, name = match["where"], match["name"] or match["text"]
            if (where, name) in asked | reported:
                continue
            reported.add((where, name))
            have = [job for job in jobs if not absent(_value(job, where, name))]
            if len(have) < len(jobs):
                some = "no" if not have else "not every"
                yield Problem(
                    path=_path(stated),
                    message=f"{some} job of {stated.kind.title} has {where}.{name}, and one without it is refused "
                    "even where the other side of an `||` holds",
                    remedy=f"ask `has({where}.{name}) && ...` where that is meant, or give the two cases a statement each",
                )


def cel_swallows_error(desk: Desk) -> Iterator[Problem]:
    """`||` beside something that can fail or be missing: the other side alone then decides."""
    for stated, expression in _whens(desk):
        source = _bare(expression.source, texts=True)
        if "||" not in source:
            continue
        fallible = _FALLIBLE.search(source)
        negated = re.search(r"!\s*has\(", source)
        if negated:
            yield Problem(
                path=_path(stated),
                message="`!has(...) || ...` passes every job that lacks the claim: whoever can leave it out, as a job that "
                "names no environment does, is trusted without it",
                remedy="take `!has(...) ||` out: a job without the claim is then refused, as with a plain condition",
            )
        elif fallible:
            yield Problem(
                path=_path(stated),
                message=f"CEL's || swallows errors: where `{fallible[0].strip()}` fails, the other side alone decides, and a "
                "value made to fail switches that check off",
                remedy="write plain conditions, or one statement for each side of the ||",
            )


def _whens(desk: Desk) -> Iterator[tuple[Stated, Expression]]:
    for stated in desk.statements:
        if stated.statement.when is not None:
            yield stated, stated.statement.when


def _path(stated: Stated) -> tuple[str | int, ...]:
    return ("trust", stated.number, "when")


def _jobs(desk: Desk, stated: Stated) -> list[Job]:
    """The kind's own examples, but for those of triggers that no statement trusts anyway; and the policy's."""
    known = [
        Job("", claims, stated.kind)
        for claims in stated.kind.examples.values()
        if set(stated.kind.unsafe_triggers(claims)) <= stated.statement.allow_triggers
    ]
    return known + [job for job in desk.jobs(stated.statement.issuer) if job.allowed]


def _value(job: Job, where: str, name: str) -> Any:
    return job.claims.get(name) if where == "claims" else job.identity.present().get(name)


def _bare(source: str, *, texts: bool) -> str:
    return _TEXT.sub('""', source) if texts else source


def _read(literal: str) -> Any:
    if literal[0] in "\"'":
        return literal[1:-1]
    return json.loads(literal.removesuffix("u"))


def _kind(value: Any) -> str:
    return _TYPES.get(type(value), "something else")


def _converts(function: str, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    if function in {"timestamp", "duration"}:
        return isinstance(value, str)
    try:
        float(value)
    except ValueError:
        return False
    return function == "double" or not isinstance(value, str) or value.lstrip("-").isdigit()


def _typed(match: Mapping[str, Any] | re.Match[str], name: str, seen: set[str], literal: Any) -> str:
    right = str(literal).lower() if isinstance(literal, bool) else literal
    if seen == {"text"}:
        if match["sign"] in {"==", "!="}:
            return f'compare with text, `{match["where"]}.{name} {match["sign"]} "{right}"`'
        return f"convert it, `int({match['where']}.{name}) {match['sign']} {right}`, or list the values under `{match['where']}`"
    if seen == {"true or false"}:
        return f"compare with true or false, without quotes: `{match['where']}.{name} == true`"
    if seen == {"a number"}:
        return f"compare with a number, without quotes: `{match['where']}.{name} {match['sign']} {right}`"
    return f'write a condition under `{match["where"]}` instead, such as `{name}: {{contains: "..."}}`'
