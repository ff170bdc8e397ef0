"""The command line before providers and brokers that lie, err or take their time: true servers on loopback, nothing is patched in."""

import asyncio
import json
import os
import stat
import sys
import urllib.parse
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from broker.model import Secret
from broker.people import asking, keeping, loopback
from broker.people import provider as client
from broker.people.device import by_device
from broker.people.keeping import Kept
from broker.people.loopback import by_browser
from broker.people.provider import (
    ProviderSaysNo,
    Resource,
    SignInFailed,
    Tokens,
    own_address,
    provider,
    refreshed,
    resource,
)
from tests.fakes.broker import Authority
from tests.fakes.issuer import FakeIssuer

ROOT = Path(__file__).parents[3]

DANA = {"sub": "17", "aud": "jobkey", "email": "dana@acme.example", "email_verified": True}


class Fake:
    """An OpenID provider and a broker in one server, whose every answer a test can change; FakeIssuer's keys sign."""

    def __init__(self, signer: FakeIssuer) -> None:
        self.signer, self.url = signer, ""
        self.forms: list[dict[str, str]] = []
        self.answers: list[tuple[int, Any]] = []  # of the token endpoint, in order; the last one stays
        self.discovery: dict[str, Any] = {}
        self.metadata: dict[str, Any] | None = None
        self.resource: dict[str, Any] = {}
        self.api: list[tuple[int, Any]] = []
        self.bearers: list[str] = []

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/.well-known/oauth-authorization-server", self._metadata)
        app.router.add_get("/.well-known/oauth-protected-resource", self._resource)
        app.router.add_get("/jwks", self._jwks)
        app.router.add_post("/token", self._token)
        app.router.add_post("/device", self._device)
        app.router.add_get("/v1/me", self._me)
        self._runner = web.AppRunner(app, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self.device: dict[str, Any] = {
            "device_code": "d", "user_code": "WDJB-MJHT", "verification_uri": self.url + "/device", "expires_in": 600,
        }  # fmt: skip

    async def stop(self) -> None:
        await self._runner.cleanup()

    def sign(self, **changed: Any) -> str:
        return self.signer.sign({**DANA, "iss": self.url, **changed})

    async def _discovery(self, _: web.Request) -> web.Response:
        said = {
            "issuer": self.url, "authorization_endpoint": self.url + "/authorize", "token_endpoint": self.url + "/token",
            "jwks_uri": self.url + "/jwks", **self.discovery,
        }  # fmt: skip
        return web.json_response({name: value for name, value in said.items() if value is not None})

    async def _jwks(self, _: web.Request) -> web.Response:
        return web.json_response(self.signer.jwks())

    async def _metadata(self, _: web.Request) -> web.Response:
        return web.json_response(self.metadata or {}, status=200 if self.metadata else 404)

    async def _resource(self, _: web.Request) -> web.Response:
        said = {
            "resource": self.url, "authorization_servers": [self.url], "scopes_supported": ["openid"],
            "jobkey_client_id": "jobkey", "jobkey_token": "id_token", "jobkey_max_age": 3600, **self.resource,
        }  # fmt: skip
        return web.json_response(said)

    async def _token(self, request: web.Request) -> web.Response:
        self.forms.append(dict(await request.post()))  # type: ignore[arg-type]  # no files come
        status, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.json_response(body, status=status)

    async def _device(self, request: web.Request) -> web.Response:
        self.forms.append(dict(await request.post()))  # type: ignore[arg-type]
        return web.json_response(self.device)

    async def _me(self, request: web.Request) -> web.Response:
        self.bearers.append(request.headers["Authorization"])
        status, body = self.api.pop(0) if len(self.api) > 1 else self.api[0]
        return web.json_response(body, status=status)


@pytest.fixture
async def fake() -> AsyncIterator[Fake]:
    async with FakeIssuer() as signer:
        made = Fake(signer)
        await made.start()
        yield made
        await made.stop()


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


def about(fake: Fake, **changed: Any) -> Resource:
    told: dict[str, Any] = {
        "broker": fake.url, "issuer": fake.url, "client_id": "jobkey", "scopes": ("openid", "email"),
        "access_tokens": False, "max_age": timedelta(hours=1),
    }  # fmt: skip
    return Resource(**{**told, **changed})


async def browser(
    fake: Fake, *, come_back: Callable[[dict[str, str]], dict[str, str]], **changed: Any
) -> tuple[Tokens, list[int]]:
    """Sign in; `come_back` makes the answer's parameters of the question's. Gives the statuses of the callback too."""
    statuses: list[int] = []
    tasks = []

    def show(url: str) -> None:
        asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
        fake.asked = asked  # type: ignore[attr-defined]  # for the test to look at

        async def visit() -> None:
            async with aiohttp.ClientSession() as session:
                for params in (come_back(asked), {"state": asked["state"], "error": "cancelled"}):
                    async with session.get(asked["redirect_uri"], params=params) as answer:
                        statuses.append(answer.status)
                    if answer.status == 200:
                        return

        tasks.append(asyncio.create_task(visit()))

    at = await provider(fake.url)
    try:
        return await by_browser(at, about(fake, **changed), show=show), statuses
    finally:
        await asyncio.gather(*tasks)


def good(asked: dict[str, str]) -> dict[str, str]:
    return {"state": asked["state"], "code": "c"}


async def signed(fake: Fake, come_back: Callable[[dict[str, str]], dict[str, str]] = good, **claims: Any) -> Tokens:
    """A browser sign-in whose ID token has the question's nonce unless the claims say otherwise."""

    def back(asked: dict[str, str]) -> dict[str, str]:
        token = fake.sign(**{"nonce": asked["nonce"], **claims})
        fake.answers = [(200, {"id_token": token, "refresh_token": "r", "access_token": "opaque"})]
        return come_back(asked)

    tokens, _ = await browser(fake, come_back=back)
    return tokens


async def test_the_code_flow_proves_that_code_and_question_belong_together(fake: Fake) -> None:
    import hashlib
    from base64 import urlsafe_b64encode

    tokens = await signed(fake)
    asked, form = fake.asked, fake.forms[0]  # type: ignore[attr-defined]
    assert asked["response_type"] == "code"
    assert asked["code_challenge_method"] == "S256"
    assert asked["redirect_uri"].startswith("http://127.0.0.1:")
    digest = hashlib.sha256(form["code_verifier"].encode()).digest()
    assert asked["code_challenge"] == urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert (form["redirect_uri"], form["client_id"], form["grant_type"]) == (
        asked["redirect_uri"], "jobkey", "authorization_code",
    )  # fmt: skip
    assert len({asked["state"], asked["nonce"], form["code_verifier"]}) == 3
    assert tokens.subject == "17"
    assert "id_token" not in repr(tokens)
    assert tokens.token.reveal() not in repr(tokens)


@pytest.mark.parametrize(
    "come_back",
    [
        pytest.param(lambda _: {"state": "x", "code": "c"}, id="another state"),
        pytest.param(lambda _: {"code": "c"}, id="no state"),
        pytest.param(lambda _: {"state": "", "code": "c"}, id="an empty state"),
        pytest.param(lambda _: {"state": "é", "code": "c"}, id="no ASCII"),
    ],
)
async def test_an_answer_that_is_not_ours_is_told_so_and_waited_past(
    fake: Fake, come_back: Callable[[dict[str, str]], dict[str, str]]
) -> None:
    """Any page in the browser can call the loopback address; it must neither sign in nor end the sign-in."""
    fake.answers = [(200, {})]
    with pytest.raises(ProviderSaysNo, match="cancelled"):  # the second, true answer
        await browser(fake, come_back=come_back)
    assert fake.forms == []


@pytest.mark.parametrize(
    ("supported", "iss", "good_"),
    [
        pytest.param(True, "own", True, id="named"),
        pytest.param(True, None, False, id="promised and not named"),
        pytest.param(True, "https://other.example", False, id="another"),
        pytest.param(None, "https://other.example", False, id="another, unpromised"),
        pytest.param(None, None, True, id="neither"),
    ],
)
async def test_an_answer_names_the_issuer_that_was_asked(
    fake: Fake, supported: bool | None, iss: str | None, good_: bool
) -> None:
    fake.discovery["authorization_response_iss_parameter_supported"] = supported
    named = {} if iss is None else {"iss": fake.url if iss == "own" else iss}
    if good_:
        assert (await signed(fake, lambda asked: good(asked) | named)).subject == "17"
        return
    with pytest.raises(SignInFailed, match="another issuer"):
        await signed(fake, lambda asked: good(asked) | named)
    assert fake.forms == []  # the code went nowhere


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        pytest.param({"nonce": "x"}, "nonce", id="another sign-in's"),
        pytest.param({"nonce": None}, "nonce", id="no nonce"),
        pytest.param({"aud": "other"}, "not good", id="another client's"),
        pytest.param({"aud": ["jobkey", "other"]}, "not good", id="two audiences"),
        pytest.param({"azp": "other"}, "another client", id="made for another client"),
        pytest.param({"iss": "https://other.example"}, "not good", id="another issuer's"),
        pytest.param({"exp": 1_700_000_100, "iat": 1_700_000_000, "nbf": 1_700_000_000}, "not good", id="old"),
    ],
)
async def test_id_tokens_that_are_not_good(fake: Fake, claims: dict[str, Any], why: str) -> None:
    with pytest.raises(SignInFailed, match=why):
        await signed(fake, **claims)


