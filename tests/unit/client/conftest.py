"""A fake broker over plain HTTP and over TLS, a CI's token service, and the client as a process."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.broker import Authority, FakeBroker, TokenService, make_token, running

CLIENT = Path(__file__).parents[3] / "clients" / "python"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    with running() as fake:
        yield fake


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def tls_broker(authority: Authority) -> Iterator[FakeBroker]:
    with running(authority) as fake:
        yield fake


@pytest.fixture
def service() -> Iterator[TokenService]:
    fake = TokenService()
    yield fake
    fake.close()


@pytest.fixture
def env(broker: FakeBroker, tmp_path: Path) -> dict[str, str]:
    """A machine that is no CI, with one token for the broker."""
    temp = tmp_path / "temp"
    temp.mkdir()
    return {
        "PATH": os.environ["PATH"],
        "TMPDIR": str(temp),
        "PYTHONPATH": str(CLIENT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "JOBKEY_URL": broker.url,
        "JOBKEY_PATIENCE": "5",
        "JOBKEY_SUBJECT_TOKEN": make_token(broker.url),
    }


@pytest.fixture
def jobkey(env: dict[str, str]) -> Run:
    def run(*argv: str, python: str = sys.executable, **more: Any) -> "subprocess.CompletedProcess[str]":
        options: dict[str, Any] = {
            "capture_output": True,
            "text": True,
            "timeout": 60,
            "env": env,
            "stdin": subprocess.DEVNULL,
            "check": False,
        }
        return subprocess.run(  # noqa: PLW1510 - among the options
            [python, "-m", "jobkey", *argv], **(options | more)
        )

    return run
