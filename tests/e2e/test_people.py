"""People before a real broker, signed in by a real OpenID provider that no one here wrote: both flows, and what each may see."""

import asyncio
import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import Result
from typer.testing import CliRunner

from broker.cli.main import app
from broker.people import keeping
from broker.people.keeping import Kept
from broker.people.loopback import by_browser
from broker.people.provider import provider as provider_of
from broker.people.provider import resource
from tests.e2e.broker_process import JOB, ROOT, BrokerProcess, ask
from tests.e2e.issuer_process import IssuerProcess
from tests.servers.openid import CODE_CLIENT, DEVICE_CLIENT, Browser, Provider, openid

pytestmark = [pytest.mark.server, pytest.mark.slow]

STOREFRONT = """\
policy: storefront
owners: [team-storefront@acme.example]
trust:
  - issuer: ci
    job: {project_id: "777", ref: refs/heads/release}
grants:
  deploy: {backend: token, ttl: 5m, with: {audience: "https://shop.acme.example"}}
examples:
  - name: another branch gets nothing
    claims: {$like: github-branch, repository: acme/storefront, repository_id: "777"}
    expect: refuse
"""
SHOP = {**JOB, "repository": "acme/storefront", "repository_id": "777", "ref": "refs/heads/main", "run_id": "77"}
STRANGER = {**JOB, "repository": "evil/x", "repository_id": "1", "repository_owner": "evil", "repository_owner_id": "2"}


def people(provider: Provider, client: str) -> dict[str, Any]:
    return {
        "issuer": provider.url,
        "client_id": client,
        "owners": ["email", {"claim": "groups", "domain": "acme.example"}],
        "device_endpoint": provider.url + "/device-authorization/",
        "roles": {
            "auditor": {"groups": {"contains": "sec-audit"}},
            "platform": [{"groups": {"contains": "platform"}}, {"email": "pat@acme.example"}],
        },
    }


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with openid() as running:
        yield running


