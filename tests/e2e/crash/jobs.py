"""Jobs that do what jobs do, against a broker that dies under them, and remember every answer."""

import asyncio
import contextlib
import random
import time
import uuid
from collections import Counter
from typing import Any

import aiohttp

from tests.e2e.broker_process import JOB, BrokerProcess
from tests.e2e.crash.books import Told
from tests.fakes.issuer import FakeIssuer

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPuOjt9gVyJ8rV4UbnQ9uVLmTt8P8f3mRe2SLPbv9m9T job"
SSH = {"grant": "payments/ssh", "params": {"public_key": KEY}}
ASKED: list[list[Any]] = [
    ["payments/db"],
    ["payments/db", "payments/db2"],
    ["payments/db", "payments/deploy", SSH],
    ["payments/db", "payments/db2", "payments/deploy", SSH],
    ["payments/deploy", SSH],
]


def signed(issuer: FakeIssuer, audience: str) -> str:
    now = int(time.time())
    times = {"iat": now, "nbf": now - 600, "exp": now + 300, "jti": str(uuid.uuid4())}
    return issuer.sign({**JOB, "aud": audience, **times})


class Jobs:
    """`lost` counts requests without an answer, `statuses` the answers."""

    def __init__(self, broker: BrokerProcess, issuer: FakeIssuer, seed: int) -> None:
        self.broker, self.issuer, self.seed = broker, issuer, seed
        self.told = Told()
        self.statuses: Counter[int] = Counter()
        self.lost = 0
        self.over = False

    async def run(self, count: int) -> None:
        """`count` jobs at a time, until `over`."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(60)) as http:
            await asyncio.gather(*(self._one_after_another(http, random.Random(self.seed + n)) for n in range(count)))

    async def _one_after_another(self, http: aiohttp.ClientSession, dice: random.Random) -> None:
        while not self.over:
            await self._job(http, dice)

    async def _job(self, http: aiohttp.ClientSession, dice: random.Random) -> None:
        nonce = "".join(dice.choices("abcdefgh", k=24))
        opened = await self._issue(http, signed(self.issuer, self.broker.url), dice.choice(ASKED), nonce=nonce)
        if opened is None:
            return
        secret, leases = opened["session"]["secret"], list(opened["credentials"])
        for _ in range(dice.randrange(4)):
            if self.over:
                return  # some sessions are never ended: their leases run out
            match dice.randrange(3):
                case 0:
                    more = await self._issue(http, secret, dice.choice(ASKED))
                    leases += more["credentials"] if more else []
                case 1:
                    renewable = [one["lease"] for one in leases if one["renewable"]]
                    if renewable:
                        await self._renew(http, secret, dice.choice(renewable))
                case 2:
                    await self._end(http, secret, f"/v1/leases/{dice.choice(leases)['lease']}")
        if dice.random() < 0.6:
            await self._end(http, secret, "/v1/session")

    async def _issue(self, http: Any, bearer: str, grants: list[Any], **more: str) -> dict[str, Any] | None:
        """An answer is tried for again with the same nonce, as the client does; without one a session asks anew."""
        for _ in range(40):
            status, body = await self._call(http, "POST", "/v1/credentials", bearer, {"grants": grants, **more})
            if status == 200:
                self.told.issued.append(body)
                return body
            if status in {401, 409, 403} or (self.over and status):
                return None
            await asyncio.sleep(0.1)
        return None

    async def _renew(self, http: Any, secret: str, lease: str) -> None:
        status, body = await self._call(http, "POST", f"/v1/leases/{lease}/renew", secret, {})
        if status == 200:
            self.told.renewed.append(body)

    async def _end(self, http: Any, secret: str, path: str) -> None:
        status, body = await self._call(http, "DELETE", path, secret)
        if status == 200:
            self.told.ended += body.get("revoked", [body])

    async def _call(
        self, http: Any, method: str, path: str, bearer: str, body: Any = None
    ) -> tuple[int, dict[str, Any]]:
        """(0, {}) where no answer came: the broker died, or is not there yet."""
        headers = {"Authorization": f"Bearer {bearer}"}
        try:
            async with http.request(method, self.broker.url + path, json=body, headers=headers) as answer:
                found = await answer.json(content_type=None)
                self.statuses[answer.status] += 1
                return answer.status, found
        except (aiohttp.ClientError, TimeoutError, ValueError):
            self.lost += 1
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.05)
            return 0, {}
