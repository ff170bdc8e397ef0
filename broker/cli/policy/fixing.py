"""`policy check --fix`: which files are written, and what is said of each fix.

Only a file that was read to be checked is written, and only with what still loads, every example included, and is proved
to let nobody else in. What could not be applied is said with why, and its finding stays.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.text import Text

from broker.authoring.checking import Examined
from broker.authoring.finding import Fix
from broker.authoring.fixes import apply, difference, widens
from broker.authoring.report.model import harmless
from broker.cli.policy.writing import rewrite
from broker.errors import ConfigError
from broker.policy.load import PolicyText, check_text
from broker.policy.world import World


def fixed(
    texts: list[PolicyText], examined: Examined, world: World, *, dry_run: bool, out: Console | None
) -> list[PolicyText]:
    """Apply what is safe and show it on `out`, or on standard error; the texts as they stand then, the same if none changed."""

    def say(line: str) -> None:
        if out is None:
            typer.echo(harmless(line), err=True)
        else:
            out.print(Text(harmless(line)))

    by_file: dict[str, list[Fix]] = {}
    for finding in examined.findings:
        if finding.fix is not None:
            by_file.setdefault(finding.fix.file, []).append(finding.fix)
    after = [_one(text, by_file[text.name], world, say, dry_run) if text.name in by_file else text for text in texts]
    return after if any(new is not old for new, old in zip(after, texts, strict=True)) else texts


def _one(text: PolicyText, fixes: Sequence[Fix], world: World, say: Callable[[str], None], dry_run: bool) -> PolicyText:
    def wrong(data: bytes) -> str | None:
        try:
            after = check_text(PolicyText(text.name, text.file, data), world)
        except ConfigError as error:
            return f"the file would not load with it: {error.problems[0].partition(': ')[2]}"
        return widens(check_text(text, world), after, world)

    applied = apply(text.data, fixes, wrong)
    for fix, why in applied.left:
        say(f"{text.name}:{fix.first}: not fixed ({fix.title}): {why}")
    for line in difference(text.data, applied.data, text.name):
        say(line)
    if dry_run or not applied.done:
        return text
    path = Path(text.name)
    said = "a link; check the file it leads to" if path.is_symlink() else rewrite(path, text.data, applied.data)
    if said is not None:
        say(f"{text.name}: not fixed: {said}")
        return text
    for fix in applied.done:
        say(f"{text.name}:{fix.first}: fixed: {fix.title}")
    return PolicyText(text.name, text.file, applied.data)
