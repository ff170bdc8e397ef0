"""The main job over HTTP: a token becomes credentials, a session goes on, leases end, the ledger tells it all."""

import base64
import json
from typing import Any

import aiohttp
import jwt
import pytest

from tests.e2e.broker_process import JOB, BrokerProcess, ask
from tests.e2e.issuer_process import IssuerProcess

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPuOjt9gVyJ8rV4UbnQ9uVLmTt8P8f3mRe2SLPbv9m9T job"


def secret_of(body: dict[str, Any]) -> str:
    secret = body["session"]["secret"]
    assert isinstance(secret, str)
    return secret


async def test_a_downstream_service_verifies_the_token_with_only_the_discovery_document(
    http: aiohttp.ClientSession, broker: BrokerProcess, push: str
) -> None:
    status, body = await ask(http, broker, push, "payments/deploy")
    assert status == 200, body
    token = body["credentials"][0]["values"]["token"]
    async with http.get(broker.url + "/.well-known/openid-configuration") as answer:
        discovery = await answer.json()
    async with http.get(discovery["jwks_uri"]) as answer:
        keys = jwt.PyJWKSet.from_dict(await answer.json(content_type=None))
    key = next(key for key in keys.keys if key.key_id == jwt.get_unverified_header(token)["kid"])
    claims = jwt.decode(
        token,
        key,
        discovery["id_token_signing_alg_values_supported"],
        audience="https://deploy.acme.example",
        issuer=discovery["issuer"],
    )
    assert (claims["project"], claims["ref"]) == ("acme/payments", "refs/heads/main")
    assert claims["jobkey"]["issuance"] == body["issuance"]


async def test_several_grants_come_together_or_not_at_all(
    http: aiohttp.ClientSession, broker: BrokerProcess, ci: IssuerProcess, push: str
) -> None:
    ssh = {"grant": "payments/ssh", "params": {"public_key": KEY}}
    status, body = await ask(http, broker, push, "payments/deploy", ssh)
    assert (status, [one["type"] for one in body["credentials"]]) == (200, ["jwt", "ssh-certificate"])
    fresh = ci.sign(JOB, audience=broker.url)
    status, body = await ask(http, broker, fresh, "payments/deploy", "payments/elsewhere")
    assert (status, body["status"]) == (403, 403)
    assert (await ask(http, broker, fresh, "payments/deploy"))[0] == 200  # a refusal does not spend the token


async def test_what_a_client_can_make_is_named_and_the_token_stays_good(
    http: aiohttp.ClientSession, broker: BrokerProcess, push: str
) -> None:
    status, body = await ask(http, broker, push, "payments/ssh")
    assert (status, body["missing"]) == (
        422,
        [{"grant": "payments/ssh", "param": "public_key", "make": "ssh-public-key"}],
    )
    status, _ = await ask(http, broker, push, {"grant": "payments/ssh", "params": {"public_key": KEY}})
    assert status == 200


async def test_params_that_try_to_leave_their_quotes_are_told_and_recorded(
    http: aiohttp.ClientSession, broker: BrokerProcess, ci: IssuerProcess
) -> None:
    for params in ({"public_key": KEY + "\ncommand=x"}, {"public_key": 7}, {"public_key": KEY, "principals": ["root"]}):
        token = ci.sign(JOB, audience=broker.url)
        status, body = await ask(http, broker, token, {"grant": "payments/ssh", "params": params})
        assert (status, "missing" in body) == (422, False)
        (event,) = [event for event in broker.events(type="refused") if event["case"] == body["case"]]
        assert event["code"] == "params"
        assert "command=x" not in json.dumps(body) + json.dumps(event)


async def test_a_session_goes_on_and_ends(http: aiohttp.ClientSession, broker: BrokerProcess, push: str) -> None:
    _, opened = await ask(http, broker, push, "payments/deploy")
    secret = secret_of(opened)
    status, more = await ask(http, broker, secret, {"grant": "payments/deploy", "ttl": "1m"})
    assert (status, "secret" in more["session"], more["session"]["id"]) == (200, False, opened["session"]["id"])
    headers = {"Authorization": f"Bearer {secret}"}
    lease = more["credentials"][0]["lease"]
    async with http.delete(f"{broker.url}/v1/leases/{lease}", headers=headers) as answer:
        ended = await answer.json()
    assert (ended["lease"], ended["state"]) == (lease, "irrevocable")
    assert "expires" in ended["reason"]
    async with http.delete(broker.url + "/v1/session", headers=headers) as answer:
        body = await answer.json()
    assert {one["lease"] for one in body["revoked"]} == {lease, opened["credentials"][0]["lease"]}
    assert (await ask(http, broker, secret, "payments/deploy"))[0] == 401


