"""Session-wide real servers, each started by the first test that asks for it."""

from collections.abc import Iterator

import pytest

from broker.backends.identity_token import jwks
from broker.keys.files import FileKeyStore
from tests.servers.issuer import Issuer, issuer
from tests.servers.ministack import MiniStack, ministack
from tests.servers.openbao import OpenBao, openbao
from tests.servers.postgres import Postgres, postgres
from tests.servers.seaweedfs import SeaweedFS, seaweedfs
from tests.servers.sshd import Sshd, sshd


@pytest.fixture(scope="session")
def broker_keys(tmp_path_factory: pytest.TempPathFactory) -> FileKeyStore:
    """Real keys in files: what the servers below are told to trust."""
    return FileKeyStore(tmp_path_factory.mktemp("broker-keys"))


@pytest.fixture(scope="session")
def broker_issuer(broker_keys: FileKeyStore) -> Iterator[Issuer]:
    """The broker's discovery document and keys; its URL is the `iss` of identity tokens."""
    with issuer(lambda: jwks(broker_keys)) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture(scope="session")
def openbao_server() -> Iterator[OpenBao]:
    """In memory; `add_postgres` gives it the database engine."""
    with openbao() as server:
        yield server


@pytest.fixture(scope="session")
def seaweedfs_server(broker_issuer: Issuer) -> Iterator[SeaweedFS]:
    """Trusts the broker's identity tokens."""
    with seaweedfs(broker_issuer.url) as server:
        yield server


@pytest.fixture(scope="session")
def ministack_server() -> Iterator[MiniStack]:
    with ministack() as server:
        yield server


@pytest.fixture(scope="session")
def sshd_server(broker_keys: FileKeyStore) -> Iterator[Sshd]:
    """Trusts the broker's SSH CA for the principal `deploy`. Skips where there is no sshd."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    ca = broker_keys.public("ssh-ca")[0].key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    with sshd(ca) as server:
        yield server
