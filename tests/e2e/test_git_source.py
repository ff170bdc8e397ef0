"""A real broker that follows a real git repository: over files and over git's own HTTP server, signed by real keys, woken by
webhooks; and people who ask it what it would make of their policies."""

import asyncio
import hashlib
import hmac
import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from broker.cli.ledger import every, ledger
from broker.ledger.records import EventQuery
from tests.e2e.broker_process import JOB, BrokerProcess, ask
from tests.e2e.issuer_process import IssuerProcess
from tests.e2e.test_people import Desk, people
from tests.servers.git_http import GitHttp
from tests.servers.openid import CODE_CLIENT, Provider, openid
from tests.unit.sources.repository import Repository
from tests.unit.sources.signing import sign_with_ssh, signer_line, ssh_key

pytestmark = [pytest.mark.server, pytest.mark.slow]

SECRET = "a-webhook-secret"
TOKEN = "a-deploy-token"
GUARDRAILS = "longest_ttl: {identity-token: 1h}\n"


class Site:
    """A repository of policies and brokers that follow it."""

    def __init__(self, folder: Path, ci: IssuerProcess) -> None:
        self.folder, self.ci = folder, ci
        self.origin = Repository(folder / "git" / "policies")
        scratch = BrokerProcess(folder / "scratch", issuer=ci.url)
        self.text = scratch.policy.read_text()
        self.anna = ssh_key(folder, "anna")
        sign_with_ssh(self.origin, self.anna)

    def push(self, minutes: int, *options: str, **files: str | None) -> str:
        """Commit policies whose grant lasts so long; signed, unless told otherwise."""
        text = self.text.replace("ttl: 10m", f"ttl: {minutes}m")
        written = {"policies/payments.yaml": text, "guardrails.yaml": GUARDRAILS, **files}
        return self.origin.commit(written, *(options or ("-S",)), message=f"{minutes} minutes")

    def broker(self, name: str, more: dict[str, Any] | None = None, **settings: Any) -> BrokerProcess:
        place = self.folder / name
        made = BrokerProcess(
            place,
            issuer=self.ci.url,
            env={"HOOK_SECRET": SECRET, "POLICIES_TOKEN": TOKEN},
            more={
                "policies": {
                    "git": f"file://{self.origin.folder}",
                    "guardrails": "guardrails.yaml",
                    "interval": "1h",
                    "webhook": {"secret": "env:HOOK_SECRET"},
                    "signed": {"allowed_signers": "./signers"},
                    **settings,
                },
                **(more or {}),
            },
        )
        shutil.rmtree(place / "policies")
        (place / "signers").write_text(signer_line(self.anna))
        return made


@pytest.fixture
def site(tmp_path: Path, ci: IssuerProcess) -> Site:
    return Site(tmp_path, ci)


def notify(broker: BrokerProcess, headers: dict[str, str] | None = None, body: bytes = b"{}") -> int:
    if headers is None:
        mac = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        headers = {"X-Hub-Signature-256": f"sha256={mac}"}
    asked = urllib.request.Request(broker.url + "/v1/policies/webhook", data=body, headers=headers)
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def events(broker: BrokerProcess, kind: str) -> list[dict[str, Any]]:
    """From the ledger on disk, oldest first."""
    with ledger(broker.folder / "data", None) as reader:
        return [dict(event.body) for event in every(reader, EventQuery(type=kind, newest_first=False))]


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.1)


async def life(site: Site, broker: BrokerProcess) -> int:
    """The status of a job's request; over a connection of its own, since brokers come and go."""
    async with aiohttp.ClientSession() as http:
        status, _ = await ask(http, broker, site.ci.sign(JOB, audience=broker.url), "payments/deploy")
    return status


