"""The main job against real systems, through the real broker process and the real client (design section 9, promise 4).

OpenBao makes logins in PostgreSQL, sshd trusts the broker's CA, SeaweedFS verifies the broker's identity tokens by its
discovery document and enforces session policies, MiniStack evaluates trust policies.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from broker.model import LeaseState
from tests.e2e.broker_process import JOB, BrokerProcess, ask, until
from tests.e2e.crash.books import Books, World
from tests.e2e.issuer_process import IssuerProcess
from tests.fakes.broker import TokenService
from tests.servers import ministack as ministack_module
from tests.servers import seaweedfs as seaweedfs_module
from tests.servers import sshd as sshd_module
from tests.servers.aws import can
from tests.servers.ministack import MiniStack
from tests.servers.openbao import OpenBao
from tests.servers.postgres import Postgres
from tests.servers.process import free_port
from tests.servers.seaweedfs import SeaweedFS, seaweedfs
from tests.servers.sshd import sshd
from tests.system import require

pytestmark = pytest.mark.server

CLIENT = Path(__file__).parents[2] / "clients" / "python"
ONE_OBJECT = (
    '{Version: "2012-10-17", Statement: [{Effect: Allow, Action: "s3:GetObject", Resource: "arn:aws:s3:::art/app/x"}]}'
)
DB = "path: database/creds/real, policies: [read-real], public: [username], env: {PGUSER: username, PGPASSWORD: password}"
GRANTS = {
    "deploy": '  deploy: {backend: token, ttl: 10m, with: {audience: "https://deploy.acme.example"}}',
    "ssh": "  ssh: {backend: ssh, ttl: 30s, with: {principals: [deploy]}}",
    "db": f"  db: {{backend: bao, ttl: 1m, with: {{{DB}}}}}",
    "broken": "  broken: {backend: bao, ttl: 1m, with: {path: database/creds/no-such-role, policies: [read-real]}}",
    "s3": f"  s3: {{backend: sea, ttl: 15m, with: {{role_arn: '{seaweedfs_module.ROLE}', session_policy: {ONE_OBJECT}}}}}",
    "web": f"  web: {{backend: sea, ttl: 15m, with: {{via: web-identity, role_arn: '{seaweedfs_module.ROLE}', session_policy: {ONE_OBJECT}}}}}",
    "tagged": f"  tagged: {{backend: mini, ttl: 15m, with: {{role_arn: 'arn:aws:iam::{ministack_module.ACCOUNT}:role/RealTagged', tags: {{project: '{{{{ job.project }}}}'}}, source_identity: '{{{{ job.actor }}}}'}}}}",
}


@dataclass
class Stage:
    """The broker and everything it reaches."""

    broker: BrokerProcess
    world: World
    sea: SeaweedFS
    mini: MiniStack
    configure: Callable[..., None]

    def lease(self, lease: str) -> Any:
        return Books(self.broker.folder).leases[lease]

    def logs_in(self, credential: dict[str, Any]) -> bool:
        values = credential["values"]
        return self.world.server.can_log_in(values["username"], values["password"])


@pytest.fixture(scope="module")
def stage(
    ci: IssuerProcess,
    openbao_server: OpenBao,
    postgres_server: Postgres,
    ministack_server: MiniStack,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stage]:
    world = World(openbao_server, postgres_server, role="real")
    env = {"BAO": world.prepare(), "SEA_ID": seaweedfs_module.BROKER[0], "SEA_KEY": seaweedfs_module.BROKER[1]}
    env["MINI_ID"], env["MINI_KEY"] = account(ministack_server)
    folder = tmp_path_factory.mktemp("real")

    def backends(sea: str, bao: str = openbao_server.url) -> dict[str, Any]:
        return {
            "token": {"kind": "identity-token"},
            "ssh": {"kind": "ssh-ca"},
            "bao": {"kind": "vault", "url": bao, "auth": {"token": "env:BAO"}, "token_role": "crash", "timeout": 3},
            "sea": {"kind": "aws-sts", "region": "us-east-1", "endpoint_url": sea,
                    "auth": {"access_key_id": "env:SEA_ID", "secret_access_key": "env:SEA_KEY"}},
            "mini": {"kind": "aws-sts", "region": "us-east-1", "endpoint_url": ministack_server.url,
                     "auth": {"access_key_id": "env:MINI_ID", "secret_access_key": "env:MINI_KEY"}},
        }  # fmt: skip

    nowhere = f"http://127.0.0.1:{free_port()}"
    broker = BrokerProcess(folder, issuer=ci.url, backends=backends(nowhere), grants=GRANTS, env=env)

    def configure(**changed: str) -> None:
        file = folder / "broker.yaml"
        file.write_text(json.dumps({**json.loads(file.read_text()), "backends": backends(**changed)}))

    broker.start(ready=False)
    try:
        with seaweedfs(broker.url) as sea:  # which asks the broker for its keys, as the broker will ask it for sessions
            broker.stop()
            configure(sea=sea.url)
            broker.start()
            yield Stage(broker, world, sea, ministack_server, lambda **more: configure(sea=sea.url, **more))
    finally:
        broker.stop()


def account(server: MiniStack) -> tuple[str, str]:
    """A user for the broker, and a role that wants the right tag."""
    iam = server.client("iam")
    iam.create_user(UserName="real-broker")
    key = iam.create_access_key(UserName="real-broker")["AccessKey"]
    may = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]
    statement = {"Effect": "Allow", "Action": may, "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName="real-broker", PolicyName="p", PolicyDocument=document)
    trust = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{ministack_module.ACCOUNT}:user/real-broker"},
        "Action": may,
        "Condition": {"StringEquals": {"aws:RequestTag/project": "acme/payments"}},
    }
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    iam.create_role(RoleName="RealTagged", AssumeRolePolicyDocument=document)
    iam.close()
    return key["AccessKeyId"], key["SecretAccessKey"]


@pytest.fixture
def jobkey(
    stage: Stage, ci: IssuerProcess, tmp_path: Path
) -> Iterator[Callable[..., "subprocess.CompletedProcess[str]"]]:
    service = TokenService()
    service.mint = lambda audience: ci.sign(JOB, audience=audience)
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(CLIENT),
        "JOBKEY_URL": stage.broker.url,
        "JOBKEY_DIR": str(tmp_path / "own"),
        "JOBKEY_PATIENCE": "5",
        **service.github_env(),
    }

    def run(*argv: str, **more: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "jobkey", *argv]
        return subprocess.run(command, env=env | more, capture_output=True, text=True, timeout=90, check=False)

    yield run
    service.close()


async def opened(http: aiohttp.ClientSession, stage: Stage, ci: IssuerProcess, *grants: Any) -> tuple[str, list[Any]]:
    """A session's secret and its credentials."""
    status, body = await ask(http, stage.broker, ci.sign(JOB, audience=stage.broker.url), *grants)
    assert status == 200, (body, stage.broker.log[-2000:])
    return body["session"]["secret"], body["credentials"]