async def test_what_the_issuer_says_no_to(fake: Fake) -> None:
    for back, why in (
        ({"error": "access_denied", "error_description": "no"}, "access_denied: no"),
        ({}, "without a code"),
    ):
        with pytest.raises(SignInFailed, match=why):
            await browser(fake, come_back=lambda asked, back=back: {"state": asked["state"], **back})  # type: ignore[misc]
    for answer, why in (
        ((400, {"error": "invalid_grant"}), "invalid_grant"),
        ((200, {"access_token": "x"}), "no ID token"),
        ((200, ["x"]), "no JSON object"),
        ((500, {}), "status 500"),
        ((302, {}), "status 302"),
        ((200, {"id_token": "x" * 300_000}), "too much"),
        ((200, {"id_token": "a.b.c"}), "not good"),
    ):
        fake.answers = [answer]
        with pytest.raises(SignInFailed, match=why):
            await browser(fake, come_back=good)


async def test_nobody_comes(fake: Fake) -> None:
    at = await provider(fake.url)
    with pytest.raises(SignInFailed, match="--device"):
        await by_browser(at, about(fake), show=lambda _: None, patience=0.05)


async def device(fake: Fake, pauses: list[float], **changed: Any) -> Tokens:
    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    at = await provider(fake.url, device_endpoint=fake.url + "/device")
    return await by_device(at, about(fake, **changed), show=lambda *_: None, sleep=sleep)


