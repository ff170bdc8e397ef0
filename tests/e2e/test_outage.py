"""An issuer's outage and rotation are not noticed by good jobs, and a flood of unknown keys causes a handful of fetches."""

import asyncio
import base64
import json
import time
import uuid
from collections import Counter
from pathlib import Path

import aiohttp

from tests.e2e.broker_process import JOB, BrokerProcess, ask
from tests.fakes.issuer import FakeIssuer

FLOOD = 10_000


def signed(issuer: FakeIssuer, audience: str) -> str:
    now = int(time.time())
    return issuer.sign(
        {**JOB, "aud": audience, "iat": now, "nbf": now - 600, "exp": now + 300, "jti": str(uuid.uuid4())}
    )


async def test_outage_and_rotation_in_the_middle_of_load(tmp_path: Path) -> None:
    """The outage here lasts as long as the load does; the clock-driven tests of the key cache cover hours."""
    async with FakeIssuer() as issuer, aiohttp.ClientSession() as http:
        broker = await asyncio.to_thread(BrokerProcess(tmp_path, issuer=issuer.url).start)
        try:
            statuses: Counter[int] = Counter()

            async def load(count: int) -> None:
                for _ in range(count):
                    statuses[(await ask(http, broker, signed(issuer, broker.url), "payments/deploy"))[0]] += 1

            await load(20)
            issuer.rotate(keep=1)  # the new key signs at once, the old one is still published
            await asyncio.gather(load(50), load(50))
            issuer.mode = "down"
            await asyncio.gather(load(100), load(100))
            issuer.mode = "good"
            await load(20)
            assert statuses == {200: 340}
        finally:
            await asyncio.to_thread(broker.stop)


async def test_ten_thousand_unknown_keys_cause_a_handful_of_fetches(tmp_path: Path) -> None:
    async with FakeIssuer() as issuer, aiohttp.ClientSession() as http:
        broker = await asyncio.to_thread(BrokerProcess(tmp_path, issuer=issuer.url).start)
        try:
            good = signed(issuer, broker.url)
            assert (await ask(http, broker, good, "payments/deploy"))[0] == 200
            before = issuer.fetches["jwks"]
            _, payload, signature = signed(issuer, broker.url).split(".")
            statuses: Counter[int] = Counter()

            async def flood(part: range) -> None:
                for number in part:
                    header = issuer_header(f"unknown-{number}")
                    statuses[(await ask(http, broker, f"{header}.{payload}.{signature}", "payments/deploy"))[0]] += 1

            await asyncio.gather(*(flood(range(start, FLOOD, 32)) for start in range(32)))
            assert set(statuses) <= {
                401,
                503,
            }  # 503 while the keys were asked for a moment ago: a new key may be on its way
            assert sum(statuses.values()) == FLOOD
            assert issuer.fetches["jwks"] - before <= 5
            assert (await ask(http, broker, signed(issuer, broker.url), "payments/deploy"))[0] == 200
        finally:
            await asyncio.to_thread(broker.stop)


def issuer_header(kid: str) -> str:
    text = json.dumps({"alg": "RS256", "kid": kid, "typ": "JWT"}).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()