@pytest.fixture(scope="module")
def broker(ci: IssuerProcess, provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    made = BrokerProcess(
        tmp_path_factory.mktemp("broker"), issuer=ci.url, more={"people": people(provider, CODE_CLIENT)}
    )
    (made.folder / "policies" / "storefront.yaml").write_text(STOREFRONT)
    with made:
        yield made


class Desk:
    """A person's own machine: a state folder, a browser, the command."""

    def __init__(self, broker: BrokerProcess, name: str, state: Path) -> None:
        self.broker, self.name, self.state = broker, name, state
        self.env = {
            **{name: value for name, value in os.environ.items() if name in {"PATH", "LANG"}},
            "HOME": str(state), "XDG_STATE_HOME": str(state), "PYTHONPATH": str(ROOT), "COLUMNS": "200",
            "JOBKEY_BROKER": broker.url, "BROWSER": f"{sys.executable} -W ignore -m tests.servers.openid visit {name} %s",
        }  # fmt: skip

    def ask(self, *arguments: str) -> Result:
        """The command in this process, which need not start for it; only where nothing else runs in it meanwhile."""
        return CliRunner().invoke(app, list(arguments), env=self.env)

    def sign_in(self) -> None:
        """With the same flow as the command's, in this process; whoever it is to the broker."""

        async def flow() -> Kept:
            about = await resource(self.broker.url)
            at = await provider_of(about.issuer)

            def show(url: str) -> None:
                visit = partial(Browser(self.name).visit, url, press="Authorize")
                asyncio.get_running_loop().run_in_executor(None, visit)

            return Kept(about=about, tokens=await by_browser(at, about, show=show))

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_STATE_HOME", self.env["XDG_STATE_HOME"])
            keeping.write(asyncio.run(flow()))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command as a process of its own, with a browser of its own."""
        command = [sys.executable, "-m", "broker", *arguments]
        return subprocess.run(
            command, cwd=self.state, env=self.env, capture_output=True, text=True, timeout=120, check=False
        )

    @property
    def kept(self) -> Path:
        (file,) = (self.state / "jobkey" / "signin").glob("*.json")
        return file

    @property
    def token(self) -> str:
        return str(json.loads(self.kept.read_text())["token"])

    def change(self, **members: Any) -> None:
        """What was kept, as if time had gone by."""
        self.kept.write_text(json.dumps({**json.loads(self.kept.read_text()), **members}))


@pytest.fixture(scope="module")
def desks(broker: BrokerProcess, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Desk]:
    """Everybody, signed in by a browser; who has no role is told so and holds a good token all the same."""
    found = {}
    for name in ("owen", "sam", "ada", "pat", "nina", "eve"):
        desk = found[name] = Desk(broker, name, tmp_path_factory.mktemp(name))
        if name in {"owen", "nina"}:
            done = desk.run("signin")
            assert done.returncode == (1 if name == "nina" else 0), done.stderr
        else:
            desk.sign_in()
    return found


async def refused(
    http: aiohttp.ClientSession, broker: BrokerProcess, ci: IssuerProcess, claims: Any, grant: str
) -> str:
    status, body = await ask(http, broker, ci.sign(claims, audience=broker.url), grant)
    assert status == 403, body
    return str(body["case"])


async def get(
    http: aiohttp.ClientSession, desk: Desk | None, path: str, broker: BrokerProcess | None = None
) -> tuple[int, Any, Mapping[str, str]]:
    headers = {"Authorization": f"Bearer {desk.token}"} if desk else {}
    url = (desk.broker.url if desk else broker.url if broker else "") + path
    async with http.get(url, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None), dict(answer.headers)


async def test_an_owner_signs_in_with_a_browser_and_reads_the_first_miss(
    http: aiohttp.ClientSession, broker: BrokerProcess, ci: IssuerProcess, desks: dict[str, Desk]
) -> None:
    desk = desks["owen"]
    assert stat.S_IMODE(desk.kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(desk.kept.parent.stat().st_mode) == 0o700
    assert (await asyncio.to_thread(desk.ask, "whoami")).stdout.splitlines()[:3] == [
        "person  owen@acme.example", "roles   none", "owns    payments",
    ]  # fmt: skip
    wrong = {**JOB, "ref": "refs/heads/fix", "environment": "staging", "run_id": "4711"}
    case = await refused(http, broker, ci, wrong, "payments/deploy")
    shown = desk.run("case", "show", case)
    assert shown.returncode == 0, shown.stderr
    assert [line.strip() for line in shown.stdout.splitlines() if line.startswith(("    ok", "    miss"))] == [
        "ok    issuer",
        "ok    job.project",
        "ok    job.project_id",
        "ok    job.ref_protected",
        "miss  job.ref: expected refs/heads/main, got refs/heads/fix  <- first miss",
        "miss  job.environment: expected production, got staging",
    ]
    assert f"policy explain --case {case}" in shown.stdout
    for filters, lines in (
        (("--run", "4711"), 1),
        (("--run", "4712"), 0),
        (("--project", "acme/payments", "--since", "1h", "--policy", "payments"), 1),
        (("--until", "1h"), 0),
    ):
        listed = (await asyncio.to_thread(desk.ask, "case", "list", *filters)).stdout
        assert (listed.count(case), len(listed.splitlines())) == (lines, lines), filters


async def test_an_owner_sees_only_what_is_near_policies_that_name_them(
    http: aiohttp.ClientSession, broker: BrokerProcess, ci: IssuerProcess, desks: dict[str, Desk]
) -> None:
    mine = await refused(http, broker, ci, {**JOB, "ref": "refs/heads/x"}, "payments/deploy")
    other = await refused(http, broker, ci, SHOP, "storefront/deploy")
    stranger = await refused(http, broker, ci, STRANGER, "payments/deploy")
    answers = [
        await get(http, desks["owen"], f"/v1/cases/{case}")
        for case in (other, stranger, "case_01KAN7Q2J8E5V6W0YB3C9DFGHM", "case_", "x", "..%2fcases", "lse_x")
    ]
    bodies = {json.dumps(body) for _, body, _ in answers}
    assert {status for status, _, _ in answers} == {404}
    assert len(bodies) == 1
    heads = [{name: value for name, value in headers.items() if name != "Date"} for _, _, headers in answers]
    assert all(head == heads[0] for head in heads)
    assert (await get(http, desks["owen"], f"/v1/cases/{mine}"))[0] == 200
    assert (await get(http, desks["sam"], f"/v1/cases/{other}"))[0] == 200
    assert (await get(http, desks["sam"], f"/v1/cases/{mine}"))[0] == 404
    for name, seen, hidden in (("owen", mine, other), ("sam", other, mine)):
        _, page, _ = await get(http, desks[name], "/v1/cases?limit=200")
        cases = [row["case"] for row in page["cases"]]
        assert seen in cases
        assert not {hidden, stranger} & set(cases)
        assert "refs/heads" not in json.dumps([row["policies"] for row in page["cases"]])
    _, page, _ = await get(http, desks["owen"], "/v1/cases?policy=storefront")
    assert page == {"cases": []}


async def test_two_policies_in_one_request_show_each_owner_their_own(
    http: aiohttp.ClientSession, broker: BrokerProcess, ci: IssuerProcess, desks: dict[str, Desk]
) -> None:
    token = ci.sign({**JOB, "ref": "refs/heads/x"}, audience=broker.url)
    status, body = await ask(http, broker, token, "payments/deploy", "storefront/deploy")
    assert status == 403
    for name, policy, secret in (("owen", "payments", "refs/heads/release"), ("sam", "storefront", "production")):
        _, shown, _ = await get(http, desks[name], f"/v1/cases/{body['case']}")
        assert {group["policy"] for group in shown["near"]} == {policy}
        told = json.dumps([shown["near"], shown["remedy"], shown.get("reason", "")])
        assert secret not in told
    _, shown, _ = await get(http, desks["ada"], f"/v1/cases/{body['case']}")
    assert {group["policy"] for group in shown["near"]} == {"payments", "storefront"}
    assert "trust[0]" in shown["reason"]


async def test_where_no_policy_is_near_the_platforms_people_see_it(
    http: aiohttp.ClientSession, broker: BrokerProcess, ci: IssuerProcess, desks: dict[str, Desk]
) -> None:
    strangers = [await refused(http, broker, ci, STRANGER, "payments/deploy") for _ in range(3)]
    unknown = await refused(http, broker, ci, JOB, "nobody/deploy")
    misspelt = await refused(http, broker, ci, JOB, "payments/deplyo")
    for name in ("pat", "ada"):
        for case in strangers:
            _, shown, _ = await get(http, desks[name], f"/v1/cases/{case}")
            assert (shown["case"], shown["code"], shown["job"]["project"], shown["near"]) == (
                case,
                "stranger",
                "evil/x",
                [],
            )
        _, shown, _ = await get(http, desks[name], f"/v1/cases/{unknown}")
        assert (shown["code"], shown["near"]) == ("unknown-grant", [])
    assert (await get(http, desks["owen"], f"/v1/cases/{unknown}"))[0] == 404
    _, shown, _ = await get(http, desks["owen"], f"/v1/cases/{misspelt}")
    (miss,) = shown["near"][0]["misses"]
    assert (miss["key"], miss["expected"], miss["got"]) == ("grant", "deploy, ssh", "deplyo")


async def test_who_is_nobody_here_is_told_so(
    http: aiohttp.ClientSession, broker: BrokerProcess, ci: IssuerProcess, desks: dict[str, Desk]
) -> None:
    for name, why in (("nina", "nobody here"), ("eve", "email_verified")):
        for path in ("/v1/cases", "/v1/cases/x", "/v1/me"):
            status, body, _ = await get(http, desks[name], path)
            assert (status, why in body["detail"]) == (403, True)
    status, body, headers = await get(http, None, "/v1/cases", broker)
    metadata = f"{broker.url}/.well-known/oauth-protected-resource"
    assert status == 401
    assert headers["WWW-Authenticate"] == f'Bearer realm="jobkey people", resource_metadata="{metadata}"'
    assert "jobkey-broker signin" in body["detail"]
    job = ci.sign(JOB, audience=CODE_CLIENT, email="owen@acme.example", email_verified=True)
    async with http.get(broker.url + "/v1/cases", headers={"Authorization": f"Bearer {job}"}) as answer:
        assert answer.status == 401
    status, body = await ask(http, broker, desks["ada"].token, "payments/deploy")
    assert (status, "issuer" in body["detail"]) == (401, True)


async def test_questions_that_are_wrong(http: aiohttp.ClientSession, desks: dict[str, Desk]) -> None:
    for query in ("rnu=1", "run=1&run=2", "run=", "since=yesterday", "since=0h", "limit=0", "limit=201", "limit=-1",
                  "before=x", "until=9999-99-99", "project=%0a", "before=9" * 20):  # fmt: skip
        status, body, _ = await get(http, desks["ada"], f"/v1/cases?{query}")
        assert (status, body["title"]) == (422, "The request is wrong"), query


async def test_pages_hold_every_case_once(
    http: aiohttp.ClientSession, broker: BrokerProcess, ci: IssuerProcess, desks: dict[str, Desk]
) -> None:
    made = [
        await refused(http, broker, ci, {**JOB, "ref": "refs/heads/x", "run_id": "31"}, "payments/deploy")
        for _ in range(5)
    ]
    found: list[str] = []
    more = ""
    while True:
        _, page, _ = await get(http, desks["owen"], f"/v1/cases?run=31&limit=2{more}")
        found += [row["case"] for row in page["cases"]]
        if "next" not in page:
            break
        more = f"&before={page['next']}"
    assert found == made[::-1]
    listed = desks["owen"].run("case", "list", "--run", "31", "--json", "--limit", "4")
    assert [json.loads(line)["case"] for line in listed.stdout.splitlines()] == made[:0:-1]


async def test_on_the_brokers_own_host_the_ledger_answers(
    http: aiohttp.ClientSession, broker: BrokerProcess, ci: IssuerProcess
) -> None:
    case = await refused(http, broker, ci, {**JOB, "ref": "refs/heads/host", "run_id": "32"}, "payments/deploy")
    shown = broker.command("case", "show", case, "--config", "broker.yaml").stdout
    assert "miss  job.ref: expected refs/heads/main, got refs/heads/host  <- first miss" in shown
    assert case in broker.command("case", "list", "--run", "32").stdout
    assert json.loads(broker.command("case", "show", case, "--json").stdout)["claims"]["ref"] == "refs/heads/host"
    for name in ("case_01KAN7Q2J8E5V6W0YB3C9DFGHM", "x"):
        assert broker.command("case", "show", name, check=False).returncode == 1


async def test_the_ledger_knows_who_signed_in_and_what_was_read(
    http: aiohttp.ClientSession, broker: BrokerProcess, ci: IssuerProcess, desks: dict[str, Desk]
) -> None:
    case = await refused(http, broker, ci, {**JOB, "ref": "refs/heads/read"}, "payments/deploy")
    for _ in range(3):
        await get(http, desks["ada"], f"/v1/cases/{case}")
    await get(http, desks["sam"], f"/v1/cases/{case}")
    (read,) = [event for event in broker.events(type="case-read") if event["read"] == case]
    assert (read["person"], read["roles"]) == ("ada@acme.example", ["auditor"])
    signed_in = [event["person"] for event in broker.events(type="person-signed-in")]
    assert len(set(signed_in)) == len(signed_in)  # once a token, not once a request
    assert {"owen@acme.example", "ada@acme.example"} <= set(signed_in)
    assert not {"nina@acme.example", "eve@acme.example"} & set(signed_in)
    assert broker.verify().returncode == 0
    everything = json.dumps(broker.events()) + broker.log
    for desk in desks.values():
        assert desk.token not in everything


def test_a_sign_in_is_refreshed_and_taken_back(broker: BrokerProcess, tmp_path: Path) -> None:
    desk = Desk(broker, "owen", tmp_path)
    assert desk.run("signin").returncode == 0
    first = json.loads(desk.kept.read_text())
    desk.change(expires_at=int(time.time()) - 1)
    assert "owns    payments" in desk.ask("whoami").stdout
    second = json.loads(desk.kept.read_text())
    assert (second["token"] == first["token"], second["refresh_token"] == first["refresh_token"]) == (False, False)
    desk.change(token="not-a-token")  # fresh as far as the file knows; the broker says no, once
    assert desk.ask("whoami").exit_code == 0
    text = desk.kept.read_text()
    done = desk.ask("signout")
    assert (done.exit_code, done.stdout) == (0, "signed out; the last token works until its end\n")
    assert not list((tmp_path / "jobkey" / "signin").glob("*.json"))
    assert "jobkey-broker signin" in desk.ask("whoami").stderr
    kept = tmp_path / "jobkey" / "signin" / "x.json"
    kept.write_text(text)  # a thief's copy: the refresh token was taken back
    kept.chmod(0o600)
    from broker.people.keeping import place

    kept.rename(kept.with_name(place(broker.url).name))
    desk.change(expires_at=1)
    done = desk.ask("whoami")
    assert (done.exit_code, "invalid_grant" in done.stderr) == (1, True)
    assert desk.ask("signout").stdout == "you were not signed in\n"


def test_a_file_that_others_could_read_is_not_used(broker: BrokerProcess, tmp_path: Path) -> None:
    desk = Desk(broker, "owen", tmp_path)
    desk.sign_in()
    desk.kept.chmod(0o640)
    done = desk.ask("whoami")
    assert (done.exit_code, "others could read" in done.stderr) == (1, True)
    desk.kept.chmod(0o600)
    elsewhere = tmp_path / "elsewhere.json"
    desk.kept.rename(elsewhere)
    (tmp_path / "jobkey" / "signin").joinpath(_name(broker)).symlink_to(elsewhere)
    assert desk.ask("whoami").exit_code == 1


def _name(broker: BrokerProcess) -> str:
    from broker.people.keeping import place

    return place(broker.url).name


def test_signing_in_by_a_code_on_another_machine(
    ci: IssuerProcess, provider: Provider, tmp_path_factory: pytest.TempPathFactory
) -> None:
    more = {"people": people(provider, DEVICE_CLIENT)}
    with BrokerProcess(tmp_path_factory.mktemp("broker"), issuer=ci.url, more=more) as broker:
        for press, code in (("accept", 0), ("deny", 1)):
            desk = Desk(broker, "owen", tmp_path_factory.mktemp("desk"))
            command = [sys.executable, "-m", "broker", "signin", "--device"]
            said = ""
            with subprocess.Popen(command, cwd=desk.state, env=desk.env, stderr=subprocess.PIPE, text=True) as process:
                assert process.stderr is not None
                while (found := re.search(r"or open +(\S+)\n", said)) is None and (line := process.stderr.readline()):
                    said += line
                if found is not None:
                    provider.person("owen").visit(found[1], press=press)
                said += process.stderr.read()
            assert process.returncode == code, said
            if press == "accept":
                assert "signed in as owen@acme.example" in said
                assert "owns    payments" in desk.ask("whoami").stdout
            else:
                assert "denied" in said


def test_a_broker_without_people_and_one_that_is_somebody_else(ci: IssuerProcess, tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "broker", issuer=ci.url) as broker:
        desk = Desk(broker, "owen", tmp_path)
        done = desk.run("signin")
        assert (done.returncode, "people:" in done.stderr) == (1, True)
        alias = broker.url.replace("127.0.0.1", "localhost")
        done = desk.ask("signin", "--broker", alias)
        assert (done.exit_code, "calls itself" in done.stderr) == (1, True)
        for url in ("http://broker.acme.example", "ftp://x", "https://u:p@x", "x"):
            done = desk.ask("signin", "--broker", url)
            assert done.exit_code == 2, url
