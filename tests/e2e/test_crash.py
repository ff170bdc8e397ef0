"""Promise 1 against `kill -9`: at random moments under load, and at every single step of an operation.

JOBKEY_CRASH_CYCLES says how many random kills (300 take about ten minutes); JOBKEY_CRASH_SEED repeats a run's dice.
"""

import asyncio
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from broker.model import LeaseState
from tests.e2e.broker_process import SSH_GRANT, TOKEN_GRANT, BrokerProcess
from tests.e2e.crash.at import DIED
from tests.e2e.crash.books import Books, Told, World, agreed, settled
from tests.e2e.crash.jobs import Jobs, signed
from tests.fakes.issuer import FakeIssuer
from tests.servers.openbao import OpenBao, openbao
from tests.servers.postgres import Postgres, postgres

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[OpenBao, Postgres]]:
    with postgres() as server, openbao() as bao:
        yield bao, server


@pytest.fixture
def world(servers: tuple[OpenBao, Postgres]) -> World:
    """A role of its own: what an earlier test's broker left alive belongs to another ledger."""
    return World(*servers, role=f"c{os.urandom(3).hex()}")


def configured(folder: Path, world: World, issuer: str) -> BrokerProcess:
    db = f"{{backend: bao, ttl: 40s, with: {{path: database/creds/{world.role}, policies: [read-{world.role}], public: [username]}}}}"
    grants = {"deploy": TOKEN_GRANT, "ssh": SSH_GRANT, "db": f"  db: {db}", "db2": f"  db2: {db}"}
    backends = {
        "bao": {"kind": "vault", "url": world.bao.url, "auth": {"token": "env:CRASH_TOKEN"}, "token_role": "crash"}
    }
    env = {"CRASH_TOKEN": world.prepare()}
    return BrokerProcess(folder, issuer=issuer, backends=backends, grants=grants, env=env)


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_kills_at_random_moments_lose_nothing(tmp_path: Path, world: World) -> None:
    cycles = int(os.environ.get("JOBKEY_CRASH_CYCLES", "8"))
    seed = int(os.environ.get("JOBKEY_CRASH_SEED", str(random.randrange(1 << 32))))
    print(f"JOBKEY_CRASH_SEED={seed}")
    dice = random.Random(seed)
    async with FakeIssuer() as issuer:
        broker = await asyncio.to_thread(configured, tmp_path, world, issuer.url)
        jobs = Jobs(broker, issuer, seed)
        await asyncio.to_thread(broker.start)
        load = asyncio.create_task(jobs.run(6))
        try:
            for cycle in range(cycles):
                await asyncio.sleep(dice.choice([0.1, 0.6, 2.0]) * dice.random())
                await asyncio.to_thread(broker.kill)
                await asyncio.to_thread(started_again, broker, tmp_path, prove=cycle % 25 == 0)
                assert not load.done(), load
            jobs.over = True
            await load
            books = await asyncio.to_thread(agreed, tmp_path, world, jobs.told)
            books.holds(jobs.told)
            books.all_or_none()
        finally:
            jobs.over = True
            load.cancel()
            await asyncio.to_thread(broker.stop)
        assert broker.verify().returncode == 0, broker.verify().stdout
        assert set(jobs.statuses) <= {200, 401, 404, 409, 502, 503}, jobs.statuses
        assert jobs.told.issued
        ends = {state.value: len(books.of(state)) for state in LeaseState}
        failed = sum(event["type"] == "failed" for event in books.events)
        print(f"cycles={cycles} statuses={dict(jobs.statuses)} unanswered={jobs.lost} issued={len(jobs.told.issued)} "
              f"renewed={len(jobs.told.renewed)} ended={len(jobs.told.ended)} undone={failed} leases={ends} "
              f"events={len(books.events)} roles_lost_by_openbao={books.lost}")  # fmt: skip


def started_again(broker: BrokerProcess, folder: Path, *, prove: bool) -> None:
    """After a kill the ledger proves as it lies there, and once the broker answers nothing of before is pending."""
    before = Books(folder)
    if prove:
        before.prove()
    broker.start(ready=False)
    pending = before.of(LeaseState.PENDING)
    after = Books(folder)
    assert not pending & after.of(LeaseState.PENDING, LeaseState.ACTIVE)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("operation", ["issue", "renew", "end"])
