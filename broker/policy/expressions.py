"""`when:` — a CEL expression over `job` and `claims`, for what plain conditions cannot say.

* Only `true` passes. An error, another type of result, or a claim that is not there is a refusal. The last needs more
  than CEL: its `||` and `&&` swallow errors, so `!(claims.a == "x" && claims.b == "y")` would pass a token without
  `a`. Here every claim that the expression names has to be there, unless it asks `has(claims.name)` somewhere.
* Null and empty claims are left out of what the expression sees; `has` is false for them.
* Cost is bounded when the policy loads: length, known functions only, no macro inside a macro (a list in a token is the
  caller's to lengthen), no `matches` (it searches; `{regex: ...}` matches whole values).
"""

import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, Final

from broker.documents import suggestion
from broker.model import JOB_FIELDS, JobIdentity
from broker.policy.claims import absent, pruned

LONGEST: Final = 1000
MACROS: Final = frozenset({"all", "exists", "exists_one", "map", "filter"})
FUNCTIONS: Final = MACROS | {
    "has", "size", "int", "uint", "double", "string", "startsWith", "endsWith", "contains", "timestamp", "duration",
    "getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getHours", "getMinutes", "getSeconds",
}  # fmt: skip
_WORDS: Final = frozenset({"true", "false", "null", "in"})
_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<number>(?:0x[0-9a-fA-F]+|[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)u?)
    |(?P<sign>&&|\|\||[=!<>]=|[][(){}.,?:+\-*/%<>!])
    |(?P<end>$)|(?P<other>.))""",
    re.VERBOSE | re.DOTALL,
)
Token = tuple[str, str]  # its group's name, and itself
_END: Final[Token] = ("end", "")


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled `when:`."""

    source: str = field(repr=False)
    _execute: Callable[[dict[str, Any]], Any] = field(repr=False)
    _needs: tuple[tuple[str, str], ...] = field(repr=False)  # ("claims", name) that have to be there
    # The only members that the expression can see; None for all. Handing over the others costs more than judging.
    _claims: frozenset[str] | None = field(repr=False)
    _job: frozenset[str] | None = field(repr=False)

    @property
    def reads(self) -> tuple[frozenset[str] | None, frozenset[str] | None]:
        """The claims and the job's fields that its answer can depend on; None where it may be any."""
        return self._claims, self._job

    def holds(self, job: JobIdentity, claims: Mapping[str, Any]) -> bool:
        """Whether it is `true`. Never raises."""
        return self.verdict(job, claims) == "true"

    def verdict(self, job: JobIdentity, claims: Mapping[str, Any]) -> str:
        """`true`, or why not: `false`, `claims.x is missing`, `not yes or no`, `an error (KeyError)`."""
        for where, name in self._needs:
            if absent(claims.get(name) if where == "claims" else getattr(job, name)):
                return f"{where}.{name} is missing"
        names = claims if self._claims is None else self._claims & claims.keys()
        fields = JOB_FIELDS if self._job is None else self._job
        try:
            seen = {name: value for name in names if not absent(value := pruned(claims[name]))}
            present = {name: value for name in fields if (value := getattr(job, name)) is not None}
            result = self._execute({"job": present, "claims": seen})
        except Exception as error:  # noqa: BLE001  whatever it is, it is a refusal
            return f"an error ({type(error).__name__})"
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # what PyO3 raises where Rust code panics
                raise
            return "an error (PanicException)"
        return {True: "true", False: "false"}[result] if isinstance(result, bool) else "not yes or no"


@lru_cache(maxsize=1024)  # a set of policies repeats few expressions often
def compile_expression(source: str) -> Expression:
    """Compile and check an expression. Raises ValueError with what is wrong and what to write instead."""
    if len(source) > LONGEST:
        raise ValueError(f"an expression is at most {LONGEST} characters long")
    tokens = list(_tokens(source))
    _check_words(tokens)
    _check_nesting(tokens)
    named = list(_named(tokens))
    for where, name, _ in named:
        if where == "job" and name is not None and name not in JOB_FIELDS:
            raise ValueError(f"a job has no {name!r}{suggestion(name, JOB_FIELDS)}")
    try:
        program = _cel().compile(source)
    except Exception as error:  # noqa: BLE001  the parser's own kinds of error are no part of its interface
        said = str(error).partition("ERROR: ")[2].partition("\n")[0] or type(error).__name__
        raise ValueError(f"not a CEL expression: {said}") from None
    asked = {(where, name) for where, name, asks in named if asks}
    needs = {(where, name) for where, name, _ in named if name is not None} - asked
    claims, job = (_members(named, where) for where in ("claims", "job"))
    return Expression(source, program.execute, tuple(sorted(needs)), claims, job)


