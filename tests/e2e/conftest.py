"""One real broker process for a module's tests, with a real issuer beside it."""

from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from tests.e2e.broker_process import JOB, BrokerProcess
from tests.e2e.issuer_process import IssuerProcess


@pytest.fixture(scope="module")
def ci() -> Iterator[IssuerProcess]:
    with IssuerProcess() as process:
        yield process


@pytest.fixture(scope="module")
def broker(ci: IssuerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path_factory.mktemp("broker"), issuer=ci.url) as process:
        yield process


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=256)) as session:
        yield session


@pytest.fixture
def push(ci: IssuerProcess, broker: BrokerProcess) -> str:
    """A fresh token of a push to main."""
    return ci.sign(JOB, audience=broker.url)
