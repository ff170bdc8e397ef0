"""Every backend of the table keeps every promise of the seam, against real servers.

A new line in BACKENDS is picked up by itself: `rig` asks for the fixture `rig_<kind>` and fails where there is none.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.backends import BACKENDS
from broker.backends.seam import Backend, Gone, Handle, Minted, Order, Record, Strict, Surroundings
from broker.keys.files import FileKeyStore
from tests.contract.backend_contract import CHECKS, no_io
from tests.contract.rigs.aws_sts import AwsStsRig
from tests.contract.rigs.base import Hostile, Rig, surroundings
from tests.contract.rigs.identity_token import IdentityTokenRig
from tests.contract.rigs.ssh_ca import SshCaRig
from tests.contract.rigs.vault import VaultRig, prepare
from tests.servers.issuer import Issuer
from tests.servers.openbao import OpenBao
from tests.servers.postgres import Postgres
from tests.servers.seaweedfs import SeaweedFS, seaweedfs
from tests.servers.sshd import Sshd

REAL = {"vault": pytest.mark.server, "aws-sts": pytest.mark.server, "ssh-ca": pytest.mark.system}


def cases(table: Mapping[str, type[Backend]]) -> list[Any]:
    """Every promise for every line of a table."""
    return [
        pytest.param(kind, name, id=f"{kind}-{name}", marks=[REAL[kind]] if kind in REAL else [])
        for kind in sorted(table)
        for name in CHECKS
    ]


@pytest.fixture
def around(broker_keys: FileKeyStore, broker_issuer: Issuer) -> Surroundings:
    return surroundings(broker_keys, broker_issuer.url)


@pytest.fixture(scope="session")
def hasty_seaweedfs(broker_issuer: Issuer) -> Iterator[SeaweedFS]:
    """Ends every session after four seconds, and says so in its answer."""
    with seaweedfs(broker_issuer.url, longest="4s") as server:
        yield server


@pytest.fixture(scope="session")
def vault_token(openbao_server: OpenBao, postgres_server: Postgres) -> str:
    return prepare(openbao_server, postgres_server)


@pytest.fixture
def rig_identity_token(around: Surroundings) -> Rig:
    return IdentityTokenRig(BACKENDS, around)


@pytest.fixture
def rig_ssh_ca(around: Surroundings, sshd_server: Sshd, tmp_path: Path) -> Rig:
    return SshCaRig(BACKENDS, around, sshd_server, tmp_path)


@pytest.fixture
def rig_vault(
    around: Surroundings, openbao_server: OpenBao, postgres_server: Postgres, vault_token: str, tmp_path: Path
) -> Rig:
    return VaultRig(BACKENDS, around, openbao_server, postgres_server, tmp_path, vault_token)


@pytest.fixture
def rig_aws_sts(around: Surroundings, seaweedfs_server: SeaweedFS, hasty_seaweedfs: SeaweedFS, tmp_path: Path) -> Rig:
    return AwsStsRig(BACKENDS, around, seaweedfs_server, tmp_path, hasty_seaweedfs)


def find_rig(kind: str, request: pytest.FixtureRequest) -> Rig:
    name = "rig_" + kind.replace("-", "_")
    try:
        found: Rig = request.getfixturevalue(name)
    except pytest.FixtureLookupError:
        pytest.fail(
            f"backend {kind!r} has a line in BACKENDS and no rig: write a fixture {name} that wires it to a real target",
            pytrace=False,
        )
    return found


@pytest.fixture
async def rig(request: pytest.FixtureRequest, kind: str) -> AsyncIterator[Rig]:
    found = find_rig(kind, request)
    await found.backend.start()
    yield found
    await found.close()


@pytest.mark.parametrize(("kind", "promise"), cases(BACKENDS))
async def test_contract(rig: Rig, promise: str) -> None:
    await CHECKS[promise](rig)


# --- A toy backend in one class and one line ---------------------------------------------------------------------------


class ToyOptions(Strict):
    door: str


class Toy(Backend):
    """Opens doors of a set in memory: the smallest backend that leaves a trace."""

    kind = "toy"
    trace = True
    Settings = Strict
    Options = ToyOptions
    revocation = "The key is taken off its hook."
    hooks: set[str] = set()  # noqa: RUF012  the world outside

    def __init__(self, name: str, settings: Any, around: Surroundings) -> None:
        self.around = around

    def plan(self, order: Order) -> Handle:
        return {"key": order.lease}

    async def mint(self, order: Order, record: Record) -> Minted:
        from broker.backends.seam import BackendError

        if not order.options.door.isalpha():
            raise BackendError("a door is a word", retry=False)
        key = f"{order.options.door}:{order.lease}:{order.expires_at.timestamp()}"
        await record(self.plan(order))
        self.hooks.add(key)
        return Minted(
            type="toy", values={"key": key}, secrets=("key",), env={"TOY_KEY": key}, expires_at=order.expires_at,
            fingerprinted=key, handle=self.plan(order),
        )  # fmt: skip

    async def revoke(self, handle: Handle) -> Gone:
        self.hooks -= {key for key in self.hooks if handle["key"] in key}
        return Gone()


class ToyRig(Rig):
    kind = "toy"
    brief_ttl = timedelta(seconds=1)
    settings: Mapping[str, Any] = {}
    options: Mapping[str, Any] = {"door": "front"}
    hostile = (Hostile("not a word", options={"door": "../back"}),)

    def works(self, minted: Minted) -> bool:
        import time

        key = minted.values["key"]
        return key in Toy.hooks and key.startswith("front:") and time.time() < float(key.split(":")[2])

    def works_outside(self, minted: Minted) -> bool:
        return minted.values["key"].startswith("back:")

    def exists(self, handle: Handle) -> bool:
        return any(handle["key"] in key for key in Toy.hooks)

    def unreachable(self) -> Backend:
        class Nobody(Toy):
            async def mint(self, order: Order, record: Record) -> Minted:
                from broker.backends.seam import BackendError

                raise BackendError("nobody is at the door")

            async def ping(self) -> None:
                from broker.backends.seam import BackendError

                raise BackendError("nobody is at the door")

        return Nobody("toy", Strict(), self.around)


WITH_TOY = {**BACKENDS, "toy": Toy}


def test_one_line_in_the_table_brings_every_promise_along() -> None:
    added = {case.id for case in cases(WITH_TOY)} - {case.id for case in cases(BACKENDS)}
    assert added == {f"toy-{name}" for name in CHECKS}


@pytest.mark.parametrize("promise", CHECKS)
async def test_toy_keeps(promise: str, around: Surroundings) -> None:
    await CHECKS[promise](ToyRig(WITH_TOY, around))


def test_a_line_without_a_rig_fails_by_name(request: pytest.FixtureRequest) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"'unwired' has a line in BACKENDS and no rig.*rig_unwired"):
        find_rig("unwired", request)


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        pytest.param({"revoke": "keeps"}, "revoked_within_a_second_or_says_why_not", id="revokes nothing"),
        pytest.param({"facts": "leaks"}, "secrets_are_named_and_nowhere_else", id="a secret in the facts"),
        pytest.param({"plan": "reads"}, "plan_names_it_without_input_or_output", id="a plan that opens a file"),
        pytest.param({"record": "ignored"}, "a_ledger_that_fails_leaves_nothing_behind", id="a failed record ignored"),
    ],
)
async def test_the_contract_catches_a_bad_backend(
    broken: Mapping[str, str], promise: str, around: Surroundings
) -> None:
    """A check that cannot fail proves nothing."""
    import contextlib
    import dataclasses

    class Bad(Toy):
        def plan(self, order: Order) -> Handle:
            if broken.get("plan"):
                with open("/dev/null"):
                    pass
            return super().plan(order)

        async def mint(self, order: Order, record: Record) -> Minted:
            async def carefree(handle: Handle) -> None:
                with contextlib.suppress(ConnectionError):
                    await record(handle)

            minted = await super().mint(order, carefree if broken.get("record") else record)
            return dataclasses.replace(minted, facts={"key": minted.values["key"]}) if broken.get("facts") else minted

        async def revoke(self, handle: Handle) -> Gone:
            return Gone() if broken.get("revoke") else await super().revoke(handle)

    with pytest.raises(AssertionError):
        await CHECKS[promise](ToyRig({**BACKENDS, "toy": Bad}, around))


def test_the_watch_over_plan_bites() -> None:
    with no_io(), pytest.raises(AssertionError):
        Path("/dev/null").read_bytes()