async def test_a_broker_follows_a_signed_repository_by_itself(site: Site) -> None:
    first = site.push(10)
    broker = site.broker("broker")
    with broker:
        assert await life(site, broker) == 200
        (started,), (changed,) = events(broker, "started"), events(broker, "policy-changed")
        assert started["commit"] == changed["commit"] == first
        assert changed["source"] == f"file://{site.origin.folder} refs/heads/main policies"
        assert set(changed["policies"]) == {"payments", "guardrails.yaml"}

        second = site.push(11)
        assert notify(broker) == 202
        await until(lambda: len(events(broker, "policy-changed")) == 2)
        assert events(broker, "policy-changed")[1]["commit"] == second

        unsigned = site.push(12, "--no-gpg-sign")
        assert notify(broker, {"X-Gitlab-Token": SECRET}) == 202
        await until(lambda: events(broker, "policy-rejected"))
        (rejected,) = events(broker, "policy-rejected")
        assert "carries no good signature" in rejected["problems"]
        assert unsigned[:12] in rejected["problems"]
        assert await life(site, broker) == 200  # by the second commit
        with urllib.request.urlopen(broker.url + "/readyz", timeout=10) as answer:
            assert "does not load" in json.load(answer)["notes"]["policies"]

        site.origin("reset", "-q", "--hard", first)  # signed, and older: the way back to wider policies
        notify(broker)
        await until(lambda: len(events(broker, "policy-rejected")) == 2)
        assert "was rewritten or turned back" in events(broker, "policy-rejected")[1]["problems"]

        site.origin("reset", "-q", "--hard", second)
        broken = site.push(13, **{"policies/payments.yaml": "policy: [\n"})
        notify(broker)
        await until(lambda: len(events(broker, "policy-rejected")) == 3)
        assert events(broker, "policy-rejected")[2]["commit"] == broken
        mended = site.push(14)
        notify(broker)
        await until(lambda: len(events(broker, "policy-changed")) == 3)
        assert events(broker, "policy-changed")[2]["commit"] == mended
        for secret in (SECRET, "ttl: 14m"):
            assert secret not in broker.log


async def test_a_start_without_the_server_is_a_start_on_the_last_good_commit(site: Site) -> None:
    first = site.push(10)
    broker = site.broker("broker")
    moved = site.folder / "moved"
    with broker:
        pass
    site.push(11, **{"policies/payments.yaml": "policy: [\n"})
    with broker:  # what is there now does not load
        assert events(broker, "started")[1]["commit"] == first
        assert len(events(broker, "policy-rejected")) == 1
        assert await life(site, broker) == 200
    site.origin.folder.rename(moved)
    (reached,) = (broker.folder / "data/policies.git").glob("jobkey-reached-*")
    os.utime(reached, (1_000_000_000, 1_000_000_000))
    with broker:
        assert events(broker, "started")[2]["commit"] == first
        assert await life(site, broker) == 200
        with urllib.request.urlopen(broker.url + "/readyz", timeout=10) as answer:
            assert "was not reached for" in json.load(answer)["notes"]["policies"]
        with urllib.request.urlopen(broker.url + "/metrics", timeout=10) as answer:
            assert 'jobkey_policy_fetches_total{outcome="failed"} 1.0' in answer.read().decode()
    limited = site.broker("limited", interval="5s", stale_after="1h")
    shutil.rmtree(limited.folder / "data", ignore_errors=True)
    shutil.copytree(broker.folder / "data", limited.folder / "data")
    try:
        limited.start(ready=False)
        assert await life(site, limited) == 200  # what is asked all the same is judged
        with pytest.raises(urllib.error.HTTPError) as stale:
            urllib.request.urlopen(limited.url + "/readyz", timeout=10)
        with stale.value as answer:
            assert answer.code == 503
            assert "was not reached for" in json.load(answer)["problems"]["policies"]
        moved.rename(site.origin.folder)
        site.origin("reset", "-q", "--hard", first)
        await until(lambda: limited.answers("/readyz"))
    finally:
        limited.stop()
        if site.origin.folder.exists():
            site.origin.folder.rename(moved)
    fresh = site.broker("another")
    with pytest.raises(RuntimeError, match="cannot be fetched"):
        fresh.start()


