"""`vault`: whatever OpenBao or Vault can make, and KV for what cannot be dynamic yet.

Every credential belongs to a child token of its own, and ends with it:

1. Make a child that lives for 30 seconds and can do nothing but what the grant's policies allow.
2. Make its accessor durable in the ledger.
3. Lengthen the child to the grant's TTL, then read the path with it; the engine's lease hangs on the child.

* A crash between 1 and 2 leaves a token that nobody knows, holds nothing, and is dead in 30 seconds. After 2 the ledger
  can revoke the child, and with it every lease it may have made.
* The child's token is never stored and never given to the job. Renewal goes by accessor and lease id.
* A path outside the grant's policies is refused by the server itself, whatever a template put there.
* A value without a lease (KV) has no end of its own; revoking says so instead of pretending.

A child ends with the token that made it, unless `token_role` makes orphans: the broker's own token has to outlive its
grants, be it because Vault Agent renews it. It needs `update` on auth/token/create (or create/<token_role>), renew-accessor,
revoke-accessor, sys/leases/renew and sys/leases/revoke; `sudo` and `list` on auth/token/accessors, and `update` on
lookup-accessor, let it tidy sooner after a crash.
"""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final

from broker.backends.options import listed, settled
from broker.backends.seam import (
    Backend,
    BackendError,
    Gone,
    Handle,
    Minted,
    Order,
    Power,
    Record,
    StillWorks,
    Surroundings,
    opened,
)
from broker.backends.vault_options import VaultOptions, VaultSettings
from broker.backends.vault_values import environment_of, telling_of, values_of
from broker.backends.workers import Workers

if TYPE_CHECKING:
    from broker.backends.vault_api import VaultApi

UNRECORDED: Final = timedelta(seconds=30)  # how long a child lives that no ledger knows

_OWN: Final = frozenset(
    {"auth", "identity", "sys"}
)  # what hands out policies and tokens, reached through a namespace too