def _members(named: list[tuple[str, str | None, bool]], where: str) -> frozenset[str] | None:
    names = [name for one, name, _ in named if one == where]
    return None if None in names else frozenset(name for name in names if name is not None)


@cache
def _cel() -> Any:
    """The CEL engine, without its command line: `import cel` would also load a REPL, half a second and 20 MB of it."""
    package = importlib.util.find_spec("cel")
    if "cel.cel" not in sys.modules and package is not None and package.submodule_search_locations:
        spec = importlib.machinery.PathFinder.find_spec("cel.cel", package.submodule_search_locations)
        if spec is not None and spec.loader is not None:
            module = importlib.util.module_from_spec(spec)
            sys.modules["cel.cel"] = module  # a later `import cel` finds it there: a Rust module loads once
            spec.loader.exec_module(module)
    return importlib.import_module("cel.cel")


def _tokens(source: str) -> Iterator[Token]:
    place = 0
    while match := _TOKEN.match(source, place):
        kind = match.lastgroup or "other"
        if kind == "end":
            return
        if kind == "other" or source.startswith("//", match.start(kind)):
            raise ValueError(f"unexpected {match[kind]!r} at character {match.start(kind) + 1}")
        yield kind, match[kind]
        place = match.end()


def _at(tokens: list[Token], place: int) -> Token:
    return tokens[place] if 0 <= place < len(tokens) else _END


def _check_words(tokens: list[Token]) -> None:
    bound = {"job", "claims"}
    for place, (kind, word) in enumerate(tokens):
        if kind == "word" and word in MACROS and _at(tokens, place + 1) == ("sign", "("):
            name, comma = _at(tokens, place + 2), _at(tokens, place + 3)
            if name[0] != "word" or name[1] in bound | _WORDS or comma != ("sign", ","):
                raise ValueError(f"write {word}(name, ...) with a name of its own")
            bound.add(name[1])
    for place, (kind, word) in enumerate(tokens):
        if kind != "word":
            continue
        if _at(tokens, place + 1)[0] == "text" and word not in _WORDS:
            raise ValueError("raw and byte strings are not read here")
        if _at(tokens, place + 1) == ("sign", "("):
            if word == "matches":
                raise ValueError(
                    "matches searches inside a text; use {regex: ...} under job or claims, which matches whole values"
                )
            if word not in FUNCTIONS:
                raise ValueError(f"no function {word!r}{suggestion(word, FUNCTIONS)}")
        elif _at(tokens, place - 1) != ("sign", ".") and word not in bound | _WORDS:
            raise ValueError(
                f"unknown name {word!r}; an expression sees `job` and `claims`{suggestion(word, ['job', 'claims'])}"
            )


def _check_nesting(tokens: list[Token]) -> None:
    inside: list[bool] = []  # for each open parenthesis, whether a macro opened it
    for place, token in enumerate(tokens):
        if token == ("sign", "("):
            before = _at(tokens, place - 1)
            macro = before[0] == "word" and before[1] in MACROS
            if macro and any(inside):
                raise ValueError("a macro inside a macro takes time with the square of a list that the caller chooses")
            inside.append(macro)
        elif token == ("sign", ")") and inside:
            inside.pop()


def _named(tokens: list[Token]) -> Iterator[tuple[str, str | None, bool]]:
    """Each use of `job` or `claims`: (which, the member's name or None where it is not a plain one, whether has() asks)."""
    for place, (kind, word) in enumerate(tokens):
        if kind != "word" or word not in {"job", "claims"} or _at(tokens, place - 1) == ("sign", "."):
            continue
        following = [_at(tokens, place + step) for step in (1, 2, 3)]
        if following[0] == ("sign", ".") and following[1][0] == "word" and following[2] != ("sign", "("):
            asks = _at(tokens, place - 2) == ("word", "has") and following[2] == ("sign", ")")
            yield word, following[1][1], asks
        elif following[0] == ("sign", "[") and following[1][0] == "text" and following[2] == ("sign", "]"):
            name = following[1][1][1:-1]
            if "\\" in name:
                raise ValueError("write a claim's name without backslashes")
            yield word, name, False
        else:
            yield word, None, False
