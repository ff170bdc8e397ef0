"""A difference as Markdown that is made to be posted on a pull request: GitHub's and GitLab's dialect.

* The short answer is the first line, then a table of grants, then everything else folded away.
* What comes from a policy, a claim or the ledger stands in code spans and fences that are longer than any run of
  backticks in it, on one line and without control characters: it cannot become a link, a mention, markup or HTML.
* It fits a comment (GitHub takes 65,536 characters); what does not fit is counted, never cut in the middle.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from broker.authoring.compare.difference import Change, Difference, GrantDifference
from broker.authoring.compare.grants import Direction, Job
from broker.authoring.compare.replay import Replayed
from broker.authoring.compare.replay_words import replay_headline, replay_lines, unused_lines
from broker.authoring.compare.words import (
    Line,
    Quote,
    Words,
    grant_lines,
    headline,
    job_rows,
    limit_lines,
    miss_words,
    notes,
    policy_lines,
    tally,
)
from broker.proof import Verdict

LARGEST: Final = 60_000  # characters
MARK: Final = "<!-- jobkey-broker policy diff -->"  # by which a job finds its earlier comment again
MOST_ROWS: Final = 200  # of the table
_SPECIAL: Final = re.compile(r"([\\`*_\[\]<>|#&~@])")


def markdown(difference: Difference, *, old: Words, new: Words, replayed: Replayed | None = None, days: int = 0) -> str:
    """The whole comment. `old` and `new` say what was compared."""
    first = headline(difference)
    told = difference.grants
    parts = [
        f"{MARK}\n**Policy change: {text((first,))}**",
        f"{text(old)} to {text(new)}: {text((tally(difference),))}.",
    ]
    changed = [one for one in told if one.change is not Change.SAME]
    if changed:
        parts.append("\n".join(_table(changed)))
    folded = [*map(_grant, changed), *_policies(difference), *_limits(difference), *_replay(replayed, days)]
    parts.extend(f"*{text((note,))}*" for note in notes(difference))
    return _fitting(parts, folded)


def _fitting(parts: list[str], folded: list[str]) -> str:
    size = sum(len(part) + 2 for part in parts)
    for place, one in enumerate(folded):
        size += len(one) + 2
        if size > LARGEST:
            parts.append(f"*and {len(folded) - place} more that do not fit here; run `jobkey-broker policy diff` to see them*")  # fmt: skip
            break
        parts.append(one)
    return "\n\n".join(parts) + "\n"


def _table(grants: Sequence[GrantDifference]) -> Iterator[str]:
    """Verdicts only: a table's cells cannot hold what others wrote, since a backslash before a bar would end the cell."""
    yield "| Grant | Change | Newly allowed | Newly refused | What it gives |"
    yield "| --- | --- | --- | --- | --- |"
    for grant in grants[:MOST_ROWS]:
        compared = grant.compared
        cells = [
            f"`{grant.name}`",  # of a shape that holds no special character
            grant.change.value,
            _cell(compared.allowed, bold=True),
            _cell(compared.refused, bold=False) if grant.change is not Change.NEW else "",
            ", ".join(sorted({one.what for one in compared.reach})) or "",
        ]
        yield "| " + " | ".join(cells) + " |"
    if len(grants) > MOST_ROWS:
        yield f"| and {len(grants) - MOST_ROWS} more | | | | |"


def _cell(found: Direction, *, bold: bool) -> str:
    mark = "**" if bold else ""
    return {
        Verdict.NONE: "no identity: proved",
        Verdict.SOME: f"{mark}e.g. below{mark}",
        Verdict.UNKNOWN: f"{mark}cannot be ruled out{mark}",
    }[found.verdict]


def _grant(grant: GrantDifference) -> str:
    return details(f"<code>{grant.name}</code>", _lines(grant_lines(grant)))


def _policies(difference: Difference) -> Iterator[str]:
    for policy in difference.policies:
        lines = list(policy_lines(policy))
        if lines:
            yield details(f"policy <code>{policy.name}</code>", _lines(lines))


def _limits(difference: Difference) -> Iterator[str]:
    if difference.limits:
        yield details("guardrails", _lines(line for limit in difference.limits for line in limit_lines(limit)))


def _replay(replayed: Replayed | None, days: int) -> Iterator[str]:
    if replayed is not None:
        said = [*replay_lines(replayed), *unused_lines(replayed)]
        yield details(replay_headline(replayed, days), [f"- {text(words)}" for words in said])


def _lines(lines: Iterable[Line]) -> list[str]:
    return [part for line in lines for part in _line(line)]


def _line(line: Line) -> Iterator[str]:
    said = text(line.words)
    yield f"- **{said}**" if line.level is Verdict.SOME and not any(isinstance(word, Quote) for word in line.words) else f"- {said}"  # fmt: skip
    if line.job is not None:
        yield from _job(line, line.job)


def _job(line: Line, job: Job) -> Iterator[str]:
    for name, value in job_rows(job):
        yield f"  - {code(name)} {code(value)}"
    for words in miss_words(line):
        yield f"  - {text(words)}"
    claims = json.dumps(dict(job.claims), indent=2, sort_keys=True, default=str)
    yield ""
    yield "  its claims:"
    yield ""
    yield from (f"  {one}" for one in fence(claims, "json").split("\n"))
    yield ""


def details(summary: str, lines: list[str]) -> str:
    """A part that is folded away. The blank lines make what is inside Markdown again."""
    return "\n".join([f"<details><summary>{summary}</summary>", "", *lines, "", "</details>"])


def text(words: Words) -> str:
    """A sentence: quotes as code, our own words with every special character escaped."""
    return "".join(code(word) if isinstance(word, Quote) else _SPECIAL.sub(r"\\\1", one_line(word)) for word in words)


def code(value: str) -> str:
    """A code span that nothing in the value ends (CommonMark 6.1)."""
    value = one_line(value)
    if not value:
        return "(empty)"
    ticks = "`" * (longest_run(value) + 1)
    pad = " " if value.startswith(("`", " ")) or value.endswith(("`", " ")) else ""
    return f"{ticks}{pad}{value}{pad}{ticks}"


def fence(value: str, language: str) -> str:
    """A fenced block that no line of the value ends (CommonMark 4.5)."""
    ticks = "`" * max(3, longest_run(value) + 1)
    return f"{ticks}{language}\n{value}\n{ticks}"


def longest_run(value: str) -> int:
    """Of backticks."""
    return max(map(len, re.findall("`+", value)), default=0)


def one_line(value: str) -> str:
    """Without control, format and separator characters, some of which would begin a new line or turn the text around."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in value)
