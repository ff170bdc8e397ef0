"""Certificates at a real sshd: what each option allows and forbids, and what its log says."""

import subprocess
from pathlib import Path

import pytest

from broker.backends.ssh_ca import SshCa, serial_of
from broker.keys.files import FileKeyStore
from broker.model import JobIdentity
from tests.contract.rigs.base import surroundings
from tests.contract.rigs.ssh_ca import SshCaRig
from tests.servers.sshd import Sshd, key_pair

pytestmark = pytest.mark.system


@pytest.fixture
def rig(broker_keys: FileKeyStore, sshd_server: Sshd, tmp_path: Path) -> SshCaRig:
    return SshCaRig({"ssh-ca": SshCa}, surroundings(broker_keys, "https://broker.acme.example"), sshd_server, tmp_path)


@pytest.mark.parametrize(("kind", "bits"), [("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521"), ("rsa", "3072")])
async def test_every_kind_of_key_logs_in(
    rig: SshCaRig, sshd_server: Sshd, tmp_path: Path, kind: str, bits: str
) -> None:
    private, public = key_pair(tmp_path, kind, "-b", bits)
    minted = await rig.mint(rig.order(params={"public_key": public}))
    assert sshd_server.login(private, minted.values["certificate"]).output == "in"


async def test_another_principal_is_shown_out(rig: SshCaRig, sshd_server: Sshd) -> None:
    minted = await rig.mint(rig.order(options={"principals": ["deployer"]}))
    assert not sshd_server.login(rig.key, minted.values["certificate"]).worked
    minted = await rig.mint(rig.order(options={"principals": ["deployer", "deploy"]}))
    assert sshd_server.login(rig.key, minted.values["certificate"]).worked


async def test_a_stolen_certificate_opens_nothing(rig: SshCaRig, sshd_server: Sshd, tmp_path: Path) -> None:
    minted = await rig.mint()
    (tmp_path / "thief").mkdir()
    other, _ = key_pair(tmp_path / "thief")
    assert not sshd_server.login(other, minted.values["certificate"]).worked


async def test_the_forced_command_is_the_only_one(rig: SshCaRig, sshd_server: Sshd) -> None:
    minted = await rig.mint(rig.order(options={"force_command": "echo forced"}))
    assert sshd_server.login(rig.key, minted.values["certificate"], command="echo mine").output == "forced"


@pytest.mark.parametrize(("networks", "worked"), [(["127.0.0.0/8"], True), (["192.0.2.0/24", "2001:db8::/32"], False)])
async def test_source_addresses(rig: SshCaRig, sshd_server: Sshd, networks: list[str], *, worked: bool) -> None:
    minted = await rig.mint(rig.order(options={"source_addresses": networks}))
    assert sshd_server.login(rig.key, minted.values["certificate"]).worked is worked


async def test_an_extension_is_given_only_where_it_is_named(rig: SshCaRig, sshd_server: Sshd) -> None:
    forward = ("-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:9")
    allowed = await rig.mint(rig.order(options={"extensions": ["permit-port-forwarding"]}))
    assert sshd_server.login(rig.key, allowed.values["certificate"], options=forward).worked
    assert not sshd_server.login(rig.key, (await rig.mint()).values["certificate"], options=forward).worked


async def test_a_certificate_of_another_ca_is_refused(rig: SshCaRig, sshd_server: Sshd, tmp_path: Path) -> None:
    other = surroundings(FileKeyStore(tmp_path / "other-keys"), "https://broker.acme.example")
    (tmp_path / "pair").mkdir()
    stranger = SshCaRig({"ssh-ca": SshCa}, other, sshd_server, tmp_path / "pair")
    assert not sshd_server.login(stranger.key, (await stranger.mint()).values["certificate"]).worked


async def test_the_log_leads_from_a_login_to_the_lease(rig: SshCaRig, sshd_server: Sshd) -> None:
    order = rig.order(job=JobIdentity(project='acme/pay "x"\n(serial 1)', run_id="77"))
    minted = await rig.mint(order)
    assert sshd_server.login(rig.key, minted.values["certificate"]).worked
    said = f'ID "lease={order.lease} grant=payments/deploy project=acme/pay__x___serial_1_ run=77" (serial {serial_of(order.lease)})'
    assert said in sshd_server.log()
    assert minted.facts["serial"] == str(serial_of(order.lease))


async def test_a_krl_by_the_recorded_serial_or_key_id_names_it(rig: SshCaRig, tmp_path: Path) -> None:
    """The handle holds what a KRL needs, which is how such a certificate will be revoked."""
    minted = await rig.mint()
    (tmp_path / "ca.pub").write_text(minted.values["ca"] + "\n")
    (tmp_path / "c-cert.pub").write_text(minted.values["certificate"] + "\n")
    for name, spec in (("serial", f"serial: {minted.handle['serial']}"), ("id", f"id: {minted.handle['key_id']}")):
        (tmp_path / "spec").write_text(spec + "\n")
        krl = str(tmp_path / f"krl-{name}")
        subprocess.run(
            ["ssh-keygen", "-k", "-f", krl, "-s", str(tmp_path / "ca.pub"), str(tmp_path / "spec")], check=True
        )
        asked = subprocess.run(
            ["ssh-keygen", "-Q", "-f", krl, str(tmp_path / "c-cert.pub")], capture_output=True, check=False
        )
        assert asked.returncode == 1, "ssh-keygen -Q ends with 1 where a key is revoked"