class Vault(Backend):
    """Dynamic secrets and KV of one OpenBao or Vault server."""

    kind = "vault"
    trace = True
    Settings = VaultSettings
    Options = VaultOptions
    longest = timedelta(hours=12)
    renewable = True
    revocation: ClassVar[str] = "The lease and the child token that owns it are revoked; a KV value has to be rotated."

    @classmethod
    def describe(cls, options: Mapping[str, Any]) -> str:
        """The path, what is done there, and what a token that does it could do."""
        written = options.get("method") == "write"
        said = f"the fields {', '.join(options['fields'])} of " if options.get("fields") else ""
        said += f"the answer to a write to {options['path']}" if written else f"the secret at {options['path']}"
        if written and (data := options.get("data")):
            pairs = (f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in data.items())
            said += f" with {', '.join(pairs)}"
        return f"{said} by {listed(options['policies'], 'Vault policy', 'Vault policies')}"

    def __init__(self, name: str, settings: VaultSettings, around: Surroundings) -> None:  # noqa: ARG002  the seam's signature
        self._name, self._settings = name, settings
        self._workers = Workers(name, threads=settings.threads)
        self._api: VaultApi | None = None
        self._connecting = threading.Lock()

    @classmethod
    def writes(cls, options: Mapping[str, Any], settings: Any, url: str) -> Iterator[Power]:  # noqa: ARG003  the seam's signature
        """The path, read or written with the child's policies. Below a namespace it may be Vault's own configuration."""
        path = opened(options["path"])
        own = _OWN.intersection(path.split("/"))
        controls = f"Vault's own {' and '.join(sorted(own))}: who may do what on the server" if own else None
        deed = "write" if options.get("method") == "write" else "read"
        yield Power(object=f"vault:{path}", deed=deed, controls=controls)
        for policy in options["policies"]:
            yield Power(object=f"vault-policy:{policy}", deed="act under")

    async def close(self) -> None:
        self._workers.close()
        if self._api is not None:
            self._api.close()

    def plan(self, order: Order) -> Handle:
        """The child is named by its metadata. Raises BackendError where a template was left in the options."""
        settled(order.options.model_dump())
        return {"lease": order.lease}

    async def mint(self, order: Order, record: Record) -> Minted:
        options: VaultOptions = order.options
        self.plan(order)
        token, accessor = await self._run(self._make_child, order)
        handle: dict[str, Any] = {"lease": order.lease, "accessor": accessor}
        try:
            await record(handle)
        except BaseException:
            # Not in the ledger, so not in the world: sooner than its 30 seconds if the server still answers.
            with contextlib.suppress(BackendError, asyncio.CancelledError):
                await self._run(self._revoke, handle)
            raise
        body, expires = await self._run(self._read, order, token, accessor)
        lease_id = body.get("lease_id") or None
        values = values_of(options, body)
        if lease_id is None:
            handle["static"] = options.path
        else:
            handle["lease_id"] = lease_id
        return Minted(
            type="vault",
            values=values,
            secrets=tuple(name for name in values if name not in options.public),
            env=environment_of(options, values),
            expires_at=expires,
            fingerprinted=telling_of(values),
            handle=handle,
            facts={
                "path": options.path,
                "display_name": _display_name(order.lease),
                "leased": str(lease_id is not None).lower(),
            },
            renewable=bool(lease_id and body.get("renewable")),
        )

    async def renew(self, handle: Handle, until: datetime) -> datetime:
        if not handle.get("lease_id"):
            raise BackendError("a value without a lease cannot be renewed", retry=False)
        ends: datetime = await self._run(self._lengthen, handle, until)
        return ends

    async def revoke(self, handle: Handle) -> Gone | StillWorks:
        """Raises BackendError with `retry`, always: a token that may not revoke today may be mended tomorrow."""
        try:
            await self._run(self._revoke, handle)
        except BackendError as error:
            raise BackendError(str(error)) from None
        if path := handle.get("static"):
            return StillWorks(f"{path} is a static value: what was read works until somebody rotates it")
        return Gone()

    async def ping(self) -> None:
        await self._run(self._look_up)

    async def _run(self, step: Any, *args: Any) -> Any:
        timeout = self._settings.timeout
        return await self._workers.run(step, *args, time.monotonic() + timeout, deadline=timeout + 1)

    # What follows runs in worker threads; `end` is the monotonic instant at which a step gives up.

    def _connected(self) -> "VaultApi":
        from broker.backends.vault_api import VaultApi  # noqa: PLC0415  hvac costs memory that other backends need not pay

        with self._connecting:
            if self._api is None:
                settings = self._settings
                self._api = VaultApi(
                    self._name,
                    url=settings.url,
                    token=settings.auth.token,
                    namespace=settings.namespace,
                    ca_file=settings.ca_file,
                    threads=settings.threads,
                )
            return self._api

    def _make_child(self, order: Order, end: float) -> tuple[str, str]:
        meta = {"jobkey_lease": order.lease, "jobkey_issuance": order.issuance, "jobkey_grant": order.grant}
        if order.job.run_id:
            meta["jobkey_run"] = order.job.run_id[:128]
        answer = self._connected().ask(
            "making a child token",
            lambda client: client.auth.token.create(
                role_name=self._settings.token_role,
                policies=list(order.options.policies),
                no_default_policy=True,
                renewable=True,
                ttl=_seconds(UNRECORDED),
                explicit_max_ttl=_seconds(self.longest),
                display_name=_display_name(order.lease),
                meta=meta,
            ),
            until=end,
        )
        auth = answer.get("auth") or {}
        token, accessor = auth.get("client_token"), auth.get("accessor")
        if not token or not accessor:
            raise BackendError(
                f"{self._name}: the server made no service token; batch tokens cannot be revoked", retry=False
            )
        return token, accessor

    def _read(self, order: Order, token: str, accessor: str, end: float) -> tuple[Mapping[str, Any], datetime]:
        options: VaultOptions = order.options
        api, now = self._connected(), datetime.now(UTC)
        left = order.expires_at - now
        ttl = left if timedelta(0) < left < order.ttl else order.ttl  # what was spent on the way is not added again
        child_ends = self._lengthen_child(accessor, ttl, end)
        asked = datetime.now(UTC)
        if options.method == "write":
            body = api.ask(
                "writing the path",
                lambda c: c.write_data(options.path, data=options.data or {}),
                until=end,
                token=token,
            )
        else:
            body = api.ask("reading the path", lambda c: c.adapter.get(f"/v1/{options.path}"), until=end, token=token)
        if body.get("auth") or body.get("wrap_info"):
            raise BackendError("the path gives a token, not a secret; grant a secrets engine's path", retry=False)
        lease_id, lasts = body.get("lease_id"), int(body.get("lease_duration") or 0)
        if not lease_id:
            return body, child_ends
        lease_ends = asked + timedelta(seconds=lasts)
        if lease_ends < child_ends - timedelta(seconds=1) and body.get("renewable"):
            with contextlib.suppress(BackendError):  # then it is as long as the engine made it, and we say that
                lease_ends = self._lengthen_lease(lease_id, child_ends - asked, end)
        return body, min(child_ends, lease_ends)

    def _lengthen(self, handle: Handle, until: datetime, end: float) -> datetime:
        more = until - datetime.now(UTC)
        if more < timedelta(seconds=1):
            raise BackendError("the new end is not in the future", retry=False)
        child_ends = self._lengthen_child(handle["accessor"], more, end)
        return min(child_ends, self._lengthen_lease(handle["lease_id"], more, end))

    def _lengthen_child(self, accessor: str, ttl: timedelta, end: float) -> datetime:
        now = datetime.now(UTC)
        answer = self._connected().ask(
            "lengthening the child token",
            lambda client: client.auth.token.renew_accessor(accessor, increment=_seconds(ttl)),
            until=end,
        )
        return now + timedelta(seconds=int((answer.get("auth") or {}).get("lease_duration") or 0))

    def _lengthen_lease(self, lease_id: str, ttl: timedelta, end: float) -> datetime:
        now = datetime.now(UTC)
        answer = self._connected().ask(
            "renewing the lease", lambda client: client.sys.renew_lease(lease_id, increment=_whole(ttl)), until=end
        )
        return now + timedelta(seconds=int(answer.get("lease_duration") or 0))

    def _revoke(self, handle: Handle, end: float) -> None:
        from broker.backends.vault_revoke import revoke  # noqa: PLC0415  see _connected

        revoke(self._connected(), handle, end)

    def _look_up(self, end: float) -> None:
        self._connected().ask(
            "looking up the broker's token", lambda client: client.auth.token.lookup_self(), until=end
        )


def _display_name(lease: str) -> str:
    return f"jobkey-{lease}"


def _whole(ttl: timedelta) -> int:
    return max(1, int(ttl.total_seconds()))


def _seconds(ttl: timedelta) -> str:
    return f"{_whole(ttl)}s"