async def test_a_death_at_every_step_is_recovered(tmp_path: Path, world: World, operation: str) -> None:
    async with FakeIssuer() as issuer, aiohttp.ClientSession() as http:
        broker = await asyncio.to_thread(configured, tmp_path, world, issuer.url)
        told, deaths = Told(), 0
        try:
            while True:
                broker.program = ["tests.e2e.crash.at", f"{operation}:{deaths}"]
                await asyncio.to_thread(broker.start, ready=False)
                token = signed(issuer, broker.url)
                answered, opened = await once(http, broker, operation, token, told)
                if answered:
                    break  # no step is left at which it could die
                assert await asyncio.to_thread(broker.wait) == DIED
                deaths += 1
                broker.program = ["tests.e2e.crash.at", f"{operation}:-1"]
                await asyncio.to_thread(broker.start, ready=False)
                recovered(operation, Books(tmp_path))
                await again(http, broker, operation, token, opened=opened, told=told)
                books = await asyncio.to_thread(agreed, tmp_path, world, told)
                books.holds(told)
                books.all_or_none()
                books.prove()
                await asyncio.to_thread(broker.kill)
        finally:
            await asyncio.to_thread(broker.stop)
        print(f"{operation}: died at {deaths} steps")
        assert deaths >= {"issue": 20, "renew": 8, "end": 10}[operation]
        assert broker.verify().returncode == 0


NONCE = "n" * 24


async def call(http: aiohttp.ClientSession, method: str, url: str, bearer: str, body: Any = None) -> tuple[int, Any]:
    try:
        async with http.request(method, url, json=body, headers={"Authorization": f"Bearer {bearer}"}) as answer:
            return answer.status, await answer.json()
    except aiohttp.ClientError:
        return 0, None


async def issued(http: aiohttp.ClientSession, broker: BrokerProcess, token: str, told: Told) -> Any:
    asked = {"grants": ["payments/db", "payments/db2", "payments/deploy"], "nonce": NONCE}
    status, body = await call(http, "POST", broker.url + "/v1/credentials", token, asked)
    if status == 200:
        told.issued.append(body)
        return body
    assert status == 0, body
    return None


async def once(
    http: aiohttp.ClientSession, broker: BrokerProcess, operation: str, token: str, told: Told
) -> tuple[bool, Any]:
    """Whether the operation was answered, and the session that it was about."""
    opened = await issued(http, broker, token, told)
    if operation == "issue":
        return opened is not None, None
    assert opened is not None
    return await changed(http, broker, operation, opened, told) == 200, opened


async def changed(http: aiohttp.ClientSession, broker: BrokerProcess, operation: str, opened: Any, told: Told) -> int:
    """Renew, or end the session; the status, 0 where the broker died."""
    secret = opened["session"]["secret"]
    if operation == "renew":
        lease = opened["credentials"][0]["lease"]
        status, body = await call(http, "POST", f"{broker.url}/v1/leases/{lease}/renew", secret, {"ttl": "38s"})
        told.renewed += [body] if status == 200 else []
    else:
        status, body = await call(http, "DELETE", broker.url + "/v1/session", secret)
        told.ended += body["revoked"] if status == 200 else []
    return status


def recovered(operation: str, books: Books) -> None:
    """As soon as the broker answers again: nothing pending, and of the request that died all or nothing."""
    assert not books.of(LeaseState.PENDING)
    last = max(books.leases.values(), key=lambda lease: lease.id, default=None)
    if last is None or operation != "issue":
        return
    states = {lease.state for lease in books.leases.values() if lease.issuance == last.issuance}
    assert states == {LeaseState.ACTIVE} or LeaseState.ACTIVE not in states, states


async def again(
    http: aiohttp.ClientSession, broker: BrokerProcess, operation: str, token: str, *, opened: Any, told: Told
) -> None:
    """The client tries once more, and has what it wanted: whatever the first try left, nothing of it lives beside that."""
    if operation == "issue":
        opened = await issued(http, broker, token, told)
        assert opened is not None
    else:
        status = await changed(http, broker, operation, opened, told)
        assert status == 200 or (operation == "end" and status == 401), status  # 401: the first try ended the session
    books = await asyncio.to_thread(settled, broker.folder)
    session = opened["session"]["id"]
    live = {one.id for one in books.leases.values() if one.session == session and one.state == LeaseState.ACTIVE}
    assert live == (set() if operation == "end" else {one["lease"] for one in opened["credentials"]})
