"""What --fix writes: it ends the finding, it changes nothing else, and nobody is trusted who was not before."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from broker.authoring.finding import Finding, Fix
from broker.authoring.lint import RULES, lint_policy
from broker.policy.load import Checked
from broker.proof import Verdict, beyond
from tests.unit.lint.samples import ID, OWNER, SAMPLES, Sample, policy
from tests.unit.lint.world import check, lint, under, world


def applied(text: str, fix: Fix) -> str:
    lines = text.splitlines(keepends=True)
    return "".join([*lines[: fix.first - 1], *(line + "\n" for line in fix.lines), *lines[fix.last :]])


def block(*lines: str, issuer: str = "github") -> str:
    """A statement in block style, which is what people write and what can be fixed."""
    return policy("\n".join(lines), issuer=issuer)


FIXED = {
    "unprotected-branch": [
        block("job:", f"  {ID}", "  ref: refs/heads/main   # the release branch"),
        block("job:", f"  {ID}", "  ref:", '    glob: "refs/tags/v*"'),
        block("job:", f"  {ID}", "  ref:", "    - refs/heads/main", "    - refs/heads/next"),
        block("job:", f"  {ID}", "claims:", "  ref: refs/heads/main"),
        block("job:", "  ref: refs/heads/main", f"  {ID}"),
    ],
    "unprotected-environment": [
        block("job:", f"  {ID}", "  environment: production"),
        block("job:", '  project_id: "20011"', "  environment: [production]", issuer="gitlab"),
        block("job:", '  project_id: "20011"', "claims:", "  environment: production", issuer="gitlab"),
    ],
    "silence-without-effect": [
        block("# jobkey: allow unsafe-trigger because of x", "job:", f"  {ID}", "  ref_protected: true"),
        block("job: # jobkey: allow unsafe-trigger because of x", f"  {ID}", "  ref_protected: true"),
    ],
}


@pytest.mark.parametrize(("rule", "text"), [(rule, text) for rule, texts in FIXED.items() for text in texts])
def test_a_fix_ends_its_finding_and_trusts_nobody_new(rule: str, text: str) -> None:
    (found,) = [one for one in lint(text) if one.rule == rule]
    assert found.fix is not None
    mended = applied(text, found.fix)
    assert mended != text
    assert rule not in {one.rule for one in lint(mended)}
    assert not wider(check(text), check(mended))


def wider(before: Checked, after: Checked) -> bool:
    kinds = world().issuers
    answer = beyond(after.policy.statements, before.policy.statements, kinds=kinds, urls=world().issuer_urls)
    return answer.verdict is not Verdict.NONE


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("    ttl: 30m", "    ttl: 5m"),
        ('    ttl: "30m"', "    ttl: 5m"),
        ("    ttl: 30m   # a long one", "    ttl: 5m  # a long one"),
    ],
)
def test_a_shorter_ttl_keeps_its_comment(before: str, after: str) -> None:
    grant = f"g:\n  backend: ssh\n{before[2:]}\n  with: {{principals: [deploy]}}"
    text = policy(f"job: {{{ID}, ref_protected: true}}", grants=grant)
    (found,) = [one for one in lint(text, guardrails="advised_ttl: {ssh-ca: 5m}") if one.rule == "long-ttl"]
    assert found.fix is not None
    assert found.fix.lines == (f"  {after[2:]}",)
    assert applied(text, found.fix) == text.replace(f"  {before[2:]}\n", f"  {after[2:]}\n")


@pytest.mark.parametrize("body", [f"job: {{{ID}, ref: refs/heads/main}}", f"job: {{{ID}}}", f"job: {{{OWNER}}}"])
def test_what_stands_in_braces_is_left_to_its_author(body: str) -> None:
    assert [one.fix for one in lint(policy(body)) if one.rule == "unprotected-branch"] == [None]


def fixes() -> Iterator[tuple[Sample, Finding]]:
    for pair in SAMPLES.values():
        for sample in (*pair.fail, *pair.good):
            yield from ((sample, one) for one in lint(*sample.policies, **sample.given()) if one.fix is not None)


def test_every_fix_of_every_sample_leaves_a_file_that_loads() -> None:
    tried = 0
    for sample, found in fixes():
        assert found.fix is not None
        number = int(found.place.file.removesuffix(".yaml"))
        text = sample.policies[number]
        assert not wider(check(text), check(applied(text, found.fix)))
        tried += 1
    assert tried >= 3  # most samples are in braces, which no fix touches


def test_an_error_is_worth_an_errors_name_and_no_rule_is_a_note_by_chance() -> None:
    assert [rule.id for rule in RULES.values() if rule.severity.value == "note"] == [
        "too-large-to-prove",
        "issuer-audience-shared",
    ]


def test_without_backends_what_depends_on_them_is_left_out() -> None:
    here = replace(world(), targets=None)
    for pair in SAMPLES.values():
        for sample in pair.fail:
            for text in sample.policies:
                found = list(lint_policy(check(text, here), here, history=sample.history))
                assert not {"long-ttl", "token-audience-shared", "self-escalation"} & {one.rule for one in found}


def test_a_silence_of_a_rule_that_cannot_judge_here_is_not_idle() -> None:
    text = block(
        "# jobkey: allow self-escalation because it is the platform's own", "job:", f"  {ID}", "  ref_protected: true"
    )
    here = replace(under(world().guardrails), targets=None)
    assert "silence-without-effect" not in {one.rule for one in lint_policy(check(text, here), here)}
    assert "silence-without-effect" in {one.rule for one in lint(text)}