async def test_over_http_with_a_token(site: Site) -> None:
    site.push(10)
    with GitHttp(site.folder / "git", token=TOKEN) as server:
        settings = {"git": f"{server.url}/policies/.git", "credentials": {"token": "env:POLICIES_TOKEN"}}
        with site.broker("broker", **settings) as broker:
            assert await life(site, broker) == 200
            second = site.push(11)
            notify(broker)
            await until(lambda: len(events(broker, "policy-changed")) == 2)
            assert events(broker, "policy-changed")[1]["commit"] == second
            assert TOKEN not in broker.log
        assert server.refusals == 0


async def test_a_notice_has_to_be_signed_and_small(site: Site) -> None:
    site.push(10)
    with site.broker("broker") as broker:
        good = hmac.new(SECRET.encode(), b"{}", hashlib.sha256).hexdigest()
        for headers, body in [
            ({}, b"{}"),
            ({"X-Hub-Signature-256": f"sha256={good}"}, b"{} "),
            ({"X-Hub-Signature-256": good}, b"{}"),
            ({"X-Hub-Signature-256": "sha256="}, b"{}"),
            ({"X-Hub-Signature-256": f"sha256={'0' * 64}"}, b"{}"),
            ({"X-Gitlab-Token": ""}, b"{}"),
            ({"X-Gitlab-Token": SECRET + "x"}, b"{}"),
            ({"X-Gitlab-Token": SECRET.upper()}, b"{}"),
        ]:
            assert notify(broker, headers, body) == 401, headers
        assert notify(broker, body=b"x" * (4 << 20)) == 202
        assert notify(broker, body=b"x" * (5 << 20) + b"x") == 422
        assert SECRET not in broker.log


# ---- asking first


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with openid() as running:
        yield running


def test_push_is_judged_by_the_running_broker(site: Site, provider: Provider) -> None:
    other = site.text.replace("policy: payments", "policy: storefront").replace("team-payments", "team-storefront")
    site.push(10, **{"policies/shop/storefront.yaml": other})
    place = site.folder / "work" / "policies"
    (place / "shop").mkdir(parents=True)
    (place / "payments.yaml").write_text(site.text)
    (place / "shop/storefront.yaml").write_text(other)
    with site.broker("broker", more={"people": people(provider, CODE_CLIENT)}) as broker:
        desks = {}
        for name in ("owen", "pat", "ada", "nina"):
            state = site.folder / name
            state.mkdir()
            desks[name] = Desk(broker, name, state)
            desks[name].sign_in()

        def pushed(name: str, *more: str) -> tuple[int, str]:
            ran = desks[name].ask("policy", "push", str(place), "--dry-run", *more)
            return ran.exit_code, ran.stdout + ran.stderr

        code, said = pushed("pat")
        assert (code, said.splitlines()[0]) == (0, "good: exactly what is in force")

        (place / "payments.yaml").write_text(site.text.replace("ttl: 10m", "ttl: 9m"))
        (place / "new.yaml").write_text(site.text.replace("policy: payments", "policy: fresh"))
        (place / "shop/storefront.yaml").unlink()
        code, said = pushed("pat")
        assert (code, said.splitlines()[:4]) == (
            0,
            ["new      fresh", "changed  payments", "removed  storefront", "good: the broker would take these"],
        )
        code, said = pushed("owen")
        assert code == 0
        assert "storefront" not in said
        assert "removed  1 of other owners" in said
        told = json.loads(pushed("pat", "--json")[1])
        assert told["good"] is True
        assert told["policy_set"] != told["in_force"]

        (place / "payments.yaml").write_text(site.text.replace("ttl: 10m", "ttl: 2h"))
        code, said = pushed("owen")
        assert code == 1
        assert f"{place}/payments.yaml:" in said
        assert "at most" in said
        assert "the broker would go on with what is in force" in said

        for name in ("ada", "nina"):  # an auditor reads; nina is nobody
            code, said = pushed(name)
            assert code == 1, said
        assert len(events(broker, "policy-changed")) == 1
        assert not events(broker, "policy-rejected")

        ran = desks["pat"].run("policy", "push", str(place))
        assert ran.returncode == 2
        assert "merge into the repository" in ran.stderr
