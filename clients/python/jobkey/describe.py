"""What this job presents, and how the broker names it. The token itself is never shown: its claims are no secret.

The claims are read without checking anything, and said to be: the broker's answer is the checked one.
"""

from __future__ import annotations

import json
import sys
from base64 import urlsafe_b64decode

from jobkey.errors import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jobkey.acquire import Job

FIRST = ("iss", "sub", "aud")


def claims(token: str) -> dict[str, Any]:
    """The payload of a JWT, unverified; {} when it is none."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        document = json.loads(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def show(job: Job, presents: dict[str, Any], named: dict[str, Any] | None, *, as_json: bool) -> None:
    """`named` is None when the broker refused the token; then only what the CI presents is known."""
    if as_json:
        print(
            json.dumps({"ci": job.source.name, "broker": str(job.url), "presents": presents, "named": named}, indent=2)
        )
        sys.stdout.flush()
        return
    rows = [("ci", job.source.name), ("broker", str(job.url))]
    rows += [(name, text(presents[name])) for name in FIRST if name in presents]
    table("This job presents (read from its token, not verified)", rows)
    if named is None:
        return
    identity = named.get("job")
    rows = [("issuer", text(named.get("issuer"))), ("kind", text(named.get("kind")))]
    rows += [(str(name), text(value)) for name, value in (identity if isinstance(identity, dict) else {}).items()]
    unsafe = named.get("unsafe_triggers")
    if isinstance(unsafe, list) and unsafe:
        rows.append(("unsafe", ", ".join(map(text, unsafe)) + ": a policy has to name this in allow_triggers"))
    rows.append(("until", text(named.get("expires_at"))))
    table("The broker names it", rows)


def table(title: str, rows: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    print(title)
    for name, value in rows:
        print(f"  {printable(name):<{width}}  {printable(value)}")
    sys.stdout.flush()


def text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
