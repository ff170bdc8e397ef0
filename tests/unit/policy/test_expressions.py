"""`when:` fails closed: what CEL would let pass by swallowing an error is a refusal here."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.model import JobIdentity
from broker.policy.expressions import compile_expression

JOB = JobIdentity(project="acme/payments", ref="refs/heads/main", ref_protected=True)
CLAIMS: dict[str, Any] = {
    "run_attempt": "2", "n": 3, "groups": ["a", "b"], "null": None, "empty": "", "k8s.io": {"pod": "p", "gone": ""}, "big": 2**70,
}  # fmt: skip


@pytest.mark.parametrize(
    ("source", "verdict"),
    [
        ("true", "true"),
        ("1 == 2", "false"),
        ("int(claims.run_attempt) < 4", "true"),
        ("int(claims.run_attempt) < 2", "false"),
        ("job.ref_protected", "true"),
        ("!job.fork", "job.fork is missing"),
        ("job.fork != true", "job.fork is missing"),
        ("claims.nope != 'x'", "claims.nope is missing"),
        ("claims.nope == 'x' || true", "claims.nope is missing"),
        ("!(claims.nope == 'x' && claims.n == 4)", "claims.nope is missing"),
        ("false ? claims.nope : true", "claims.nope is missing"),
        ("claims['nope'] == 1 || true", "claims.nope is missing"),
        ("claims.empty == ''", "claims.empty is missing"),
        ("claims.empty != 'x'", "claims.empty is missing"),
        ("claims['null'] == null", "claims.null is missing"),
        ("!has(claims.nope)", "true"),
        ("has(claims.empty)", "false"),
        ("has(claims.n) && claims.n == 3", "true"),
        ("!has(claims.nope) || claims.nope == 'x'", "true"),
        ("claims['k8s.io'].pod == 'p'", "true"),
        ("claims['k8s.io'].gone != 'p'", "an error (KeyError)"),
        ("claims.n", "not yes or no"),
        ("claims.run_attempt == 'true' ? true : 'x'", "not yes or no"),
        ("claims.run_attempt < 4", "an error (TypeError)"),
        ("1 / 0 == 1", "an error (ZeroDivisionError)"),
        ("claims.groups.exists(g, g == 'b')", "true"),
        ("claims.groups.all(g, g == 'b')", "false"),
        ("'a' in claims.groups", "true"),
        ("claims == 1", "false"),
        ("size(claims) > 2", "true"),
        ('claims.run_attempt == "2"', "true"),
        ("claims.run_attempt.startsWith('2') && job.ref.endsWith('main')", "true"),
    ],
)
def test_a_verdict(source: str, verdict: str) -> None:
    expression = compile_expression(source)
    assert expression.verdict(JOB, CLAIMS) == verdict
    assert expression.holds(JOB, CLAIMS) is (verdict == "true")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("", "not a CEL expression"),
        ("1 +", "not a CEL expression"),
        ("claims.a == 'x", "unexpected"),
        ("clams.a == 1", "did you mean 'claims'"),
        ("job.projct == 'a'", "did you mean 'project'"),
        ("now() > 1", "no function 'now'"),
        ("claims.a.matches('x')", "{regex: ...}"),
        ("claims.a.all(x, claims.b.exists(y, y == x))", "a macro inside a macro"),
        ("claims.a.map(claims, claims == 1)", "a name of its own"),
        ("claims.a.all(job, true)", "a name of its own"),
        (r"claims[r'a'] == 1", "raw"),
        ("b'x' == b'x'", "raw"),
        (r"claims['a\x62'] == 1", "without backslashes"),
        ("true // always", "unexpected '/'"),
        ("claims.`a b` == 1", "unexpected '`'"),
        ("1 == 1 " + "|| 1 == 1 " * 100, "at most 1000"),
        ("(" * 400 + "true" + ")" * 400, "not a CEL expression"),
        ("\ud800 == 1", "unexpected"),
    ],
)
def test_an_expression_that_is_refused_when_it_loads(source: str, says: str) -> None:
    with pytest.raises(ValueError, match=r"\S") as error:
        compile_expression(source)
    assert says in str(error.value)


WORDS = st.sampled_from(
    [
        "claims",
        "job",
        ".",
        "a",
        "ref",
        "(",
        ")",
        "[",
        "]",
        "'x'",
        "1",
        "+",
        "&&",
        "||",
        "!",
        "==",
        "has",
        "size",
        "all",
        "exists",
        ",",
        "?",
        ":",
        " ",
        "-",
        "true",
        "{",
        "}",
    ]
)


@settings(deadline=None)
@given(
    st.lists(WORDS, max_size=30).map("".join),
    st.dictionaries(st.sampled_from(["a", "b"]), st.none() | st.integers() | st.text(max_size=3)),
)
def test_any_text_is_refused_at_load_or_judged_without_raising(source: str, claims: dict[str, Any]) -> None:
    try:
        expression = compile_expression(source)
    except ValueError:
        return
    assert isinstance(expression.verdict(JOB, claims), str)


def test_the_engine_comes_without_its_command_line() -> None:
    """Its package imports a REPL; a broker that serves requests has no use for 20 MB of that."""
    import subprocess
    import sys

    code = (
        "import sys\nfrom broker.policy.expressions import compile_expression\ncompile_expression('true')\n"
        "assert 'cel.cli' not in sys.modules and 'prompt_toolkit' not in sys.modules\n"
        "import cel\nassert cel.compile('1 == 1').execute({}) is True"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
