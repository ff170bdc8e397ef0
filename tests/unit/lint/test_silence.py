"""Which comments silence what, and where a `#` is no comment at all."""

import pytest

from broker.authoring.lint.silence import silences
from tests.unit.lint.samples import ID, policy
from tests.unit.lint.world import lint, rules


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1 # jobkey: allow x because y", [(1, 1, "x", "y")]),
        ("# jobkey: allow x because y\na: 1", [(1, 2, "x", "y")]),
        ("#jobkey: allow x because y z \na: 1", [(1, 2, "x", "y z")]),
        ("# jobkey: allow x because y\n# more\n\na: 1", [(1, 4, "x", "y")]),
        ("# jobkey: allow x because y\n# jobkey: allow z because w\na: 1", [(1, 3, "x", "y"), (2, 3, "z", "w")]),
        ("a:\n  b: 1  # jobkey: allow x because y", [(2, 2, "x", "y")]),
        ("a: 1\n# jobkey: allow x because y", [(2, 2, "x", "y")]),
        ("a: 1 # jobkey: allow x", [(1, 1, "x", "")]),
        ("a: 1 # jobkey: allow", [(1, 1, None, "")]),
        ("a: 1 # jobkey: deny x because y", [(1, 1, None, "")]),
        ("a: 'x # jobkey: allow x because y'", []),
        ('a: "x # jobkey: allow x because y"', []),
        ('a: "x\n  # jobkey: allow x because y"', []),
        ("a: |\n  text\n  # jobkey: allow x because y\n  more\nb: 1", []),
        ("a: >-\n  # jobkey: allow x because y\n", []),
        ("a: x#jobkey: allow x because y", []),
        ("a: [1, # jobkey: allow x because y\n  2]", [(1, 1, "x", "y")]),
        ("a: 1", []),
    ],
)  # fmt: skip
def test_what_counts(text: str, expected: list[tuple[int, int, str | None, str]]) -> None:
    assert [(one.line, one.covers, one.rule, one.reason) for one in silences(text)] == expected


@pytest.mark.parametrize("reason", ["", "because", "because ", "because ...", "because --", "as I say so"])
def test_no_reason_no_silence(reason: str) -> None:
    text = policy(f"# jobkey: allow unprotected-branch {reason}\njob: {{{ID}}}")
    assert {"unprotected-branch", "silence-without-reason"} <= rules(text)


def test_a_silence_is_for_one_rule_and_one_line() -> None:
    body = f"# jobkey: allow unprotected-branch because of the ruleset\njob: {{{ID}, ref: refs/heads/a}}\n"
    other = 'job: {project_id: "2", ref: refs/heads/b}'
    assert [one.place.line for one in lint(policy(body, other)) if one.rule == "unprotected-branch"] == [8]
    wrong = body.replace("unprotected-branch", "unsafe-trigger")
    assert {"unprotected-branch", "silence-without-effect"} <= rules(policy(wrong))


def test_a_finding_of_the_whole_set_is_silenced_where_it_points() -> None:
    guardrails = "protects: {broker: ['ssh:deploy']}"
    grant = "g:\n  backend: ssh\n  ttl: 5m\n  with: {principals: [deploy]}"
    loud = policy(f"job: {{{ID}, ref_protected: true}}", grants=grant)
    quiet = loud.replace("  g:\n", "  # jobkey: allow self-escalation because it is the platform's own\n  g:\n")
    assert "self-escalation" in rules(loud, guardrails=guardrails)
    assert not {"self-escalation", "silence-without-effect"} & rules(quiet, guardrails=guardrails)
    assert "silence-without-effect" in rules(quiet)


def test_guardrails_are_silenced_in_their_own_file() -> None:
    loud = "owners: ['*']\n"
    quiet = "# jobkey: allow guardrails-any-owner because this is a test bed\nowners: ['*']\n"
    idle = "# jobkey: allow guardrails-any-owner because this is a test bed\nowners: ['*@acme.example']\n"
    # The finding stands at the item, which is on the line of its key.
    assert "guardrails-any-owner" in rules(guardrails=loud)
    assert "guardrails-any-owner" not in rules(guardrails=quiet)
    assert "silence-without-effect" in rules(guardrails=idle)


@pytest.mark.parametrize(
    "text",
    [
        "a: 1 # jobkey: allow x because" + " " * 500_000,
        "a: 1 # jobkey: allow x because y" + " " * 500_000 + "z",
        "# jobkey: allow x because y\n" * 30_000 + "a: 1",
        'a: "' + "# jobkey: " * 80_000 + '"\n',
        "a: [" + "1, " * 100_000 + "]\nb: '" + "# jobkey: " * 20_000 + "'\n",
        "#" * 500_000 + " jobkey:",
    ],
)
def test_a_large_file_takes_time_with_its_size(text: str) -> None:
    """Each of these took minutes where every comment was held against every line or text of the file."""
    assert len(silences(text)) <= 30_000
