"""The two steps of a Vault mint, broken off at every place; KV told honestly; a server that throttles, moves or lies."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import hvac
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from broker.backends import BACKENDS
from broker.backends.seam import BackendError, Gone, Handle, StillWorks
from broker.backends.vault import UNRECORDED, Vault
from broker.keys.files import FileKeyStore
from tests.contract.rigs.base import remember, surroundings
from tests.contract.rigs.vault import BROKER_POLICY, VaultRig, children, prepare
from tests.servers.faults import Answer, hop
from tests.servers.openbao import OpenBao, openbao
from tests.servers.postgres import Postgres
from tests.servers.process import eventually

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def token(openbao_server: OpenBao, postgres_server: Postgres) -> str:
    return prepare(openbao_server, postgres_server)


@pytest.fixture
async def rig(
    broker_keys: FileKeyStore, openbao_server: OpenBao, postgres_server: Postgres, token: str, tmp_path: Path
) -> AsyncIterator[VaultRig]:
    around = surroundings(broker_keys, "https://broker.acme.example")
    found = VaultRig(BACKENDS, around, openbao_server, postgres_server, tmp_path, token)
    yield found
    await found.close()


def leases(bao: OpenBao, role: str = "ro") -> set[str]:
    with bao.asking() as client:
        try:
            return set(client.sys.list_leases(f"database/creds/{role}/")["data"]["keys"])
        except hvac.exceptions.InvalidPath:
            return set()


class Crash(BaseException):
    """kill -9, as far as the code after it is concerned."""


# --- Broken off -----------------------------------------------------------------------------------------------------


async def test_killed_before_the_record_nothing_that_matters_is_left(
    rig: VaultRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = leases(rig.bao)
    order = rig.order()

    async def killed(handle: Handle) -> None:
        raise Crash

    monkeypatch.setattr(Vault, "_revoke", lambda *_: (_ for _ in ()).throw(Crash))  # the dead clean nothing up
    with pytest.raises(Crash):
        await rig.backend.mint(order, killed)
    monkeypatch.undo()
    (child,) = children(rig.bao, order.lease)
    assert child["ttl"] <= UNRECORDED.total_seconds()
    assert leases(rig.bao) == before, "no lease before the record"
    assert isinstance(await rig.backend.revoke(rig.backend.plan(order)), Gone)
    assert not children(rig.bao, order.lease)


async def test_killed_before_the_record_without_the_right_to_look(rig: VaultRig, tmp_path: Path) -> None:
    """Then nobody tidies, and the child's 30 seconds do."""
    modest = BROKER_POLICY.replace('path "auth/token/accessors"           { capabilities = ["list", "sudo"] }', "")
    assert modest != BROKER_POLICY
    (tmp_path / "modest").write_text(rig.bao.token("modest", modest))
    backend = rig.build(auth={"token": f"file:{tmp_path}/modest"})
    planned = backend.plan(rig.order())
    assert isinstance(await backend.revoke(planned), Gone)
    assert rig.works(await backend.mint(rig.order(), remember)), "all the rest needs no such right"


async def test_killed_after_the_read_the_record_is_enough(rig: VaultRig) -> None:
    recorded: list[Handle] = []

    async def record(handle: Handle) -> None:
        recorded.append(dict(handle))

    minted = await rig.backend.mint(rig.order(), record)  # and its answer is lost
    assert rig.works(minted)
    assert set(recorded[0]) == {"lease", "accessor"}
    assert isinstance(await rig.backend.revoke(recorded[0]), Gone)
    assert eventually(lambda: not rig.works(minted), within=1.0)
    assert eventually(lambda: minted.handle["lease_id"].rsplit("/", 1)[1] not in leases(rig.bao), within=1.0)


async def test_a_cancelled_request_leaves_a_handle_that_ends_it(rig: VaultRig) -> None:
    recorded: list[Handle] = []
    order = rig.order()

    async def slow(handle: Handle) -> None:
        recorded.append(dict(handle))
        await asyncio.sleep(60)

    minting = asyncio.create_task(rig.backend.mint(order, slow))
    while not recorded:
        await asyncio.sleep(0.01)
    minting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await minting
    assert isinstance(await rig.backend.revoke(recorded[0]), Gone)
    assert not children(rig.bao, order.lease)


async def test_the_child_may_do_what_the_policy_says_and_no_more(rig: VaultRig) -> None:
    order = rig.order()
    await rig.mint(order)
    (child,) = children(rig.bao, order.lease)
    assert child["policies"] == ["payments-ro"]
    assert child["orphan"] is False
    assert child["meta"]["jobkey_run"] == "7700"
    assert child["meta"]["jobkey_issuance"] == order.issuance
    assert child["explicit_max_ttl"] == Vault.longest.total_seconds()


async def test_twenty_at_once(rig: VaultRig) -> None:
    minted = await asyncio.gather(*(rig.mint() for _ in range(20)))
    assert len({credential.values["username"] for credential in minted}) == 20
    assert all(
        isinstance(answer, Gone) for answer in await asyncio.gather(*(rig.backend.revoke(m.handle) for m in minted))
    )
    assert not any(rig.works(credential) for credential in minted)


