"""What one condition of a trust policy means.

    ref: refs/heads/main                  equals, with the same JSON type: "1" is not 1, "true" is not true
    environment: [staging, production]    any of
    ref: {glob: "refs/tags/v*"}           `*` and `?` stay inside one `/` segment, `**` crosses
    workflow: {regex: "release-[0-9]+"}   RE2, compiled alone, the whole value
    actor: {not: dependabot[bot]}         there, of a type the inner condition can judge, and not satisfying it
    environment: {absent: true}           missing, null or empty
    groups_direct: {contains: acme/ops}   some item of a list satisfies it (the one way to look into a list)

* What is missing, null or empty satisfies `absent` and nothing else, `not` included.
* Judging is three-valued. A condition says nothing about a value of another JSON type, and `not` of nothing is
  nothing: `{not: true}` never lets the text "true" pass.
* No value with a control character (a newline, above all) satisfies a glob or a regex.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import re2

from broker.documents import Path, suggestion
from broker.policy.claims import absent

Report = Callable[[Path, str], None]
Test = Callable[[Any], bool | None]

MOST_VALUES: Final = 256
LONGEST_VALUE: Final = 1024
LONGEST_PATTERN: Final = 512
LARGEST_PROGRAM: Final = 2_000  # RE2 instructions
DEEPEST: Final = 4
REMEMBERED: Final = 256  # characters; the answer for a longer text is not kept
_WILD: Final = re.compile(r"(\*\*|\*|\?)")
_MEANS: Final = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
FORMS: Final = ("absent", "contains", "glob", "not", "regex")


@dataclass(frozen=True, slots=True)
class Condition:
    """One compiled condition. `holds` is the whole answer; the rest is for explaining it and for guardrails."""

    holds: Callable[[Any], bool]
    test: Test = field(repr=False)  # of a value that is there: True, False, or None where it cannot judge
    admits_absent: bool
    shown: str = field(repr=False)  # as the author wrote it, on one line
    exact: frozenset[str | int | float | bool] | None = field(default=None, repr=False)  # all that satisfies it
    spec: Any = field(default=None, repr=False, compare=False)  # what was compiled, for those who reason about it


def compile_condition(spec: Any, report: Report, *, only: type | None = None) -> Condition | None:
    """Compile what stands in a policy file. `only` is the JSON type of the field, where it is known.

    Every problem goes to `report` with its path below the condition; the answer is then None.
    """
    if type(spec) in {str, bool, int, float} and (known := _same(spec, only)) is not None:
        return known
    return _condition(spec, report, only)


@lru_cache(maxsize=16_384, typed=True)  # 1 is not True. Most conditions of most policies are equal to another policy's
def _same(spec: str | bool | float, only: type | None) -> Condition | None:
    return _condition(spec, lambda *_: None, only)


def _condition(spec: Any, report: Report, only: type | None) -> Condition | None:
    test_and_absent = _compile(spec, (), report, only, 0)
    if test_and_absent is None:
        return None
    test, admits_absent = test_and_absent
    shown = _shown(spec)
    if isinstance(spec, str) and not admits_absent:
        return Condition(lambda value: value == spec, test, False, shown, frozenset({spec}), spec)

    def holds(value: Any) -> bool:
        return admits_absent if absent(value) else test(value) is True

    return Condition(holds, test, admits_absent, shown, _exact(spec), spec)


def _compile(spec: Any, path: Path, report: Report, only: type | None, depth: int) -> tuple[Test, bool] | None:
    if depth > DEEPEST:
        report(path, f"a condition is at most {DEEPEST} deep")
        return None
    match spec:
        case list():
            return _any_of(spec, path, report, only, depth)
        case Mapping():
            return _form(spec, path, report, only, depth)
        case _:
            test = _equals(spec, path, report, only)
            return None if test is None else (test, False)


def _equals(spec: Any, path: Path, report: Report, only: type | None) -> Test | None:
    if absent(spec):
        report(path, "nothing equals an empty value here; to ask for a missing one write {absent: true}")
        return None
    if only is bool and not isinstance(spec, bool):
        report(path, f"this is yes or no: write true or false without quotes, not {_shown(spec)}")
        return None
    if only is str and not isinstance(spec, str):
        report(path, f'this is text: write it in quotes, "{_shown(spec)}"')
        return None
    if isinstance(spec, str):
        if len(spec) > LONGEST_VALUE:
            report(path, f"a value is at most {LONGEST_VALUE} characters long")
            return None
        return lambda value: value == spec if isinstance(value, str) else None
    if isinstance(spec, bool):
        return lambda value: value is spec if isinstance(value, bool) else None
    return lambda value: value == spec if isinstance(value, int | float) and not isinstance(value, bool) else None


def _any_of(spec: list[Any], path: Path, report: Report, only: type | None, depth: int) -> tuple[Test, bool] | None:
    if not 0 < len(spec) <= MOST_VALUES:
        report(path, f"a list means any of these; it holds 1 to {MOST_VALUES} values")
        return None
    compiled: list[tuple[Test, bool] | None] = []
    for number, item in enumerate(spec):
        if isinstance(item, list):
            report((*path, number), "a list inside a list means nothing; write its values in the outer one")
            compiled.append(None)
        else:
            compiled.append(_compile(item, (*path, number), report, only, depth + 1))
    parts = [part for part in compiled if part is not None]
    if len(parts) < len(spec):
        return None
    tests = [test for test, _ in parts]

    def test(value: Any) -> bool | None:
        verdicts = [test(value) for test in tests]
        return True if True in verdicts else None if None in verdicts else False

    return test, any(admits for _, admits in parts)


def _form(
    spec: Mapping[str, Any], path: Path, report: Report, only: type | None, depth: int
) -> tuple[Test, bool] | None:
    if len(spec) != 1:
        report(path, f"a condition is one of: {', '.join(FORMS)}; use a list for any of several")
        return None
    ((form, inner),) = spec.items()
    here = (*path, form)
    if form == "absent":
        if inner is not True:
            report(here, "write {absent: true}; for a value that has to be there, write what it has to be")
            return None
        return (lambda _: False), True
    if form in {"glob", "regex"}:
        if only is bool:
            report(here, "this is yes or no: write true or false")
            return None
        test = _pattern(form, inner, here, report)
        return None if test is None else (test, False)
    if form == "contains" and only is not None:
        report(here, "this is a single value, never a list")
        return None
    if form not in FORMS:
        report(here, f"unknown condition{suggestion(form, FORMS)}")
        return None
    part = _compile(inner, here, report, only, depth + 1)
    if part is None:
        return None
    test, admits = part
    if form == "not":
        return (lambda value: None if (verdict := test(value)) is None else not verdict), False
    if admits:
        report(here, "an item of a list is never absent; ask {absent: true} of the claim itself")
        return None
    return (lambda value: _some_item(test, value)), False


def _some_item(test: Test, value: Any) -> bool | None:
    if not isinstance(value, list):
        return None
    verdicts = [test(item) for item in value if not absent(item)]
    return True if True in verdicts else None if None in verdicts else False


def _pattern(form: str, text: Any, path: Path, report: Report) -> Test | None:
    try:
        pattern = compile_pattern(glob_to_re2(text) if form == "glob" else text)
    except ValueError as error:
        report(path, str(error))
        return None
    return lambda value: matches(pattern, value) if isinstance(value, str) else None


def compile_pattern(text: Any, *, largest: int = LARGEST_PROGRAM) -> Any:
    """An RE2 pattern, compiled alone, of at most `largest` instructions. Raises ValueError with what is wrong."""
    if not isinstance(text, str) or not text:
        raise ValueError("a pattern is text; write it in quotes")
    if len(text) > LONGEST_PATTERN * 8:  # a glob grows when it is translated
        raise ValueError(f"a pattern is at most {LONGEST_PATTERN} characters long")
    try:
        pattern = _program(text)
    except (re2.error, UnicodeEncodeError) as error:
        said = error.args[0] if error.args else ""
        raise ValueError(
            f"not an RE2 pattern: {said.decode('utf-8', 'replace') if isinstance(said, bytes) else said}"
        ) from None
    if pattern.programsize > largest:
        raise ValueError("the pattern is too large; repeat less, or split it into a list")
    return pattern


@lru_cache(maxsize=1024)  # many policies say refs/tags/v*; one program does for them all
def _program(text: str) -> Any:
    options = re2.Options()
    options.log_errors = False  # RE2 would write the pattern to stderr
    options.never_nl = True
    options.never_capture = True
    options.max_mem = 1 << 23
    return re2.compile(text, options)


def matches(pattern: Any, text: str) -> bool:
    """Whether the whole of `text` matches; text with control characters or lone surrogates never does."""
    if len(text) <= REMEMBERED:
        return _matches_again(pattern, text)
    return text.isprintable() and pattern.fullmatch(text) is not None


@lru_cache(
    maxsize=4096
)  # RE2's wrapper takes 6 µs a match, and jobs come with the same few refs and workflows for weeks
def _matches_again(pattern: Any, text: str) -> bool:
    return text.isprintable() and pattern.fullmatch(text) is not None


def glob_to_re2(glob: Any) -> str:
    """`a/*/v**` as RE2. Only `*`, `**` and `?` are special. Raises ValueError."""
    if not isinstance(glob, str) or not glob:
        raise ValueError("a glob is text; write it in quotes")
    if len(glob) > LONGEST_PATTERN:
        raise ValueError(f"a glob is at most {LONGEST_PATTERN} characters long")
    if "***" in glob:
        raise ValueError("*** means nothing: * stays inside one / segment, ** crosses them")
    return "".join(_MEANS.get(part) or re2.escape(part) for part in _WILD.split(glob))  # every other one is a wildcard


def _exact(spec: Any) -> frozenset[str | int | float | bool] | None:
    values = spec if isinstance(spec, list) else [spec]
    return None if any(isinstance(value, Mapping) for value in values) else frozenset(values)


def _shown(spec: Any) -> str:
    return spec if isinstance(spec, str) else json.dumps(spec, ensure_ascii=False)
