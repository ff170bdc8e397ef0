"""GitHub and Forgejo Actions: `::add-mask::VALUE`, which the runner takes out of the log and acts upon.

One line per command: `%`, CR and LF are encoded, `%` first. A raw newline would end the command and print the rest.
"""

from __future__ import annotations

from jobkey.emit.channel import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def register(texts: list[str], env: Mapping[str, str]) -> bool:  # noqa: ARG001 - all masks are called alike
    return say([f"::add-mask::{escape(text)}" for text in texts])


def escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