# --- How long -------------------------------------------------------------------------------------------------------


async def test_a_lease_shorter_than_the_grant_is_lengthened(rig: VaultRig) -> None:
    order = rig.order(ttl=timedelta(minutes=15))
    minted = await rig.mint(order)
    assert order.expires_at - timedelta(seconds=5) < minted.expires_at <= order.expires_at + timedelta(seconds=1)


async def test_an_engine_with_a_lower_limit_is_believed(rig: VaultRig) -> None:
    rig.bao.add_postgres(rig.server, "ro", default_ttl="5s", max_ttl="20s")
    try:
        minted = await rig.mint(rig.order(ttl=timedelta(minutes=15)))
        left = minted.expires_at - datetime.now(UTC)
        assert left <= timedelta(seconds=20)
        ends = await rig.backend.renew(minted.handle, datetime.now(UTC) + timedelta(hours=1))
        assert ends <= minted.expires_at + timedelta(seconds=2)
    finally:
        rig.bao.add_postgres(rig.server, "ro")


# --- KV -------------------------------------------------------------------------------------------------------------

KV = {"path": "kv/data/payments", "policies": ["payments-kv"], "kv": 2, "env": None, "public": []}


@pytest.fixture
def stored(rig: VaultRig) -> None:
    with rig.bao.asking() as client:
        for _ in range(20):  # the engine upgrades itself after it is mounted
            try:
                client.secrets.kv.v2.create_or_update_secret(
                    "payments", {"api-key": "s3cr3t-kv", "port": 5432, "tls": True, "more": {"a": 1}}, mount_point="kv"
                )
                return
            except hvac.exceptions.InvalidRequest:
                import time

                time.sleep(0.1)


@pytest.mark.usefixtures("stored")
async def test_kv_is_read_and_revoking_is_honest(rig: VaultRig) -> None:
    order = rig.order(options=KV)
    minted = await rig.mint(order)
    assert minted.values == {"api-key": "s3cr3t-kv", "port": 5432, "tls": True, "more": {"a": 1}}
    assert minted.env == {"SECRET_API_KEY": "s3cr3t-kv", "SECRET_PORT": "5432", "SECRET_TLS": "true"}
    assert not minted.renewable
    assert minted.facts["leased"] == "false"
    said = await rig.backend.revoke(minted.handle)
    assert isinstance(said, StillWorks)
    assert "kv/data/payments" in said.why
    assert "rotates" in said.why
    assert not children(rig.bao, order.lease), "the child is gone even so"


@pytest.mark.usefixtures("stored")
async def test_fields_are_chosen(rig: VaultRig) -> None:
    chosen = {**KV, "fields": ["api-key"], "env": {"PAYMENTS_KEY": "api-key"}}
    minted = await rig.mint(rig.order(options=chosen))
    assert (minted.values, minted.env) == ({"api-key": "s3cr3t-kv"}, {"PAYMENTS_KEY": "s3cr3t-kv"})
    for bad in ({"fields": ["nope"]}, {"env": {"X": "port"}}, {"path": "kv/data/nothing"}):
        with pytest.raises(BackendError) as refused:
            await rig.mint(rig.order(options={**chosen, **bad}))
        assert "s3cr3t-kv" not in str(refused.value)


# --- A server that misbehaves ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [412, 429, 503])
async def test_throttling_and_standbys_are_waited_out(rig: VaultRig, status: int) -> None:
    with hop(rig.bao.url, ("create", Answer(status)), ("creds", Answer(status)), ("creds", Answer(status))) as between:
        backend = rig.build(url=between.url)
        assert rig.works(await backend.mint(rig.order(), remember))
        assert not between.plan


async def test_a_lost_answer_is_asked_again_and_both_logins_end(rig: VaultRig) -> None:
    before = leases(rig.bao)
    with hop(rig.bao.url, ("creds", Answer(200, lost=True))) as between:
        backend = rig.build(url=between.url)
        minted = await backend.mint(rig.order(), remember)
        assert len(leases(rig.bao) - before) == 2
        assert isinstance(await backend.revoke(minted.handle), Gone)
    assert eventually(lambda: leases(rig.bao) <= before, within=1.0)


async def test_patience_ends(rig: VaultRig) -> None:
    with hop(rig.bao.url, ("create", Answer(200, hang=30))) as between:
        backend = rig.build(url=between.url, timeout=0.3)
        with pytest.raises(BackendError) as failed:
            await backend.mint(rig.order(), remember)
        assert failed.value.retry


async def test_the_token_is_not_sent_after_a_redirect(rig: VaultRig, token: str) -> None:
    with (
        hop(None) as elsewhere,
        hop(None, ("", Answer(307, headers={"Location": elsewhere.url + "/v1/auth/token/create"}))) as moved,
    ):
        with pytest.raises(BackendError, match="active node"):
            await rig.build(url=moved.url).mint(rig.order(), remember)
        assert moved.asked[0][2]["X-Vault-Token"] == token
        assert not elsewhere.asked


