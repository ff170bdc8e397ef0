"""What `policy test` found, as text for people and as JSON for programs. Text only; nothing here prints."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from broker.authoring.mutation.mutate import Coverage, Fate, Mutant, percent
from broker.authoring.write.yamltext import example_lines
from broker.documents import Path, dotted
from broker.policy.examples import ExampleOutcome
from broker.policy.load import Checked


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """One policy: its examples, and what they prove of it where that was asked."""

    checked: Checked = field(repr=False)
    outcomes: tuple[ExampleOutcome, ...] = field(repr=False)
    coverage: Coverage | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The policy's name; its next version is one of its own."""
        return self.checked.policy.name + (" (next)" if self.checked.document.under else "")

    def where(self, path: Path) -> str:
        """`trust[0].job.ref`, as the file has it."""
        return dotted((*self.checked.document.under, *path))

    def place(self, path: Path) -> tuple[int, int]:
        """Line and column of a path, or of what it would stand in."""
        while path and path not in self.checked.document.marks:
            path = path[:-1]
        return self.checked.document.marks.get(path, (1, 1))


def example_line(outcome: ExampleOutcome) -> str:
    """One example on a line."""
    became = ", ".join(outcome.expected) or "refused"
    return f"  {'FAIL' if outcome.problems else 'ok  '}  {outcome.name}: {became}"


def hole_lines(tested: Examined) -> Iterator[str]:
    """Each part of a policy that no example proves, how it could be loosened unnoticed, and the example to add."""
    assert tested.coverage is not None
    told: set[str] = set()
    for where, mutants in _by_place(tested, tested.coverage.holes):
        line, column = tested.place(mutants[0].path)
        said = "; ".join(mutant.said for mutant in mutants)
        yield f"{tested.checked.text.name}:{line}:{column}: {where}: no example would notice: {said}"
        for mutant in mutants:
            if mutant.example is None:
                yield f"      no example to suggest: {mutant.why}"
            elif mutant.example["name"] not in told:
                told.add(mutant.example["name"])
                yield from example_lines(mutant.example, 6)
    for where, mutants in _by_place(tested, [one for one in tested.coverage.mutants if one.fate is Fate.OPEN]):
        line, column = tested.place(mutants[0].path)
        said = "; ".join(mutant.said for mutant in mutants)
        yield f"{tested.checked.text.name}:{line}:{column}: {where}: not counted, since no job was found that it would let in: {said}"


def noticed_lines(tested: Examined) -> Iterator[str]:
    """What was noticed, and by which example; and what cannot let anybody in."""
    assert tested.coverage is not None
    for mutant in tested.coverage.mutants:
        if mutant.fate is Fate.NOTICED:
            yield f"  ok    {tested.where(mutant.path)}: {mutant.said}: noticed by {mutant.by!r}"
        elif mutant.fate is Fate.SAME:
            yield f"  same  {tested.where(mutant.path)}: {mutant.said}: lets nobody in, proved"


def _by_place(tested: Examined, mutants: Sequence[Mutant]) -> Iterator[tuple[str, list[Mutant]]]:
    places: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        places.setdefault(tested.where(mutant.path), []).append(mutant)
    yield from places.items()


def summary(tested: Sequence[Examined]) -> dict[str, Any]:
    """Everything, for programs."""
    found = [one.coverage for one in tested if one.coverage is not None]
    killed, total = sum(one.killed for one in found), sum(one.total for one in found)
    answer: dict[str, Any] = {"policies": [_policy(one) for one in tested]}
    if found:
        answer["coverage"] = {"noticed": killed, "total": total, "percent": percent(killed, total)}
    return answer


def _policy(tested: Examined) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "policy": tested.name,
        "file": tested.checked.text.name,
        "examples": [
            {
                "name": outcome.name,
                "expect": list(outcome.expected),
                "ok": not outcome.problems,
                "problems": [problem for _, problem in outcome.problems],
            }
            for outcome in tested.outcomes
        ],
    }
    if (coverage := tested.coverage) is not None:
        answer["coverage"] = {
            "noticed": coverage.killed,
            "total": coverage.total,
            "percent": percent(coverage.killed, coverage.total),
            "mutants": [_mutant(tested, mutant) for mutant in coverage.mutants],
        }
    return answer


def _mutant(tested: Examined, mutant: Mutant) -> dict[str, Any]:
    line, column = tested.place(mutant.path)
    answer: dict[str, Any] = {
        "where": tested.where(mutant.path), "line": line, "column": column, "loosened": mutant.said, "fate": mutant.fate.value
    }  # fmt: skip
    if mutant.by is not None:
        answer["by"] = mutant.by
    if mutant.example is not None:
        answer["example"] = dict(mutant.example)
        answer["yaml"] = "\n".join(example_lines(mutant.example, 2)) + "\n"
    if mutant.why:
        answer["why"] = mutant.why
    return answer
