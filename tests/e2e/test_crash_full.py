"""A disk without room: nothing is issued, /readyz says why, and all goes on by itself once there is room again.

The limit on file sizes of the running broker stands in for the disk: the next page of the write-ahead log does not fit.
"""

import asyncio
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from broker.model import LeaseState
from tests.e2e.broker_process import BrokerProcess, ask, until
from tests.e2e.crash.books import Told, World, agreed
from tests.e2e.crash.jobs import signed
from tests.e2e.test_crash import configured
from tests.fakes.issuer import FakeIssuer
from tests.servers.openbao import openbao
from tests.servers.postgres import postgres

pytestmark = pytest.mark.server
NONCE = "n" * 24
ONE_PAGE = 4096  # no frame of the write-ahead log fits, while the few lines the broker prints do


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with postgres() as server, openbao() as bao:
        yield World(bao, server, role=f"c{os.urandom(3).hex()}")


def limit(broker: BrokerProcess, size: int) -> None:
    _, hard = resource.prlimit(broker.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, (size, hard))


async def test_no_room_no_credential_and_back_again(http: aiohttp.ClientSession, tmp_path: Path, world: World) -> None:
    async with FakeIssuer() as issuer:
        broker = await asyncio.to_thread(configured, tmp_path, world, issuer.url)
        await asyncio.to_thread(broker.start)
        told = Told()

        async def readiness() -> tuple[int, dict[str, str]]:
            async with http.get(broker.url + "/readyz") as answer:
                return answer.status, (await answer.json()).get("problems", {})

        try:
            status, opened = await ask(http, broker, signed(issuer, broker.url), "payments/db")
            assert status == 200, opened
            told.issued.append(opened)
            secret, lease = opened["session"]["secret"], opened["credentials"][0]["lease"]
            leases = world.leases()
            limit(broker, ONE_PAGE)

            token = signed(issuer, broker.url)
            for bearer, more in ((token, {"nonce": NONCE}), (secret, {})):
                status, body = await ask(http, broker, bearer, "payments/db", "payments/deploy", **more)
                assert (status, "credentials" in body) == (503, False), body
            headers = {"Authorization": f"Bearer {secret}"}
            async with http.post(f"{broker.url}/v1/leases/{lease}/renew", headers=headers) as answer:
                assert answer.status == 503
            async with http.delete(f"{broker.url}/v1/session", headers=headers) as answer:
                assert answer.status == 503
            assert world.leases() == leases  # nothing was made, and nothing taken back that the ledger cannot say

            async def not_ready() -> bool:
                status, problems = await readiness()
                return status == 503 and "ledger" in problems

            async def ready() -> bool:
                return (await readiness())[0] == 200

            await until(not_ready)
            limit(broker, resource.RLIM_INFINITY)
            await until(ready)  # without a request that would have to fail first
            status, body = await ask(http, broker, token, "payments/db", "payments/deploy", nonce=NONCE)
            assert status == 200, body
            told.issued.append(body)
            books = await asyncio.to_thread(agreed, tmp_path, world, told)
            assert books.leases[lease].state is LeaseState.ACTIVE
            books.holds(told)
            books.all_or_none()
            books.prove()
        finally:
            await asyncio.to_thread(broker.stop)
