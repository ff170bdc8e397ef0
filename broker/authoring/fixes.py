"""Apply a linter's fixes to a file's bytes, keeping only those after which the file is still good.

* Whole lines only, from the end of the file to its beginning, so that none moves another; never two on one line.
* Each is tried alone on top of those before it; one that breaks anything is left out, with why.
* `widens` is for the caller to ask of each: what cannot be proved to let nobody else in is not applied by a machine.
* Every other byte stays: comments, the byte-order mark, each line's own ending.

Pure: bytes in, bytes out. Who may write which file is the caller's to say.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from broker.authoring.finding import Fix
from broker.authoring.report.model import clean
from broker.policy.load import Checked
from broker.policy.policyset import Policy, Statement
from broker.policy.world import World
from broker.proof import Verdict, beyond


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What became of one file's fixes."""

    data: bytes = field(repr=False)
    done: tuple[Fix, ...]
    left: tuple[tuple[Fix, str], ...]  # with why it was not applied


def apply(data: bytes, fixes: Iterable[Fix], wrong: Callable[[bytes], str | None]) -> Applied:
    """Apply what can be applied. `wrong` says what is wrong with a candidate, None where nothing is.

    Raises UnicodeDecodeError where the file is no UTF-8; such a file has no findings but that.
    """
    done: list[Fix] = []
    left: list[tuple[Fix, str]] = []
    for fix in sorted(dict.fromkeys(fixes), key=lambda one: (one.first, one.last), reverse=True):
        if any(fix.first <= other.last and other.first <= fix.last for other in done):
            left.append((fix, "another fix changes the same lines; run --fix again"))
            continue
        candidate = _replaced(data, fix)
        if candidate is None:
            left.append((fix, "its lines are not in the file"))
        elif candidate == data:
            left.append((fix, "it changes nothing"))
        elif (why := wrong(candidate)) is not None:
            left.append((fix, why))
        else:
            data = candidate
            done.append(fix)
    return Applied(data=data, done=tuple(reversed(done)), left=tuple(reversed(left)))


def widens(before: Checked, after: Checked, world: World) -> str | None:
    """Why a changed file may give somebody more than it did; None where it is proved that it does not.

    Trust is compared by proof. What a grant gives may only live shorter: options and params are not a fix's to change.
    """
    pairs = [(before.policy, after.policy)]
    if before.next is not None and after.next is not None:
        pairs.append((before.next.policy, after.next.policy))
    elif (before.next is None) is not (after.next is None):
        return "it changes which versions there are"
    for old, new in pairs:
        if (why := _gives_more(old, new) or _trusts_more(old, new, world)) is not None:
            return why
    return None


def _gives_more(old: Policy, new: Policy) -> str | None:
    if old.name != new.name or (old.observed and not new.observed):
        return "it changes which policy this is, or puts it in force"
    for name, grant in new.grants.items():
        was = old.grants.get(name)
        if was is None or grant.ttl > was.ttl:
            return f"the grant {name} would be new, or live longer"
        told = [
            (one.backend, one.options, [(param, to.spec) for param, to in one.restrictions]) for one in (was, grant)
        ]
        if told[0] != told[1] or (was.fill is None) is not (grant.fill is None):
            return f"the grant {name} would give something else"
    return None


def _trusts_more(old: Policy, new: Policy, world: World) -> str | None:
    known = {_said(statement) for statement in old.statements}
    fresh = [statement for statement in new.statements if _said(statement) not in known]
    answer = beyond(fresh, old.statements, kinds=world.issuers, urls=world.issuer_urls)
    if answer.verdict is Verdict.NONE:
        return None
    return "it would let in jobs that are refused now" if answer.verdict is Verdict.SOME else "it may let other jobs in"


def _said(statement: Statement) -> str:
    conditions = [(bound.key, bound.condition.spec) for bound in statement.conditions]
    when = statement.when.source if statement.when else None
    return repr((statement.issuer, conditions, when, sorted(statement.allow_triggers)))


def difference(before: bytes, after: bytes, name: str) -> Iterator[str]:
    """What changed, as a unified diff, each line fit to be shown."""
    old, new = (data.decode("utf-8", "replace").splitlines() for data in (before, after))
    yield from (clean(line) for line in difflib.unified_diff(old, new, name, name, lineterm=""))


def _replaced(data: bytes, fix: Fix) -> bytes | None:
    lines = data.decode("utf-8").splitlines(keepends=True)  # where YAML's lines end, in a file that loads
    if not 1 <= fix.first <= fix.last <= len(lines) or any(len(line.splitlines()) > 1 for line in fix.lines):
        return None
    last = lines[fix.last - 1]
    first = lines[fix.first - 1]
    ending = _ending(first) or next((found for line in lines if (found := _ending(line))), "\n")
    mark = "\ufeff" if fix.first == 1 and first.startswith("\ufeff") else ""
    made = [line + ending for line in fix.lines]
    if made:
        made[0] = mark + made[0].removeprefix("\ufeff")
        made[-1] = made[-1].removesuffix(ending) + _ending(last)
    elif mark:
        made = [mark]
    return "".join([*lines[: fix.first - 1], *made, *lines[fix.last :]]).encode("utf-8")


def _ending(line: str) -> str:
    return line[len(line.splitlines()[0]) :] if line else ""
