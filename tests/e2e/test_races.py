"""One subject token yields one session, however many race for it (promise 2)."""

import asyncio
from collections import Counter

import aiohttp

from tests.e2e.broker_process import JOB, BrokerProcess, ask
from tests.e2e.issuer_process import IssuerProcess

RACERS = 200


async def test_two_hundred_redemptions_of_one_token_open_one_session(
    http: aiohttp.ClientSession, broker: BrokerProcess, push: str
) -> None:
    answers = await asyncio.gather(
        *(ask(http, broker, push, "payments/deploy", nonce=f"{n:022}") for n in range(RACERS))
    )
    assert Counter(status for status, _ in answers) == {200: 1, 409: RACERS - 1}
    (session,) = {body["session"]["id"] for status, body in answers if status == 200}
    reused = [event for event in broker.events(type="reused") if event["session"] == session]
    assert len(reused) == RACERS - 1
    assert broker.verify().returncode == 0


async def test_retries_with_one_nonce_that_race_share_one_session(
    http: aiohttp.ClientSession, broker: BrokerProcess, push: str
) -> None:
    answers = await asyncio.gather(*(ask(http, broker, push, "payments/deploy", nonce="n" * 22) for _ in range(20)))
    good = [body for status, body in answers if status == 200]
    assert {body["session"]["id"] for body in good} == {good[0]["session"]["id"]}
    assert {status for status, _ in answers} <= {200, 401, 503}  # 401: overtaken by a later retry while it was made
    secrets = [body["session"]["secret"] for body in good]
    alive = [secret for secret in secrets if (await ask(http, broker, secret, "payments/deploy"))[0] == 200]
    assert len(alive) == 1  # the last retry's


async def test_ending_a_session_while_it_mints_leaves_nothing_alive(
    http: aiohttp.ClientSession, broker: BrokerProcess, ci: IssuerProcess
) -> None:
    for _ in range(10):
        _, opened = await ask(http, broker, ci.sign(JOB, audience=broker.url), "payments/deploy")
        secret = opened["session"]["secret"]

        async def end(secret: str = secret) -> int:
            headers = {"Authorization": f"Bearer {secret}"}
            async with http.delete(broker.url + "/v1/session", headers=headers) as answer:
                return answer.status

        results = await asyncio.gather(*(ask(http, broker, secret, "payments/deploy") for _ in range(8)), end())
        assert results[-1] == 200
        minted = {body["credentials"][0]["lease"] for status, body in results[:-1] if status == 200}
        ended = {event["lease"] for event in broker.events(type="irrevocable")} if minted else set()
        assert minted <= ended