async def test_another_sessions_lease_is_not_found(
    http: aiohttp.ClientSession, broker: BrokerProcess, ci: IssuerProcess, push: str
) -> None:
    _, mine = await ask(http, broker, push, "payments/deploy")
    _, other = await ask(http, broker, ci.sign(JOB, audience=broker.url), "payments/deploy")
    headers = {"Authorization": f"Bearer {secret_of(other)}"}
    for call in (http.delete, lambda url, **more: http.post(url + "/renew", **more)):
        async with call(f"{broker.url}/v1/leases/{mine['credentials'][0]['lease']}", headers=headers) as answer:
            assert answer.status == 404
    async with http.post(f"{broker.url}/v1/leases/{other['credentials'][0]['lease']}/renew", headers=headers) as answer:
        assert (answer.status, answer.content_type) == (
            422,
            "application/problem+json",
        )  # a signature has no longer life


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        pytest.param({"event_name": "pull_request_target"}, "allow_triggers", id="an unsafe trigger"),
        pytest.param({"repository_id": "666"}, "job.project_id", id="a name registered again"),
        pytest.param({"ref": "refs/heads/main-evil"}, "job.ref", id="a longer ref"),
        pytest.param({"ref_protected": "false"}, "job.ref_protected", id="no protection"),
        pytest.param({"environment": None}, "job.environment", id="no environment"),
    ],
)
async def test_refusals_say_the_same_and_their_case_leads_to_the_reason(
    http: aiohttp.ClientSession, broker: BrokerProcess, ci: IssuerProcess, changed: dict[str, Any], told: str
) -> None:
    claims = {name: value for name, value in {**JOB, **changed}.items() if value is not None}
    status, body = await ask(http, broker, ci.sign(claims, audience=broker.url), "payments/deploy")
    case = body.pop("case")
    assert (status, body) == (403, {
        "type": "urn:jobkey:problem:grant-refused",
        "title": "No policy grants this",
        "status": 403,
        "detail": "no policy grants this job what it asked for; show the case number to the owners of the policy",
    })  # fmt: skip
    shown = broker.command("audit", "show", case, "--data", "data").stdout
    assert told in shown


async def test_a_token_that_comes_again_is_told_and_recorded(
    http: aiohttp.ClientSession, broker: BrokerProcess, push: str
) -> None:
    _, first = await ask(http, broker, push, "payments/deploy", nonce="n" * 22)
    status, body = await ask(http, broker, push, "payments/deploy", nonce="m" * 22)
    assert status == 409
    (event,) = [event for event in broker.events(type="reused") if event["case"] == body["case"]]
    assert event["session"] == first["session"]["id"]


async def test_a_retry_with_the_same_nonce_gets_fresh_leases_in_the_same_session(
    http: aiohttp.ClientSession, broker: BrokerProcess, push: str
) -> None:
    _, lost = await ask(http, broker, push, "payments/deploy", nonce="n" * 22)
    status, again = await ask(http, broker, push, "payments/deploy", nonce="n" * 22)
    assert status == 200
    assert again["session"]["id"] == lost["session"]["id"]
    assert again["credentials"][0]["lease"] != lost["credentials"][0]["lease"]
    assert (await ask(http, broker, secret_of(lost), "payments/deploy"))[0] == 401
    assert (await ask(http, broker, secret_of(again), "payments/deploy"))[0] == 200
    ended = [event for event in broker.events(type="irrevocable") if event["lease"] == lost["credentials"][0]["lease"]]
    assert len(ended) == 1


