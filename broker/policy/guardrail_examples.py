"""The examples of `guardrails.yaml`, tried at every load: what the platform believes its limits keep out.

An example that is refused has to be a sound policy without the limits; else a typing error would pass for a limit at work.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from broker.documents import Document
from broker.errors import ConfigError
from broker.policy.compile import compile_policy
from broker.policy.guardrails import Guardrails
from broker.policy.guardrails_file import GuardrailExamplePart
from broker.policy.world import World

NO_LIMITS: Final = Guardrails(require_immutable_id=False)
_MOST_TOLD: Final = 2
# What compile_policy wants and limits say nothing about.
_FILLED: Final = {
    "policy": "example",
    "examples": [{"name": "nobody", "claims": {"sub": "nobody"}, "expect": "refuse"}],
}


def guardrail_problems(world: World) -> Iterator[str]:
    """A line for each example that does not come out as it says, and for each name that stands twice."""
    document = world.guardrails.document
    if document is None:
        return
    names: set[str] = set()
    for number, example in enumerate(world.guardrails.examples):
        if example.name in names:
            yield document.problem(("examples", number, "name"), "an example of this name stands above")
        names.add(example.name)
        yield from _problems(document, number, example, world)


def _problems(document: Document, number: int, example: GuardrailExamplePart, world: World) -> Iterator[str]:
    unlimited = _loading(document, number, example, replace(world, guardrails=NO_LIMITS))
    if unlimited:
        yield from unlimited  # each with its place: the example itself is wrong
        return
    limited = _loading(document, number, example, world)
    if limited and example.expect == "load":
        told = "; ".join(_message(problem) for problem in limited[:_MOST_TOLD])
        yield document.problem(
            ("examples", number, "expect"), f"{example.name!r}: expected to load, but it is refused: {told}"
        )
    elif not limited and example.expect == "refuse":
        yield document.problem(
            ("examples", number, "expect"), f"{example.name!r}: expected to be refused, but no limit keeps it out"
        )


def _loading(document: Document, number: int, example: GuardrailExamplePart, world: World) -> tuple[str, ...]:
    """What compiling the example finds, in this world."""
    under = ("examples", number, "policy")
    marks = {path[3:]: mark for path, mark in document.marks.items() if path[:3] == under}
    written = document.value["examples"][number]["policy"]
    part = Document(document.name, {**written, **_FILLED}, marks, under)
    try:
        compile_policy(part, "", folder=example.folder, file="", world=world)
    except ConfigError as error:
        return error.problems
    return ()


def _message(problem: str) -> str:
    """Without the place, which is the example's."""
    return problem.split(": ", 1)[-1]