async def called(http: aiohttp.ClientSession, method: str, url: str, secret: str, body: Any = None) -> tuple[int, Any]:
    async with http.request(method, url, json=body, headers={"Authorization": f"Bearer {secret}"}) as answer:
        return answer.status, await answer.json(content_type=None)


def test_one_line_of_ssh_works_within_the_ttl_and_not_after(
    stage: Stage, jobkey: Callable[..., "subprocess.CompletedProcess[str]"], tmp_path: Path
) -> None:
    require("sshd", "ssh", "ssh-keygen")
    kept = tmp_path / "kept"
    kept.mkdir()
    with sshd(Books(stage.broker.folder).ssh_ca()) as server:
        (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{server.port} {server.host_key}\n")
        login = (
            f"ssh -F none -p {server.port} -i $KEY -o CertificateFile=$CERTIFICATE -o IdentitiesOnly=yes -o BatchMode=yes "
            f"-o UserKnownHostsFile={tmp_path}/known_hosts -o StrictHostKeyChecking=yes -o IdentityAgent=none "
            f"{sshd_module.USER}@127.0.0.1 'echo the job is in'"
        )
        keep = f'KEY="$JOBKEY_SSH_KEY" CERTIFICATE="$JOBKEY_SSH_CERTIFICATE"; {login} && cp "$KEY" {kept}/id && cp "$CERTIFICATE" {kept}/c.pub'
        done = jobkey("exec", "payments/ssh", "--", "sh", "-c", keep)
        assert (done.returncode, done.stdout.strip()) == (0, "the job is in"), done.stderr
        shown = subprocess.run(["ssh-keygen", "-Lf", f"{kept}/c.pub"], capture_output=True, text=True, check=True)
        ends = shown.stdout.split("Valid: from ")[1].split(" to ")[1].split()[0]
        over = datetime.fromisoformat(ends).astimezone()
        time.sleep(max(0.0, (over - datetime.now(UTC)).total_seconds() + 1))
        again = subprocess.run(
            ["sh", "-c", f"KEY={kept}/id CERTIFICATE={kept}/c.pub; {login}"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert again.returncode == 255, again.stdout
        assert "expired" in server.log()


def test_a_login_lives_as_long_as_the_command(
    stage: Stage, jobkey: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    script = f"""
import os, psycopg
with psycopg.connect(host="127.0.0.1", port={stage.world.server.port}, dbname="postgres", user=os.environ["PGUSER"],
                     password=os.environ["PGPASSWORD"]) as connection:
    print(connection.execute("select session_user").fetchone()[0])
"""
    before = stage.world.leases()
    done = jobkey("exec", "payments/db", "--", sys.executable, "-c", script)
    ended = time.monotonic()
    name = done.stdout.strip()
    assert done.returncode == 0, done.stderr
    assert name.startswith("v-"), name  # the job was in, as a role that OpenBao made for it
    assert name not in stage.world.roles()
    assert stage.world.leases() == before
    assert time.monotonic() - ended < 1
    (event,) = [one for one in stage.broker.events(type="revoked")][-1:]
    assert event["by"] == "job"


@pytest.mark.parametrize("grant", ["s3", "web"])
def test_a_session_reads_the_one_object_its_policy_names(
    stage: Stage, jobkey: Callable[..., "subprocess.CompletedProcess[str]"], grant: str
) -> None:
    done = jobkey("get", f"payments/{grant}", "--format", "json")
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)["values"]
    s3 = stage.sea.client("s3", values["access_key_id"], values["secret_access_key"], values["session_token"])
    assert can(s3.get_object, Bucket="art", Key="app/x")
    assert not can(s3.get_object, Bucket="art", Key="zzz")
    assert not can(s3.put_object, Bucket="art", Key="app/x", Body=b"mine")
    s3.close()


def test_tags_and_source_identity_reach_the_trust_policy(
    stage: Stage, jobkey: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    done = jobkey("get", "payments/tagged", "--format", "json")
    assert done.returncode == 0, done.stderr + stage.broker.log[-1000:]
    credential = json.loads(done.stdout)
    values = credential["values"]
    sts = stage.mini.client("sts", values["access_key_id"], values["secret_access_key"], values["session_token"])
    assert sts.get_caller_identity()["Arn"].endswith(f"assumed-role/RealTagged/{credential['lease']}")
    sts.close()


async def test_when_the_third_mint_fails_nothing_is_left(
    http: aiohttp.ClientSession, stage: Stage, ci: IssuerProcess
) -> None:
    leases, roles = stage.world.leases(), stage.world.roles()
    token = ci.sign(JOB, audience=stage.broker.url)
    status, body = await ask(http, stage.broker, token, "payments/deploy", "payments/db", "payments/broken")
    assert (status, body["title"], body["retryable"]) == (502, "A backend failed", False), body
    assert "role" not in body["detail"]  # what the server said stays here
    books = Books(stage.broker.folder)
    (failed,) = [event for event in books.events if event["type"] == "failed" and event["case"] == body["case"]]
    states = {one["grant"]: books.leases[one["lease"]].state for one in failed["leases"]}
    assert states == {"payments/db": LeaseState.REVOKED, "payments/broken": LeaseState.REVOKED}
    assert failed["issuance"] not in books.issued
    assert (stage.world.leases(), stage.world.roles().keys()) == (leases, roles.keys())
    books.prove()


async def test_a_revoked_or_expired_login_is_dead_within_a_second(
    http: aiohttp.ClientSession, stage: Stage, ci: IssuerProcess
) -> None:
    asked = {"grant": "payments/db", "ttl": "30s"}
    secret, (revoked, expiring, signature) = await _three(http, stage, ci, asked)
    assert stage.logs_in(revoked)
    status, body = await called(http, "DELETE", f"{stage.broker.url}/v1/leases/{revoked['lease']}", secret)
    assert (status, body["state"]) == (200, "revoked")
    assert not stage.logs_in(revoked)  # the answer came after the fact
    status, body = await called(http, "DELETE", f"{stage.broker.url}/v1/leases/{signature['lease']}", secret)
    assert (status, body["state"]) == (200, "irrevocable")
    assert "until it expires" in body["reason"]
    assert stage.logs_in(expiring)
    ends = datetime.fromisoformat(expiring["expires_at"])
    assert (ends - datetime.now(UTC)).total_seconds() <= 30
    await asyncio.sleep((ends - datetime.now(UTC)).total_seconds() + 1)
    assert not stage.logs_in(expiring)
    assert stage.lease(expiring["lease"]).state is LeaseState.EXPIRED


async def _three(http: aiohttp.ClientSession, stage: Stage, ci: IssuerProcess, asked: Any) -> tuple[str, list[Any]]:
    """One session with two logins and a signature; a grant stands in one request once."""
    secret, first = await opened(http, stage, ci, asked, "payments/deploy")
    status, body = await ask(http, stage.broker, secret, asked)
    assert status == 200, body
    return secret, [first[0], body["credentials"][0], first[1]]


async def test_a_backend_that_is_gone_gets_its_revocation_when_it_is_back(
    http: aiohttp.ClientSession, stage: Stage, ci: IssuerProcess
) -> None:
    secret, (credential,) = await opened(http, stage, ci, "payments/db")
    url, lease = f"{stage.broker.url}/v1/leases/{credential['lease']}", credential["lease"]

    async def restarted(**changed: str) -> None:
        await asyncio.to_thread(stage.broker.kill)
        stage.configure(**changed)
        await asyncio.to_thread(stage.broker.start, ready=False)

    await restarted(bao=f"http://127.0.0.1:{free_port()}")
    try:
        status, body = await called(http, "DELETE", url, secret)
        assert (status, body["state"]) == (200, "revoking"), body
        assert "tried again" in body["reason"]

        async def tried_again() -> bool:
            row = stage.lease(lease)
            assert row.state is LeaseState.REVOKING
            return bool(row.attempts >= 2)

        await until(tried_again)
        assert stage.logs_in(credential)  # and the lease says why
    finally:
        await restarted()

    async def over() -> bool:
        return bool(stage.lease(lease).state is LeaseState.REVOKED)

    await until(over)
    assert not stage.logs_in(credential)
    (event,) = [one for one in stage.broker.events(type="revoked") if one["lease"] == lease]
    assert event["attempts"] >= 2
    Books(stage.broker.folder).prove()


async def test_a_renewal_is_judged_by_the_policy_of_now(
    http: aiohttp.ClientSession, stage: Stage, ci: IssuerProcess
) -> None:
    secret, (credential,) = await opened(http, stage, ci, {"grant": "payments/db", "ttl": "30s"})
    url = f"{stage.broker.url}/v1/leases/{credential['lease']}/renew"
    status, body = await called(http, "POST", url, secret, {"ttl": "50s"})
    assert status == 200, body
    assert datetime.fromisoformat(body["expires_at"]) > datetime.fromisoformat(credential["expires_at"])
    with stage.world.bao.asking() as client:
        handle = Books(stage.broker.folder).handle(credential["lease"])
        assert client.sys.read_lease(handle["lease_id"])["data"]["ttl"] > 40
    good = stage.broker.policy.read_text()

    async def renewed() -> int:
        return (await called(http, "POST", url, secret, {}))[0]

    async def refused() -> bool:
        return await renewed() == 403

    async def allowed() -> bool:
        return await renewed() == 200

    changes = {
        "the project is no longer trusted": good.replace("acme/payments", "acme/other"),
        "the grant gives another thing now": good.replace("[username], env: {PGUSER: username, ", "[username], env: {"),
    }
    try:
        for text in changes.values():
            assert text != good
            stage.broker.policy.write_text(text)
            await until(refused)
            stage.broker.policy.write_text(good)
            await until(allowed)
    finally:
        stage.broker.policy.write_text(good)
    assert stage.logs_in(credential)  # a refused renewal takes nothing away
    Books(stage.broker.folder).prove()
