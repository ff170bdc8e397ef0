"""Who else an edit lets in, in words, and whether these words are all of it: asked of broker.proof, not believed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from broker.authoring.describe.sentences import statement_words
from broker.authoring.explain.edit import Edit, Region
from broker.policy.world import World
from broker.proof import Verdict, beyond

BEFORE: Final = ", as far as they were not trusted before"


@dataclass(frozen=True, slots=True, kw_only=True)
class Consequence:
    """What an edit comes to, beside the one job that it is made for."""

    jobs: tuple[str, ...]  # "jobs of acme/payments on GitHub Actions, if they run from the branch release"
    grants: tuple[str, ...]  # that all of them get
    proved: bool  # that no other job is newly trusted
    why: str  # what kept the proof open, or what it took for free; empty otherwise
    example: Mapping[str, Any] | None = field(
        default=None, repr=False
    )  # claims of one such job, where they could be made


def consequence(edit: Edit, world: World) -> Consequence:
    """The words, and the proof that they leave nobody out."""
    old = edit.near.statement
    kinds, urls = world.issuers, world.issuer_urls
    said = [region.statement for region in edit.regions]
    rest = beyond([edit.statement], [old, *said], kinds=kinds, urls=urls)
    some = beyond([edit.statement], [old], kinds=kinds, urls=urls)
    return Consequence(
        jobs=tuple(_words(region, edit, world) for region in edit.regions),
        grants=(*edit.near.grants, *edit.also),
        proved=rest.verdict is Verdict.NONE,
        why=rest.why,
        example=None if some.witness is None else some.witness.claims,
    )


def _words(region: Region, edit: Edit, world: World) -> str:
    words = statement_words(region.statement, world.issuers.get(region.statement.issuer), started=region.trigger).jobs()
    exactly = all(change.exactly for change in edit.changes)
    return words if exactly else words + BEFORE
