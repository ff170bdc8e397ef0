"""Questions about trust statements that hold for every job there could be, answered by regular languages.

Owns the reasoning. What a condition means is said by broker.policy, and every answer here is tested against `decide`.

* Sound: "no identity" is said only where it is proved. What cannot be expressed (a CEL expression, a pattern too large)
  is taken to allow more, never less, and the answer says so.
* A witness that has claims was put to the statements' own `trusts`, which is what `decide` asks. One without is a guess.
"""

from broker.proof.answers import Answer, Verdict, Witness, beyond
from broker.proof.regions import Region, disjoint, languages_equal, region_of, region_of_condition, within
from broker.proof.terms import Budget, Exhausted

__all__ = [
    "Answer",
    "Budget",
    "Exhausted",
    "Region",
    "Verdict",
    "Witness",
    "beyond",
    "disjoint",
    "languages_equal",
    "region_of",
    "region_of_condition",
    "within",
]
