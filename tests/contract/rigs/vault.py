"""A real OpenBao that makes logins in a real PostgreSQL, asked with a token that may do only what the docs say."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from broker.backends.seam import Backend, Handle, Minted, Surroundings
from tests.contract.rigs.base import Hostile, Rig
from tests.servers.openbao import OpenBao
from tests.servers.postgres import Postgres
from tests.servers.process import free_port

BROKER_POLICY = """
path "auth/token/create/jobkey"       { capabilities = ["update"] }
path "auth/token/renew-accessor"      { capabilities = ["update"] }
path "auth/token/revoke-accessor"     { capabilities = ["update"] }
path "auth/token/lookup-accessor"     { capabilities = ["update"] }
path "auth/token/accessors"           { capabilities = ["list", "sudo"] }
path "sys/leases/renew"               { capabilities = ["update"] }
path "sys/leases/revoke"              { capabilities = ["update"] }
"""


def prepare(bao: OpenBao, server: Postgres) -> str:
    """Engines, roles and policies as the docs tell an operator to make them; the answer is the broker's token."""
    bao.add_postgres(server, "ro")
    bao.add_postgres(server, "other")
    server.ask("create table if not exists kept (x int)")
    with bao.asking() as client:
        client.sys.create_or_update_policy("payments-ro", 'path "database/creds/ro" { capabilities = ["read"] }')
        client.sys.create_or_update_policy("payments-kv", 'path "kv/data/payments" { capabilities = ["read"] }')
        client.auth.token.create_or_update_role("jobkey", allowed_policies=["payments-ro", "payments-kv"], orphan=False)
        if "kv/" not in client.sys.list_mounted_secrets_engines()["data"]:
            client.sys.enable_secrets_engine("kv", options={"version": "2"})
    return bao.token("jobkey-broker", BROKER_POLICY)


class VaultRig(Rig):
    kind = "vault"
    options: Mapping[str, Any] = {
        "path": "database/creds/ro",
        "policies": ["payments-ro"],
        "public": ["username"],
        "env": {"PGUSER": "username", "PGPASSWORD": "password"},
    }
    hostile = (
        *(Hostile(f"path {path!r}", options={"path": path}) for path in (
            "", "database", "/database/creds/ro", "database//creds", "database/../sys/raw", "database/creds/..",
            "database/creds/./ro", "database/creds/ro/", "database/creds/ro?list=true", "database/creds/%2e%2e/x",
            "database/creds/r*", "database/creds/ro\n", "database/creds/r\0o", "database/creds/r\u043e", "sys/raw/x",
            "auth/token/create", "cubbyhole/x", "identity/oidc/token/x", "database/creds/{{ job.ref }}", "database/creds/a b",
            'database/creds/"', "database\\creds\\ro", "database/creds/ro#x",
        )),
        Hostile("no policies", options={"policies": []}),
        Hostile("the root policy", options={"policies": ["root"]}),
        Hostile("a policy with a newline", options={"policies": ["payments-ro\n"]}),
        Hostile("a path its policies do not allow", options={"path": "database/creds/other"}),
        Hostile("a policy the broker may not hand on", options={"policies": ["jobkey-broker"]}),
        Hostile("a field that is not there", options={"fields": ["nope"]}),
        Hostile("a variable that runs code", options={"env": {"BASH_ENV": "password"}}),
        Hostile("a variable of the CI's", options={"env": {"GITHUB_ENV": "password"}}),
        Hostile("a parameter nobody asked for", params={"path": "x"}),
    )  # fmt: skip

    def __init__(  # noqa: PLR0917  called once, by a fixture
        self,
        table: Mapping[str, type[Backend]],
        around: Surroundings,
        bao: OpenBao,
        server: Postgres,
        folder: Path,
        token: str,
    ) -> None:
        self.bao, self.server = bao, server
        self.token_file = folder / "token"
        with open(os.open(self.token_file, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            file.write(token + "\n")
        super().__init__(table, around)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"url": self.bao.url, "auth": {"token": f"file:{self.token_file}"}, "token_role": "jobkey"}

    def works(self, minted: Minted) -> bool:
        return self.server.can_log_in(minted.values["username"], minted.values["password"])

    def works_outside(self, minted: Minted) -> bool:
        import psycopg

        try:
            self.server.ask("select * from kept", user=minted.values["username"], password=minted.values["password"])
        except psycopg.errors.InsufficientPrivilege:
            return False
        return True

    def exists(self, handle: Handle) -> bool:
        return bool(children(self.bao, handle["lease"])) or self._leased(handle)

    def _leased(self, handle: Handle) -> bool:
        import hvac

        if not handle.get("lease_id"):
            return False
        with self.bao.asking() as client:
            try:
                client.sys.read_lease(handle["lease_id"])
            except hvac.exceptions.InvalidRequest:
                return False
            return True

    def unreachable(self) -> Backend:
        return self.build(url=f"http://127.0.0.1:{free_port()}", timeout=0.5)


def children(bao: OpenBao, lease: str) -> list[dict[str, Any]]:
    """Every child token made for a lease, as the server's root sees them."""
    import hvac

    found = []
    with bao.asking() as client:
        for accessor in client.auth.token.list_accessors()["data"]["keys"]:
            try:
                data = client.auth.token.lookup_accessor(accessor)["data"]
            except (hvac.exceptions.InvalidPath, hvac.exceptions.InvalidRequest, hvac.exceptions.Forbidden):
                continue  # it ended between the two questions
            if (data.get("meta") or {}).get("jobkey_lease") == lease:
                found.append(data)
    return found
