"""What goes wrong while a job is answered: targets that say no, or nothing; answers that are lost; policies that change meanwhile.

The whole broker in this process, wired by its own composition root over HTTP, a real issuer and a real ledger. Only the
target is a fake: it knows what lives in it and until when. Windows are held open at the ledger's commits.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest
from aiohttp.test_utils import TestClient, TestServer

from broker.app import Broker, broker
from broker.backends import BACKENDS
from broker.backends.seam import Backend, BackendError, Gone, Handle, Minted, NoParams, Order, Record
from broker.errors import LedgerUnwritable
from broker.exchange import floods
from broker.ledger.fsck import verify_database
from broker.ledger.records import Entry, EventQuery, LeaseRecord
from broker.model import LeaseState
from broker.settings import load_settings
from tests.e2e.broker_process import JOB, POLICY
from tests.fakes.issuer import FakeIssuer

Got = TypeVar("Got")
SOON = 5.0
URL = "http://127.0.0.1:8400"
NONCE = "n" * 24
GRANT = "payments/db"
LINE = "  db: {backend: target, ttl: 10m}"
ONE_MORE = "  db2: {backend: target, ttl: 5m}"


class Target(Backend):
    """Holds what was made and until when. A mint waits at `gate` after `entered`; what is raised says which step fails."""

    kind, trace, Settings, Options, revocation, renewable = "target", True, NoParams, NoParams, "dropped", True
    shortest = timedelta(seconds=1)

    def __init__(self, *_: Any) -> None:
        self.alive: dict[str, datetime] = {}
        self.entered, self.gate = asyncio.Event(), asyncio.Event()
        self.gate.set()
        self.planning: Exception | None = None
        self.minting: Exception | None = None
        self.renewing: tuple[Exception, bool] | None = None  # and whether it was done before the answer was lost

    def plan(self, order: Order) -> Handle:
        if self.planning is not None:
            raise self.planning
        return {"lease": order.lease}

    async def mint(self, order: Order, record: Record) -> Minted:
        self.entered.set()
        await self.gate.wait()
        if self.minting is not None:
            raise self.minting
        self.alive[order.lease] = order.expires_at
        return Minted(
            type="target", values={}, secrets=(), env={}, expires_at=order.expires_at, fingerprinted=order.lease,
            handle={"lease": order.lease}, renewable=True,
        )  # fmt: skip

    async def renew(self, handle: Handle, until: datetime) -> datetime:
        error, done = self.renewing or (None, True)
        if done:
            self.alive[handle["lease"]] = until
        if error is not None:
            raise error
        return until

    async def revoke(self, handle: Handle) -> Gone:
        self.alive.pop(handle["lease"], None)
        return Gone()


class Commits:
    """Stands before `Ledger.write`: entries that `full` holds for fail, and the one that `stops` holds for waits."""

    def __init__(self, ledger: Any) -> None:
        self._write = ledger.write
        self.full: Callable[[Entry], bool] = lambda _: False
        self.stops: Callable[[Entry], bool] = lambda _: False
        self.stopped, self.go_on = asyncio.Event(), asyncio.Event()
        ledger.write = self

    async def __call__(self, entry: Entry) -> None:
        if self.full(entry):
            raise LedgerUnwritable("full")
        if self.stops(entry):
            self.stopped.set()
            await self.go_on.wait()
        await self._write(entry)


@dataclass
class Answer:
    status: int
    body: dict[str, Any]
    headers: Any

    @property
    def lease(self) -> str:
        lease: str = self.body["credentials"][0]["lease"]
        return lease

    @property
    def secret(self) -> str:
        secret: str = self.body["session"]["secret"]
        return secret


@dataclass
class Scene:
    broker: Broker
    commits: Commits
    target: Target
    http: TestClient[Any, Any]
    issuer: FakeIssuer
    policy: Path

    def token(self, **claims: Any) -> str:
        return self.issuer.sign({**JOB, "aud": URL, "jti": str(uuid.uuid4()), **claims})

    async def post(self, path: str, bearer: str, **body: Any) -> Answer:
        async with self.http.post(path, json=body, headers={"Authorization": f"Bearer {bearer}"}) as answer:
            return Answer(answer.status, await answer.json(content_type=None), answer.headers)

    async def ask(self, bearer: str, *, ttl: str | None = None, **body: Any) -> Answer:
        grant = {"grant": GRANT} | ({"ttl": ttl} if ttl else {})
        return await self.post("/v1/credentials", bearer, grants=[grant], **body)

    async def lease(self, name: str) -> LeaseRecord:
        lease = await self.broker.ledger.lease(name)
        assert lease is not None
        return lease

    async def event(self, name: str) -> dict[str, Any]:
        event = await self.broker.ledger.event(name)
        assert event is not None
        return event.body

    async def active(self, session: str) -> set[str]:
        return {one.id for one in await self.broker.ledger.leases_of(session) if one.state is LeaseState.ACTIVE}

    def prove(self) -> Self:
        report = verify_database(self.broker.settings.database, self.broker.ledger.key)
        assert report.ok, [str(problem) for problem in report.problems]
        return self


def written(*lines: str) -> str:
    names = [line.split(":")[0].strip() for line in lines]
    return POLICY.format(grants="\n".join(lines), names=", ".join(names))


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setitem(BACKENDS, "target", Target)  # type: ignore[arg-type]  # a dict, announced as a Mapping
    policy = tmp_path / "policies" / "payments.yaml"
    policy.parent.mkdir()
    policy.write_text(written(LINE))
    async with FakeIssuer() as issuer:
        (tmp_path / "broker.yaml").write_text(
            f"url: {URL}\nissuers: {{ci: {{kind: github, url: '{issuer.url}'}}}}\nbackends: {{target: {{kind: target}}}}\n"
        )
        async with broker(load_settings(tmp_path / "broker.yaml")) as opened:
            target, commits = opened.backends["target"], Commits(opened.ledger)
            assert isinstance(target, Target)
            async with TestClient(TestServer(opened.application())) as http:
                yield Scene(opened, commits, target, http, issuer, policy)
                commits.go_on.set()  # whatever a test that failed left waiting
                target.gate.set()


async def soon(awaited: Awaitable[Got]) -> Got:
    async with asyncio.timeout(SOON):
        return await awaited


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while not condition():
            await asyncio.sleep(0.01)


# A renewal whose outcome nobody knows ---------------------------------------------------------------------------------


@pytest.mark.parametrize("done", [True, False], ids=["done, and unheard", "never arrived"])
@pytest.mark.parametrize(
    "error",
    [BackendError("no answer"), TimeoutError(), ConnectionResetError(), RuntimeError("a surprise")],
    ids=lambda error: type(error).__name__,
)
async def test_a_renewal_without_a_clear_answer_says_too_much_rather_than_too_little(
    scene: Scene, error: Exception, done: bool
) -> None:
    opened = await scene.ask(scene.token(), ttl="1m")
    before = (await scene.lease(opened.lease)).expires_at
    scene.target.renewing = error, done
    answer = await scene.post(f"/v1/leases/{opened.lease}/renew", opened.secret, ttl="10m")
    assert answer.status == 502
    lease = await scene.lease(opened.lease)
    assert lease.state is LeaseState.ACTIVE
    assert lease.expires_at >= before + timedelta(seconds=500)
    assert lease.expires_at >= scene.target.alive[lease.id] - timedelta(milliseconds=1)  # the ledger's resolution
    scene.prove()


async def test_a_renewal_that_was_refused_leaves_the_old_end(scene: Scene) -> None:
    opened = await scene.ask(scene.token(), ttl="1m")
    before = await scene.lease(opened.lease)
    scene.target.renewing = BackendError("no", retry=False), False
    answer = await scene.post(f"/v1/leases/{opened.lease}/renew", opened.secret, ttl="10m")
    assert answer.status == 502
    assert await scene.lease(opened.lease) == before
    scene.prove()


# A target that says no ------------------------------------------------------------------------------------------------


async def test_a_plan_that_is_impossible_is_a_case_and_costs_the_job_nothing(scene: Scene) -> None:
    scene.target.planning, token = BackendError("the role name would be too long", retry=False), scene.token()
    answer = await scene.ask(token)
    assert (answer.status, answer.body["type"]) == (502, "urn:jobkey:problem:backend-failed"), answer.body
    event = await scene.event(answer.body["case"])
    assert (event["type"], event["code"]) == ("refused", "BackendFailed")
    assert (event["reason"], event["grants"]) == ("the role name would be too long", [GRANT])
    assert "role name" not in str(answer.body)
    assert not scene.target.entered.is_set()
    scene.target.planning = None
    assert (await scene.ask(token)).status == 200  # it was not spent
    scene.prove()


async def test_a_plan_that_is_impossible_later_leaves_the_session_as_it_was(scene: Scene) -> None:
    opened = await scene.ask(scene.token())
    scene.target.planning = BackendError("the role name would be too long", retry=False)
    answer = await scene.ask(opened.secret)
    assert answer.status == 502
    assert (await scene.event(answer.body["case"]))["reason"] == "the role name would be too long"
    assert await scene.active(opened.body["session"]["id"]) == {opened.lease}
    scene.prove()


@pytest.mark.parametrize("step", ["planning", "minting"])
@pytest.mark.parametrize("again", [True, False], ids=["may help", "is final"])
async def test_the_client_is_told_whether_to_try_again(scene: Scene, step: str, again: bool) -> None:
    setattr(scene.target, step, BackendError("no", retry=again))
    answer = await scene.ask(scene.token(), nonce=NONCE)
    assert answer.status == 502
    assert (await scene.event(answer.body["case"]))["case"] == answer.body["case"]
    if again:
        assert "retryable" not in answer.body
        assert int(answer.headers["Retry-After"]) >= 1
    else:
        assert answer.body["retryable"] is False
        assert "Retry-After" not in answer.headers
    scene.prove()


@pytest.mark.parametrize("step", ["planning", "minting"])
async def test_a_surprise_in_a_backend_may_be_tried_again(scene: Scene, step: str) -> None:
    setattr(scene.target, step, RuntimeError("secret-in-a-message"))
    answer = await scene.ask(scene.token(), nonce=NONCE)
    assert (answer.status, "retryable" in answer.body) == (502, False)
    assert "Retry-After" in answer.headers
    assert "secret-in-a-message" not in str(answer.body) + str(await scene.event(answer.body["case"]))


# A retry with the same nonce, and what the earlier request still brings -----------------------------------------------


def takes_over(entry: Entry) -> bool:
    """The commit by which a retry gives the session its own secret."""
    return any(change.secret_hash is not None for change in entry.sessions)


async def only_the_retry_lives(scene: Scene, retry: Answer, earlier: list[str]) -> None:
    assert retry.status == 200, retry.body
    session = retry.body["session"]["id"]
    assert await scene.active(session) == {retry.lease}
    assert set(scene.target.alive) == {retry.lease}
    states = {one.id: one.state for one in await scene.broker.ledger.leases_of(session)}
    assert {states[lease] for lease in earlier} == {LeaseState.REVOKED}
    assert (await scene.ask(retry.secret)).status == 200
    scene.prove()


async def test_a_lease_that_was_pending_when_the_retry_looked_does_not_outlive_it(scene: Scene) -> None:
    token = scene.token()
    scene.target.gate.clear()
    scene.commits.stops = takes_over
    earlier = asyncio.create_task(scene.ask(token, nonce=NONCE))
    await soon(scene.target.entered.wait())
    retry = asyncio.create_task(scene.ask(token, nonce=NONCE))
    await soon(scene.commits.stopped.wait())  # it saw a pending lease, and has not yet said that it must go
    scene.target.gate.set()
    lost = await soon(earlier)
    assert lost.status == 200
    assert await scene.active(lost.body["session"]["id"]) == {lost.lease}
    scene.commits.go_on.set()
    await only_the_retry_lives(scene, await soon(retry), [lost.lease])
    assert (await scene.ask(lost.secret)).status == 401


@pytest.mark.parametrize("delivered", [True, False], ids=["active by the commit", "pending at the commit"])
async def test_a_lease_that_the_retry_did_not_see_does_not_outlive_it(scene: Scene, delivered: bool) -> None:
    token = scene.token()
    opened = await scene.ask(token, nonce=NONCE)
    scene.commits.stops = takes_over
    retry = asyncio.create_task(scene.ask(token, nonce=NONCE))
    await soon(scene.commits.stopped.wait())
    scene.target.entered.clear()
    scene.target.gate.clear()
    late = asyncio.create_task(scene.ask(opened.secret))
    await soon(scene.target.entered.wait())  # with the old secret, which is still good
    if delivered:
        scene.target.gate.set()
        await soon(late)
    (unseen,) = {one.id for one in await scene.broker.ledger.leases_of(opened.body["session"]["id"])} - {opened.lease}
    scene.commits.go_on.set()
    if not delivered:
        async with asyncio.timeout(SOON):
            while (await scene.lease(unseen)).state is LeaseState.PENDING:
                await asyncio.sleep(0.01)
        scene.target.gate.set()
    answer = await soon(late)
    assert answer.status == (200 if delivered else 401)
    await only_the_retry_lives(scene, await soon(retry), [opened.lease, unseen])


# Policies that change meanwhile ---------------------------------------------------------------------------------------


async def test_the_event_names_the_policies_that_decided(scene: Scene) -> None:
    old = scene.broker.policies.current
    scene.target.gate.clear()
    asked = asyncio.create_task(scene.ask(scene.token()))
    await soon(scene.target.entered.wait())
    scene.policy.write_text(written(LINE, ONE_MORE))
    scene.broker.policies.reload_soon()
    await until(lambda: scene.broker.policies.current.version != old.version)
    scene.target.gate.set()
    answer = await soon(asked)
    assert answer.status == 200
    event = await scene.event(answer.body["issuance"])
    assert event["policy_set"] == old.version
    assert (await scene.lease(answer.lease)).policy_version == old.policies["payments"].version
    later = await scene.ask(scene.token())
    assert (await scene.event(later.body["issuance"]))["policy_set"] == scene.broker.policies.current.version
    scene.prove()


# Strangers, counted while the ledger is full --------------------------------------------------------------------------


async def test_a_window_that_had_to_close_for_want_of_room_waits_for_the_ledger(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floods, "MOST_OWNERS", 1)
    stranger = {"repository": "evil/x", "repository_id": "1", "repository_owner": "evil"}
    first = await scene.ask(scene.token(**stranger, repository_owner_id="1"))
    scene.commits.full = lambda entry: any(event.type == "refused-many" for event in entry.events)
    second = await scene.ask(scene.token(**stranger, repository_owner_id="2"))
    assert (first.status, second.status) == (403, 503)
    scene.commits.full = lambda _: False
    scene.broker.keeper.expect(datetime.now(UTC))
    async with asyncio.timeout(SOON):
        while not (found := await scene.broker.ledger.events(EventQuery(type="refused-many"))):
            await asyncio.sleep(0.02)
    assert [(one.body["case"], one.body["count"]) for one in found] == [(first.body["case"], 1)]
    scene.prove()
