"""MiniStack: an AWS whose IAM is really evaluated (trust, tags, source identity). It verifies no web identity's signature."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.servers import aws
from tests.servers.process import Launch, Running, free_port, script, started

ACCOUNT = "123456789012"
ROOT = ("AKIAROOT000000000000", "rootsecret")  # twelve digits would be read as an account number


@dataclass(frozen=True)
class MiniStack:
    url: str
    running: Running

    def client(self, service: str, key: str = ROOT[0], secret: str = ROOT[1], session: str | None = None) -> Any:
        return aws.client(service, self.url, key, secret, session)


def _start(launch: Launch) -> MiniStack:
    port = free_port()
    running = launch.spawn(
        [script("ministack")],
        env={
            "GATEWAY_PORT": str(port),
            "BIND_HOST": "127.0.0.1",  # all addresses by default
            "AUTH": "true",  # anything goes by default
            "MINISTACK_ACCOUNT_ID": ACCOUNT,
            "AWS_ACCESS_KEY_ID": ROOT[0],
            "AWS_SECRET_ACCESS_KEY": ROOT[1],
        },
    )
    server = MiniStack(f"http://127.0.0.1:{port}", running)
    sts = server.client("sts")
    launch.wait(running, sts.get_caller_identity)
    sts.close()
    return server


@contextlib.contextmanager
def ministack() -> Iterator[MiniStack]:
    with started(_start) as server:
        yield server
