"""Every rule against policies that it has to find, and policies near them that it has to leave alone."""

import pytest

from broker.authoring.lint import RULES
from tests.unit.lint.samples import SAMPLES, Sample
from tests.unit.lint.world import lint


def each(side: str) -> list[object]:
    return [
        pytest.param(rule, sample, id=f"{rule}-{number}")
        for rule, pair in SAMPLES.items()
        for number, sample in enumerate(getattr(pair, side))
    ]


def test_every_rule_has_three_samples_of_each() -> None:
    assert set(SAMPLES) == set(RULES)
    assert all(len(pair.fail) >= 3 and len(pair.good) >= 3 for pair in SAMPLES.values())


@pytest.mark.parametrize(("rule", "sample"), each("fail"))
def test_a_rule_finds(rule: str, sample: Sample) -> None:
    found = [one for one in lint(*sample.policies, **sample.given()) if one.rule == rule]
    assert found
    for one in found:
        assert one.severity is RULES[rule].severity
        assert one.message
        assert one.remedy
        assert "  " not in f" {one.message}"
        assert one.place.line >= 1


@pytest.mark.parametrize(("rule", "sample"), each("good"))
def test_a_rule_leaves_alone(rule: str, sample: Sample) -> None:
    assert not [one.message for one in lint(*sample.policies, **sample.given()) if one.rule == rule]
