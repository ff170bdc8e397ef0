"""Well-known facts about conditions, and that a region holds exactly what its condition holds."""

from functools import reduce
from itertools import pairwise, product
from operator import and_
from typing import Any

import pytest

from broker.policy.conditions import Condition
from broker.proof import disjoint, languages_equal, region_of, within
from broker.proof.regions import ANY_VALUE, MOST_SHAPES, NO_VALUE, region_of_condition
from broker.proof.terms import Exhausted
from tests.unit.proof.statements import ODD, compiled

VALUES: list[Any] = [
    *ODD, "main", "main-x", "a", "b", "a/b", "a/b/c", "x", "prod", "2", 2, -1, 10**20, 1e400, "nan", ["main"], ["b", "c"], ["a", 1], [""],
    [None, "a"], [[]], [["a", "b"]], [[1]], [{}], [{"a": 1}], {"b": None}, "\ud800a", "a\x00", [True], [0], ["a\n"],
]  # fmt: skip
SPECS: list[Any] = [
    "main", "a", "1", "true", True, False, 1, 1.0, 2, 0, float("nan"), ["a", "b"], ["a", 1, True], {"glob": "a*"}, {"glob": "**"}, {"regex": "[a-z]+"},
    {"regex": "\\bmain"}, {"absent": True}, {"not": "main"}, {"not": True}, {"not": 1}, {"not": {"glob": "*"}}, {"not": {"absent": True}},
    {"not": ["a", {"absent": True}]}, {"not": {"not": "a"}}, ["a", {"absent": True}], ["a", {"not": "a"}], [1, {"not": 1}], {"not": ["a", 1]},
    {"not": {"regex": "\\bmain"}}, {"contains": "a"}, {"contains": {"not": "a"}}, {"not": {"contains": "a"}}, {"contains": ["a", "b"]},
    {"contains": {"glob": "*"}}, {"contains": {"contains": "a"}}, {"not": {"contains": {"not": {"glob": "*"}}}}, {"not": {"contains": {"contains": "a"}}},
    ["a", {"contains": "a"}], {"contains": 1}, {"not": {"contains": [1, "a"]}}, {"contains": {"not": {"contains": "a"}}}, [{"glob": "a*"}, {"glob": "*b"}],
    {"not": {"not": {"contains": {"not": "a"}}}}, {"not": {"not": {"not": {"not": "a"}}}},
]  # fmt: skip


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_region_holds_what_its_condition_holds(spec: Any) -> None:
    condition = compiled(spec)
    region = region_of_condition(condition)
    for value in VALUES:
        assert (value in region) == condition.holds(value), value
        assert (value in ~region) != condition.holds(value), value


def test_regions_are_closed_under_and_or_and_not() -> None:
    for one, two in product(SPECS, SPECS):
        first, second = region_of(one), region_of(two)
        both, either = first & second, first | second
        for value in VALUES[::3]:
            assert (value in both) == (value in first and value in second), (one, two, value)
            assert (value in either) == (value in first or value in second), (one, two, value)
        if both.is_empty():
            assert not any(value in both for value in VALUES)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_every_example_belongs_and_only_an_empty_region_has_none(spec: Any) -> None:
    for region in (region_of(spec), ~region_of(spec)):
        examples = list(region.examples(["a", 1]))
        assert all(value in region for value in examples)
        if spec != {"regex": "\\bmain"}:
            assert bool(examples) is not region.is_empty()


