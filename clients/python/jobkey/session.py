"""What later steps of the same job need: the session's secret, in a private file keyed by broker and job.

* One file per session: `<key>.json` for the one that steps share, `<key>.<random>.json` for one that `jobkey exec` has
  for itself, there only so that `jobkey revoke` can end it if exec was killed too hard to do it.
* A CI that gives a job one token (GitLab) shares one session among its steps; a lock keeps two parallel steps from
  spending the token twice. The nonce is written down *before* the token is sent, so that a step that died without the
  answer does not lose the session: the broker takes the same token with the same nonce again.
"""

from __future__ import annotations

import json
import os
import time

from jobkey.private import PrivateDir, open_private

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from jobkey.ambient.seam import Ambient
    from jobkey.url import Url

SPARE = 10  # seconds before its end in which a session is not begun with any more


class Store:
    """The sessions of one job with one broker."""

    def __init__(self, env: Mapping[str, str], place: Ambient | None, source: Ambient | None, broker: Url) -> None:
        self._env = env
        self._place = place
        self._dir: PrivateDir | None = None
        self._broker = str(broker)
        job = (place.job(env) if place else "") or (source.job(env) if source else "") or f"uid={os.geteuid()}"
        from hashlib import sha256

        name = place.name if place else source.name if source else ""
        self._key = sha256(f"{self._broker}\0{name}\0{job}".encode("utf-8", "surrogateescape")).hexdigest()[:32]

    @property
    def dir(self) -> PrivateDir:
        if self._dir is None:
            self._dir = open_private(self._env, self._place)
        return self._dir

    def shared(self) -> str:
        return f"{self._key}.json"

    def own(self) -> str:
        return f"{self._key}.{os.urandom(6).hex()}.json"

    def all(self) -> list[str]:
        return [name for name in self.dir.names() if name.startswith(self._key) and name.endswith(".json")]

    def load(self, name: str) -> dict[str, Any]:
        """What was saved, or {}: also for a file that is damaged, since a fresh session is the way out of that."""
        data = self.dir.read(name)
        try:
            document = json.loads(data) if data else {}
        except ValueError:
            return {}
        if not isinstance(document, dict) or document.get("broker") != self._broker:
            return {}
        return document if all(isinstance(value, str) for value in document.values()) else {}

    def live(self, name: str) -> str:
        """The secret of a session that is still good for a while, or ""."""
        document = self.load(name)
        end = instant(document.get("expires_at", ""))
        return document.get("secret", "") if end is not None and end > time.time() + SPARE else ""

    def save(self, name: str, **members: str) -> None:
        fresh = self._dir is None
        self.dir.write(name, json.dumps({"broker": self._broker, **members}).encode("ascii"))
        if fresh:
            self.dir.sweep(time.time())

    def drop(self, name: str) -> None:
        self.dir.remove(name)

    def lock(self) -> int:
        return self.dir.lock(f"{self._key}.lock")


def instant(text: str) -> float | None:
    """Seconds since 1970 of an RFC 3339 UTC time as the broker writes it, `2026-11-21T20:00:00[.123]Z`; None if it is none."""
    whole, _, rest = text.partition("T")
    clock, _, fraction = rest.rstrip("Z").partition(".")
    numbers = [*whole.split("-"), *clock.split(":")]
    if not text.endswith("Z") or len(numbers) != 6 or not all(n.isdigit() and n.isascii() for n in numbers):
        return None
    if fraction and not (fraction.isdigit() and fraction.isascii()):
        return None
    year, month, day, hour, minute, second = (int(n) for n in numbers)
    if not (
        1970 <= year <= 9999 and 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second <= 60
    ):
        return None
    # Days from the civil calendar (Hinnant): importing calendar or datetime costs more than these three lines.
    year -= month <= 2
    era_day = (
        (year % 400) * 365 + (year % 400) // 4 - (year % 400) // 100 + (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    )
    days = (year // 400) * 146097 + era_day - 719468
    return days * 86400.0 + hour * 3600 + minute * 60 + second + float(f"0.{fraction or 0}")