async def test_a_bound_audience_needs_its_verifier(
    http: aiohttp.ClientSession, broker: BrokerProcess, ci: IssuerProcess
) -> None:
    import hashlib

    verifier = "v" * 43
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    bound = ci.sign(JOB, audience=f"{broker.url}#S256.{challenge}")
    assert (await ask(http, broker, bound, "payments/deploy"))[0] == 422
    status, body = await ask(http, broker, bound, "payments/deploy", verifier="w" * 43)
    assert status == 401
    (event,) = [event for event in broker.events(type="refused") if event["case"] == body["case"]]
    assert event["code"] == "verifier"  # a genuine token in the wrong hands is worth knowing
    assert (await ask(http, broker, bound, "payments/deploy", verifier=verifier))[0] == 200
    plain = ci.sign(JOB, audience=broker.url)
    assert (await ask(http, broker, plain, "payments/deploy", verifier=verifier))[0] == 422


async def test_token_exchange_introspection_and_revocation(
    http: aiohttp.ClientSession, broker: BrokerProcess, push: str
) -> None:
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": push,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "audience": "payments/deploy",
    }
    async with http.post(broker.url + "/token", data=form) as answer:
        body = await answer.json()
        assert (answer.status, body["token_type"], answer.headers["Cache-Control"]) == (200, "N_A", "no-store")
    token = {"token": body["access_token"]}
    async with http.post(broker.url + "/introspect", data=token) as answer:
        assert (await answer.json())["active"] is True
    async with http.post(broker.url + "/revoke", data=token) as answer:
        assert answer.status == 200
    async with http.post(broker.url + "/introspect", data=token) as answer:
        assert await answer.json() == {"active": False}
    async with http.post(broker.url + "/token", data={**form, "audience": "payments/nope"}) as answer:
        assert (answer.status, (await answer.json())["error"]) == (
            400,
            "invalid_target",
        )  # decided before it is claimed
    async with http.post(broker.url + "/revoke", data={"token": "x"}) as answer:
        assert (answer.status, (await answer.json())["error"]) == (400, "unsupported_token_type")


async def test_whoami_spends_nothing(http: aiohttp.ClientSession, broker: BrokerProcess, push: str) -> None:
    for _ in range(2):
        async with http.get(broker.url + "/v1/whoami", headers={"Authorization": f"Bearer {push}"}) as answer:
            body = await answer.json()
            assert (answer.status, body["job"]["project_id"], body["unsafe_triggers"]) == (200, "512345678", [])
    assert (await ask(http, broker, push, "payments/deploy"))[0] == 200


async def test_policies_change_while_the_broker_runs(
    http: aiohttp.ClientSession, broker: BrokerProcess, ci: IssuerProcess, push: str
) -> None:
    from tests.e2e.broker_process import until

    good = broker.policy.read_text()
    _, opened = await ask(http, broker, push, "payments/deploy")

    async def status() -> int:
        return (await ask(http, broker, secret_of(opened), "payments/deploy"))[0]

    async def refused() -> bool:
        return await status() == 403

    async def allowed() -> bool:
        return await status() == 200

    try:
        broker.policy.write_text(good.replace("acme/payments", "acme/other"))
        await until(refused)  # the session is judged by the policy as it is now
        broker.policy.write_text("policy: payments\ntrust: 7\n")
        broker.hang_up()

        async def rejected() -> bool:
            return bool(broker.events(type="policy-rejected"))

        await until(rejected)
        assert await refused()  # the last good set stays
    finally:
        broker.policy.write_text(good)
    await until(allowed)


async def test_the_ledger_verifies_and_holds_no_credential(
    http: aiohttp.ClientSession, broker: BrokerProcess, push: str
) -> None:
    _, body = await ask(http, broker, push, "payments/deploy")
    assert broker.verify().returncode == 0, broker.verify().stdout
    secrets = [push, secret_of(body), body["credentials"][0]["values"]["token"]]
    parts = [push.split(".")[2], secret_of(body)[-43:], body["credentials"][0]["values"]["token"].split(".")[2]]
    whole = b"".join(path.read_bytes() for path in (broker.folder / "data").glob("ledger.db*")) + broker.log.encode()
    for part in (*secrets, *parts):
        assert part.encode() not in whole
    async with http.get(broker.url + "/metrics") as answer:
        metrics = await answer.text()
    for word in (*secrets, "payments", "512345678"):
        assert word not in metrics
    assert json.loads(base64.urlsafe_b64decode(push.split(".")[1] + "=="))["jti"] in whole.decode(errors="replace")