WIDER = [
    ({"glob": "a/*"}, {"glob": "a/**"}), ("main", {"glob": "main*"}), ("main", ["main", "dev"]), ({"glob": "refs/heads/*"}, {"glob": "refs/**"}),
    ("a", {"not": "b"}), ({"regex": "v[0-9]+"}, {"glob": "v*"}), ({"regex": "(?i)main"}, {"regex": "[a-zA-Z]+"}), ({"glob": "v?"}, {"glob": "v*"}),
    ({"contains": "a"}, {"contains": {"glob": "*"}}), ({"contains": "a"}, {"not": {"absent": True}}), (1, {"not": 2}),
    ({"not": {"glob": "a*"}}, {"not": "a"}), ({"not": {"contains": {"glob": "a*"}}}, {"not": {"contains": "a"}}), ("a", ["a", {"absent": True}]),
    ({"glob": "**"}, {"not": "a\n"}), ({"regex": "\\bmain"}, ["x", {"regex": "\\bmain"}]), ({"regex": "[0-9]{1,3}"}, {"regex": "[0-9]{1,4}"}),
]  # fmt: skip
EQUAL = [
    (1, 1.0), (["a", "b"], ["b", "a", "a"]), ("main", {"glob": "main"}), ("main", {"regex": "m(ain)"}), ({"glob": "*"}, {"regex": "[^/]*"}),
    ({"glob": "**"}, {"regex": ".*"}), ({"not": {"not": "a"}}, {"not": {"not": {"not": {"not": "a"}}}}), ({"regex": "a|b"}, ["a", "b"]),
    ({"regex": "(a|b)*"}, {"regex": "(a*b*)*"}), ({"regex": "^a$"}, "a"), ({"regex": "a{2,3}"}, ["aa", "aaa"]), ({"regex": "(?i)a"}, ["a", "A"]),
    ({"regex": "(?i)k"}, ["k", "K", "\u212a"]), ({"contains": ["a", "b"]}, [{"contains": "a"}, {"contains": "b"}]), ({"regex": "\\d"}, {"regex": "[0-9]"}),
    (True, {"not": False}),
]  # fmt: skip
APART = [
    ("main", "main-x"), (True, "true"), (1, "1"), (True, 1), ({"glob": "refs/heads/*"}, {"glob": "refs/tags/*"}), ({"glob": "*"}, {"glob": "*/*"}),
    ("a\n", {"glob": "**"}), ({"absent": True}, {"not": "a"}), ({"not": True}, "true"), ({"contains": "a"}, {"glob": "**"}), ({"contains": "a"}, "a"),
    ({"contains": "a"}, {"not": {"contains": "a"}}), ({"regex": "[a-f]+"}, {"regex": "[0-9]+"}), ({"regex": "\\bmain"}, {"not": {"regex": "\\bmain"}}),
    ("main ", {"glob": "main"}), ({"regex": "\\pL+"}, {"regex": "[^\\pL]+"}), ({"absent": True}, True),
]  # fmt: skip


@pytest.mark.parametrize(("narrow", "wide"), WIDER, ids=str)
def test_the_wider_condition_is_wider_and_not_the_other_way_round(narrow: Any, wide: Any) -> None:
    assert within(narrow, wide)
    assert not within(wide, narrow)
    assert not disjoint(narrow, wide)


@pytest.mark.parametrize(("one", "two"), EQUAL, ids=str)
def test_two_ways_to_say_the_same(one: Any, two: Any) -> None:
    assert languages_equal(one, two)


@pytest.mark.parametrize(("one", "two"), APART, ids=str)
def test_nothing_satisfies_both(one: Any, two: Any) -> None:
    assert disjoint(one, two)
    assert not languages_equal(one, two)


def test_a_glob_of_a_segment_is_no_class_and_not_is_more_than_text() -> None:
    assert not within({"glob": "release/*"}, {"regex": "release/[a-z]+"})
    assert not within({"not": "main"}, {"glob": "**"})  # a text with a control character, a number


def test_lists_whose_shapes_multiply_stay_an_open_question() -> None:
    lacking = [region_of({"not": {"contains": f"a{number}"}}) for number in range(MOST_SHAPES)]
    pairs = [one | two for one, two in pairwise(lacking)]
    with pytest.raises(Exhausted):
        reduce(and_, pairs, ANY_VALUE)


def test_everything_and_nothing() -> None:
    assert NO_VALUE.is_empty()
    assert (~ANY_VALUE).is_empty()
    assert all(value in ANY_VALUE and value not in NO_VALUE for value in VALUES)


def test_a_condition_without_its_source_is_no_basis_for_a_proof() -> None:
    bare = Condition(lambda _: True, lambda _: True, admits_absent=False, shown="anything")
    with pytest.raises(ValueError, match="compiled from a policy"):
        region_of_condition(bare)
