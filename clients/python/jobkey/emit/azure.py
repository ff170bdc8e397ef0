"""Azure Pipelines: `##vso[task.setsecret]VALUE`. Multi-line secrets are refused by the agent, so single lines only."""

from __future__ import annotations

from jobkey.emit.channel import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def register(texts: list[str], env: Mapping[str, str]) -> bool:  # noqa: ARG001 - all masks are called alike
    lines = [text for text in texts if "\n" not in text and "\r" not in text]
    return say([f"##vso[task.setsecret]{form}" for text in lines for form in forms(text)])


def forms(text: str) -> list[str]:
    """A value with a percent sign is registered in two forms.

    `%AZP25` is the agent's escape for it, which it undoes only when DECODE_PERCENTS is on: a job cannot know.
    """
    return [text, text.replace("%", "%AZP25")] if "%" in text else [text]