@pytest.mark.parametrize("status", [400, 403, 404, 500])
async def test_what_a_server_says_is_never_repeated(rig: VaultRig, token: str, status: int) -> None:
    body = (
        b'{"errors": ["pq: password authentication failed: postgres://u:hunter2@db/"], "data": {"password": "hunter2"}}'
    )
    with hop(rig.bao.url, ("creds", Answer(status, body, {"Content-Type": "application/json"}))) as between:
        with pytest.raises(BackendError) as failed:
            await rig.build(url=between.url).mint(rig.order(), remember)
        text = str(failed.value) + repr(failed.value)
        assert "hunter2" not in text
        assert token not in text
        assert failed.value.retry is (status >= 500)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b"<html>", b'{"data": null}', b'{"data": {}}', b'{"data": [1]}', b'{"auth": {"client_token": "hvs.x"}, "data": {"a": "b"}}',
     b'{"wrap_info": {"token": "hvs.x"}}', b'{"data": {"a": "b"}, "x": "' + b"a" * (1 << 20) + b'"}'],
)  # fmt: skip
async def test_answers_that_are_no_secret(rig: VaultRig, body: bytes) -> None:
    order = rig.order()
    recorded: list[Handle] = []

    async def record(handle: Handle) -> None:
        recorded.append(handle)

    with hop(rig.bao.url, ("creds", Answer(200, body))) as between:
        backend = rig.build(url=between.url)
        with pytest.raises(BackendError):
            await backend.mint(order, record)
        await backend.revoke(recorded[-1])
    assert not children(rig.bao, order.lease)


async def test_a_broken_reference_names_itself(rig: VaultRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BAO_TOKEN_OF_TEST", raising=False)
    backend = rig.build(auth={"token": "env:BAO_TOKEN_OF_TEST"})
    with pytest.raises(BackendError, match="env:BAO_TOKEN_OF_TEST is not set") as failed:
        await backend.ping()
    assert failed.value.retry


async def test_a_token_that_is_replaced_in_its_file_is_used_at_once(rig: VaultRig, token: str) -> None:
    rig.token_file.write_text("hvs.wrong")
    with pytest.raises(BackendError, match="403"):
        await rig.backend.ping()
    with pytest.raises(BackendError) as failed:
        await rig.backend.revoke({"lease": "lse_x", "accessor": "x"})
    assert failed.value.retry, "a lease is not given up because the broker's token ran out"
    rig.token_file.write_text(token)
    await rig.backend.ping()


async def test_environment_and_netrc_of_the_broker_steer_nothing(
    rig: VaultRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("VAULT_ADDR", "VAULT_TOKEN", "VAULT_NAMESPACE", "HTTP_PROXY", "http_proxy", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert rig.works(await rig.mint())


@pytest.mark.parametrize(
    "url",
    ["http://bao.acme.example:8200", "ftp://127.0.0.1", "https://", "https://u:p@bao.acme.example", "https://bao/?x", "https://bao/#x",
     "https://b\u0430o", "http://127.0.0.1.evil.example", "http://[::1", "https://bao:port", ""],
)  # fmt: skip
def test_urls_that_would_show_the_token(rig: VaultRig, url: str) -> None:
    with pytest.raises(ValueError):
        rig.build(url=url)


def authority(folder: Path) -> tuple[Path, Path]:
    """A CA's certificate, and a server's certificate for 127.0.0.1 with its key."""
    now, key = datetime.now(UTC), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bao")])
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(minutes=5)).not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = certificate.public_bytes(Encoding.PEM)
    (folder / "ca.pem").write_bytes(pem)
    (folder / "server.pem").write_bytes(pem + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder / "ca.pem", folder / "server.pem"


async def test_tls_is_verified_against_the_ca_file_and_nothing_else(rig: VaultRig, tmp_path: Path, token: str) -> None:
    ca, server = authority(tmp_path)
    with hop(rig.bao.url, tls=server) as secure:
        for settings in ({}, {"ca_file": str(ca)}):
            backend = rig.build(url=secure.url, timeout=1, **settings)
            if settings:
                await backend.ping()
            else:
                with pytest.raises(BackendError, match="no answer"):
                    await backend.ping()
                assert not secure.asked, "the token went to a server that nobody vouched for"
    assert secure.asked[0][2]["X-Vault-Token"] == token


async def test_storage_on_postgresql_works_the_same(
    broker_keys: FileKeyStore, postgres_server: Postgres, tmp_path: Path
) -> None:
    with openbao(on=postgres_server) as bao:
        around = surroundings(broker_keys, "https://broker.acme.example")
        rig = VaultRig(BACKENDS, around, bao, postgres_server, tmp_path, prepare(bao, postgres_server))
        minted = await rig.mint()
        assert rig.works(minted)
        assert isinstance(await rig.backend.revoke(minted.handle), Gone)
        assert not rig.works(minted)
        await rig.close()


def settings_schema() -> dict[str, Any]:
    return Vault.Settings.model_json_schema()


def test_the_schema_asks_for_a_reference() -> None:
    assert settings_schema()["$defs"]["Auth"]["properties"]["token"]["pattern"].startswith("^(env:")