async def test_a_device_asks_no_oftener_than_it_was_told(fake: Fake) -> None:
    pauses: list[float] = []
    fake.device["interval"] = 2
    fake.answers = [
        (400, {"error": "authorization_pending"}), (400, {"error": "slow_down"}), (503, {}),
        (400, {"error": "authorization_pending"}), (200, {"id_token": fake.sign(), "refresh_token": "r"}),
    ]  # fmt: skip
    assert (await device(fake, pauses)).subject == "17"
    assert pauses == [2, 2, 7, 14, 14]
    assert fake.forms[0] == {"client_id": "jobkey", "scope": "openid email"}


async def test_an_id_token_that_comes_only_with_the_first_refresh(fake: Fake) -> None:
    fake.answers = [
        (200, {"access_token": "opaque", "refresh_token": "r1"}),
        (200, {"id_token": fake.sign(), "refresh_token": "r2"}),
    ]
    tokens = await device(fake, [])
    assert fake.forms[-1] == {"grant_type": "refresh_token", "refresh_token": "r1", "client_id": "jobkey"}
    assert tokens.refresh_token == Secret("r2")


@pytest.mark.parametrize(
    ("begun", "answer", "why"),
    [
        pytest.param({}, (400, {"error": "access_denied"}), "denied", id="denied"),
        pytest.param({}, (400, {"error": "expired_token"}), "in time", id="expired"),
        pytest.param({}, (400, {"error": "invalid_client"}), "invalid_client", id="an unknown client"),
        pytest.param({"expires_in": 0}, (400, {"error": "authorization_pending"}), "in time", id="no time at all"),
        pytest.param({"device_code": None}, (200, {}), "RFC 8628", id="no device code"),
        pytest.param({"expires_in": 10**400}, (200, {}), "RFC 8628", id="an endless number"),
        pytest.param({"interval": 10**400}, (200, {}), "RFC 8628", id="an endless pause"),
        pytest.param({"interval": float("nan")}, (200, {}), "no JSON object", id="no number"),
        pytest.param({"verification_uri": "http://evil.example"}, (200, {}), "https", id="plain http"),
        pytest.param({"verification_uri": "javascript:alert(1)"}, (200, {}), "https", id="no page"),
        pytest.param({"verification_uri_complete": "file:///etc/passwd"}, (200, {}), "https", id="a file"),
    ],
)
async def test_device_flows_that_come_to_nothing(fake: Fake, begun: Any, answer: Any, why: str) -> None:
    fake.device |= begun
    fake.answers = [answer]
    with pytest.raises(SignInFailed, match=why):
        await device(fake, [])


async def test_access_tokens_are_sent_where_the_broker_wants_them(fake: Fake) -> None:
    fake.answers = [(200, {"access_token": "at", "expires_in": 300, "id_token": fake.sign()})]
    tokens = await device(fake, [], access_tokens=True)
    assert tokens.token == Secret("at")
    assert tokens.expires_at < datetime.now(UTC) + timedelta(seconds=301)
    fake.answers = [(200, {"id_token": fake.sign()})]
    with pytest.raises(SignInFailed, match="no access token"):
        await device(fake, [], access_tokens=True)


