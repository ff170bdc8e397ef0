"""Events of the ledger in words: one line for a list, a few lines for a story. Text only; nothing here prints.

Whatever comes from a claim or a backend loses its control characters: a branch name must not move the cursor.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from broker.ledger.records import LeaseRecord, StoredEvent
from broker.model import rfc3339

WIDEST: Final = 48  # of a column that others follow; a longer value moves only its own line
_LABEL: Final = 10
_JOB: Final = (
    ("project", "{}"), ("project_id", "(id {})"), ("ref", "at {}"), ("environment", "for {}"), ("trigger", "by {}"),
    ("actor", "of {}"),
)  # fmt: skip
_IDS: Final = ("issuance", "session", "lease", "case", "policy_set")
# Proof material, and what the lines above say in words. `audit show --json` has it all.
_UNTOLD: Final = frozenset({
    "id", "time", "type", "job", "claims", "issuer", "kind", "grants", "code", "reason", "why", "problems", "leases",
    "policies", "sample", "near", "cases", "handle_sha256", "session_sha256", "session_keep_until", *_IDS,
})  # fmt: skip


def clean(text: str) -> str:
    """One line without control, format or separator characters."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def lines(rows: Sequence[Sequence[str]], *, width: int | None) -> Iterator[str]:
    """Columns under one another, `-` for an empty cell, the last one ragged and cut at `width` where one is given."""
    filled = [[cell or "-" for cell in row] for row in rows]
    widths = [
        max((len(cell) for cell in column if len(cell) <= WIDEST), default=1) for column in zip(*filled, strict=True)
    ]
    for row in filled:
        before = "  ".join(cell.ljust(size) for cell, size in zip(row[:-1], widths, strict=False))
        line = f"{before}  {row[-1]}"
        if width is not None and len(line) > width > len(before):
            line = line[: width - 1] + "\N{HORIZONTAL ELLIPSIS}"
        yield line


def detail(body: Mapping[str, Any]) -> str:
    """What a reader of a list wants to know of each type, in a few words."""
    match body["type"]:
        case "expired":
            return f"{len(body.get('leases', ()))} leases"
        case "issued":
            return "; ".join(f"{lease['kind']} until {lease['expires_at']}" for lease in body["leases"])
        case "refused-many":
            return f"{body['count']} refusals since {body['from']}"
        case "policy-changed":
            changed = [*body["policies"], *(f"{name} (removed)" for name in body.get("removed", ()))]
            return ", ".join(changed)
        case "started":
            return f"version {body['version']} at {body['url']}"
        case "key-made":
            return f"{body['role']} {body['algorithm']} {body['kid']}"
        case "renewed" | "renewing":
            return f"until {body.get('expires_at') or body.get('until')}"
        case _:
            pass
    for name in ("code", "why", "problems", "reason", "case", "lease"):
        if isinstance(value := body.get(name), str):
            return value.split("\n")[0][:120]
    return ""


def story_lines(events: Sequence[StoredEvent], leases: Sequence[LeaseRecord]) -> Iterator[str]:
    """Each event as a paragraph, oldest first, then what is true of each lease now."""
    for number, event in enumerate(events):
        if number:
            yield ""
        yield f"{event.type}  {rfc3339(event.time)}"
        for label, text in _rows(event.body):
            yield f"  {label.ljust(_LABEL)}{clean(text)}".rstrip()
        yield f"  {'record'.ljust(_LABEL)}{event.id}, leaf {event.seq}"
    if leases:
        if events:
            yield ""
        yield "now"
        for lease in leases:
            why = f": {clean(lease.reason)}" if lease.reason else ""
            yield f"  {lease.id}  {clean(lease.grant)}  {lease.state}, ends {rfc3339(lease.expires_at)}{why}"


def _rows(body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    job = body.get("job") or {}
    if job:
        yield "who", " ".join(form.format(job[name]) for name, form in _JOB if name in job)
    if "issuer" in body:
        yield "issuer", f"{body['issuer']} ({body['kind']})" if "kind" in body else str(body["issuer"])
    if body.get("grants"):
        yield "asked" if job else "grant", " ".join(map(str, body["grants"]))
    for name in ("code", "reason", "why", "problems"):
        yield from _several("why" if name == "reason" else name, str(body[name]).split("\n") if name in body else ())
    yield from _several("gave" if body["type"] == "issued" else "leases", _leases(body.get("leases", ())))
    if isinstance(policies := body.get("policies"), Mapping):
        yield from _several("policies", [f"{name} {version}" for name, version in policies.items()])
    if isinstance(sample := body.get("sample"), Mapping):
        sampled = sample.get("job") or {}
        yield "sample", " ".join(form.format(sampled[name]) for name, form in _JOB if name in sampled)
    for name in _IDS:
        if isinstance(body.get(name), str):
            yield name.replace("policy_set", "set"), body[name]
    for name, value in body.items():
        if name not in _UNTOLD and (name, value) != ("attempts", 0):
            yield name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    if job.get("run_url"):
        yield "open", str(job["run_url"])


def _leases(leases: Sequence[Any]) -> Iterator[str]:
    for lease in leases:
        if isinstance(lease, str):
            yield lease
            continue
        until = f" until {lease['expires_at']}" if "expires_at" in lease else ""
        by = f", by trust[{lease['statement']}]" if "statement" in lease else ""
        yield f"{lease['grant']} from {lease['backend']} ({lease['kind']}){until}{by}"
        yield f"  {lease['lease']}"
        for name, fact in (lease.get("facts") or {}).items():
            yield f"  {name}: {fact}"


def _several(label: str, texts: Sequence[str] | Iterator[str]) -> Iterator[tuple[str, str]]:
    """The label once, then the lines under one another."""
    for number, text in enumerate(texts):
        yield ("" if number else label), text