async def test_discovery_is_believed_only_about_itself(fake: Fake) -> None:
    fake.metadata = {"issuer": "https://other.example", "device_authorization_endpoint": "https://other.example/d"}
    assert (await provider(fake.url)).device_endpoint is None
    fake.metadata["issuer"] = fake.url
    assert (await provider(fake.url)).device_endpoint == "https://other.example/d"
    for changed, why in (
        ({"issuer": "https://other.example"}, "another issuer"),
        ({"token_endpoint": "http://other.example/token"}, "https"),
        ({"token_endpoint": None}, "no token endpoint"),
    ):
        fake.discovery = changed
        with pytest.raises(SignInFailed, match=why):
            await provider(fake.url)


async def test_a_broker_is_believed_only_under_its_own_name(fake: Fake) -> None:
    assert (await resource(fake.url)).client_id == "jobkey"
    for changed, why in (
        ({"resource": "https://broker.acme.example"}, "calls itself"),
        ({"authorization_servers": ["http://login.acme.example"]}, "https"),
        ({"authorization_servers": []}, "people:"),
        ({"authorization_servers": ["https://a.example", "https://b.example"]}, "people:"),
        ({"jobkey_client_id": 7}, "older"),
    ):
        fake.resource = changed
        with pytest.raises(SignInFailed, match=why):
            await resource(fake.url)
    for url in ("http://broker.acme.example", "https://u:p@x.example", "x", "https://x.example/../y", "https://x?y"):
        with pytest.raises(SignInFailed):
            own_address(url)
    assert own_address("https://broker.acme.example/") == "https://broker.acme.example"


async def test_somebody_elses_refresh_is_not_taken(fake: Fake) -> None:
    fake.answers = [(200, {"id_token": fake.sign(sub="18")})]
    with pytest.raises(SignInFailed, match="somebody else"):
        await refreshed(Secret("r"), await provider(fake.url), about(fake), subject="17")
    tokens = await refreshed(Secret("r"), await provider(fake.url), about(fake), subject="18")
    assert tokens.refresh_token == Secret("r")  # none came: the old one goes on


def kept(fake: Fake, *, token: str = "t", lasts: int = 600, refresh: str | None = "r") -> Kept:
    made = Tokens(
        token=Secret(token), expires_at=datetime.now(UTC) + timedelta(seconds=lasts), subject="17",
        refresh_token=None if refresh is None else Secret(refresh),
    )  # fmt: skip
    return Kept(about=about(fake), tokens=made)


async def test_many_commands_at_once_refresh_once(fake: Fake) -> None:
    """Where the issuer rotates refresh tokens, a second use of the old one would end the sign-in."""
    fake.answers = [(200, {"id_token": fake.sign(), "refresh_token": "r2"}), (400, {"error": "invalid_grant"})]
    keeping.write(kept(fake, lasts=1))
    again = await asyncio.gather(
        *(asyncio.to_thread(lambda: asyncio.run(asking.signed_in(fake.url))) for _ in range(4))
    )
    assert len(fake.forms) == 1
    assert {one.tokens.refresh_token for one in again} == {Secret("r2")}


async def test_a_token_that_the_broker_does_not_take_is_refreshed_once(fake: Fake) -> None:
    keeping.write(kept(fake))
    fake.api = [(401, {"detail": "too old"}), (200, {"person": "dana"})]
    fresh = fake.sign()
    fake.answers = [(200, {"id_token": fresh})]
    assert await asking.ask(fake.url, "/v1/me") == {"person": "dana"}
    assert fake.bearers == ["Bearer t", f"Bearer {fresh}"]
    fake.api = [(401, {"detail": "no"})]
    with pytest.raises(asking.BrokerSaysNo, match="no"):
        await asking.ask(fake.url, "/v1/me")


async def test_a_sign_in_that_is_over_is_forgotten_and_says_how_to_begin_again(fake: Fake) -> None:
    with pytest.raises(asking.NotSignedIn, match="jobkey-broker signin"):
        await asking.signed_in(fake.url)
    keeping.write(kept(fake, lasts=1, refresh=None))
    with pytest.raises(asking.NotSignedIn, match="over"):
        await asking.signed_in(fake.url)
    keeping.write(kept(fake, lasts=1))
    fake.answers = [(400, {"error": "invalid_grant"})]
    with pytest.raises(asking.NotSignedIn, match="invalid_grant"):
        await asking.signed_in(fake.url)
    assert keeping.read(fake.url) is None


async def test_what_is_kept_is_private_whole_and_this_brokers(fake: Fake, state: Path) -> None:
    keeping.write(kept(fake))
    path = keeping.place(fake.url)
    assert path.is_relative_to(state)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = keeping.read(fake.url)
    assert found is not None
    assert (found.tokens.token, found.about) == (Secret("t"), about(fake))
    assert "'t'" not in repr(found)
    whole = path.read_text()
    for broken in ("", "{", "[]", "null", whole[:-9], whole.replace(fake.url, "https://other.example", 1),
                   json.dumps({**json.loads(whole), "expires_at": "x"}), json.dumps({**json.loads(whole), "scopes": 7})):  # fmt: skip
        path.write_text(broken)
        assert keeping.read(fake.url) is None, broken
    path.write_text(whole)
    for mode in (0o644, 0o660, 0o601):
        path.chmod(mode)
        with pytest.raises(SignInFailed, match="others"):
            keeping.read(fake.url)
    path.chmod(0o600)
    path.rename(state / "elsewhere")
    path.symlink_to(state / "elsewhere")
    with pytest.raises(SignInFailed, match="cannot be read"):
        keeping.read(fake.url)
    assert keeping.forget(fake.url)
    assert not keeping.forget(fake.url)
    assert (state / "elsewhere").exists()


def test_a_relative_state_folder_is_no_state_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert keeping.place("https://x").is_relative_to(tmp_path / ".local" / "state")


def test_the_callback_page_holds_nothing_of_the_answer() -> None:
    assert loopback._HEADERS["Referrer-Policy"] == "no-referrer"
    assert "{" not in loopback._DONE + loopback._NOT_OURS


async def test_numbers_without_end_are_within_what_the_broker_takes(fake: Fake) -> None:
    fake.answers = [(200, {"access_token": "at", "expires_in": 10**400, "id_token": fake.sign()})]
    tokens = await device(fake, [], access_tokens=True)
    assert tokens.expires_at < datetime.now(UTC) + timedelta(hours=1, seconds=1)
    fake.resource = {"jobkey_max_age": 10**400}
    assert (await resource(fake.url)).max_age == timedelta(hours=24)


async def test_where_nothing_can_be_kept_it_is_said(fake: Fake, state: Path) -> None:
    (state / "jobkey").write_text("a file where the folder would be")
    with pytest.raises(SignInFailed, match="cannot be kept"), keeping.alone(fake.url):
        pytest.fail("there is no lock")


@pytest.mark.parametrize(
    ("environment", "proxy", "auth"),
    [
        ({}, None, None),
        ({"https_proxy": "http://proxy.acme.example:3128"}, "http://proxy.acme.example:3128", None),
        ({"HTTPS_PROXY": "http://u:p@proxy.acme.example"}, "http://proxy.acme.example", "Basic dTpw"),
        ({"https_proxy": "http://proxy.acme.example", "no_proxy": "login.acme.example"}, None, None),
        ({"http_proxy": "http://proxy.acme.example"}, None, None),
    ],
)
def test_the_environments_proxy_is_used_for_https(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], proxy: str | None, auth: str | None
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        for spelt in (name, name.upper()):
            monkeypatch.delenv(spelt, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    told = client._proxy("https://login.acme.example/token")
    assert (str(told["proxy"]).rstrip("/") if told else None) == proxy
    assert told.get("proxy_headers", {}).get("Proxy-Authorization") == auth
    assert client._proxy("http://127.0.0.1:8400/x") == {}


async def test_no_password_of_the_users_netrc_is_sent(tmp_path: Path) -> None:
    """What ~/.netrc has for a host would go to it, or stop each question to a broker of that name."""
    seen: list[str | None] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.json_response({})

    authority = Authority(tmp_path)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=authority.server_context()).start()
    url = f"https://127.0.0.1:{runner.addresses[0][1]}/"
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login dana password hunter2\n")
    netrc.chmod(0o600)
    code = (
        "import asyncio, sys\n"
        "from broker.model import Secret\n"
        "from broker.people.provider import exchange_json, post_form\n"
        "asyncio.run(post_form(sys.argv[1], {'a': 'b'}))\n"
        "asyncio.run(exchange_json(sys.argv[1], what='it', bearer=Secret('mine')))\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, url, cwd=ROOT, stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "NETRC": str(netrc), "SSL_CERT_FILE": str(authority.ca_file)},
    )  # fmt: skip
    _, said = await process.communicate()
    await runner.cleanup()
    assert process.returncode == 0, said.decode()
    assert seen == [None, "Bearer mine"]
