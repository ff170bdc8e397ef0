"""Ending what one lease made in OpenBao or Vault, as often as it takes. Blocking: runs in worker threads.

* The engine's lease first and in sync: revoking a token only queues its leases, so its answer alone would be a promise.
* Then the child token, and with it whatever else hangs on it, such as a lease whose id was lost in a crash.
* What is gone already is gone: only an answer that says so counts, never a 403 by itself.
"""

import contextlib
from typing import Any, Final

from broker.backends.seam import BackendError, Handle
from broker.backends.vault_api import Call, Refused, VaultApi

SEARCHED: Final = 256  # accessors looked at for a child that was never recorded
_NOT_THERE: Final = frozenset({400, 404})
_FORBIDDEN: Final = 403


def revoke(api: VaultApi, handle: Handle, until: float) -> None:
    """Revoke by a handle of any age: planned, recorded or minted. Raises BackendError to be tried again."""
    failed = _revoke_lease(api, handle["lease_id"], until) if handle.get("lease_id") else None
    accessor = handle.get("accessor")
    for child in [accessor] if accessor else _unrecorded(api, handle["lease"], until):
        try:
            api.ask("revoking the child token", _revoke_accessor(child), until=until)
        except Refused as error:
            if not error.says("invalid accessor"):  # a policy's "permission denied" has the same status
                raise
    if failed is not None:
        raise failed


def _revoke_lease(api: VaultApi, lease_id: str, until: float) -> Refused | None:
    """None where the lease is gone, or where only the child's end may do it; else the refusal, to be raised at the end."""
    data = {"lease_id": lease_id, "sync": True}
    try:
        api.ask("revoking the lease", lambda client: client.write_data("sys/leases/revoke", data=data), until=until)
    except Refused as error:
        return None if error.status in _NOT_THERE or error.status == _FORBIDDEN else error
    return None


def _unrecorded(api: VaultApi, lease: str, until: float) -> list[str]:
    """Accessors of a child that was made and never recorded, where the broker may look and they are few.

    It is dead after UNRECORDED and holds nothing, so looking is a courtesy: what fails here fails in silence.
    """
    found: list[str] = []
    with contextlib.suppress(BackendError):
        listed = api.ask("listing accessors", lambda client: client.auth.token.list_accessors(), until=until)
        for accessor in (listed.get("data") or {}).get("keys", [])[:SEARCHED]:
            with contextlib.suppress(BackendError):
                told = api.ask("looking at an accessor", _look_up(accessor), until=until)
                if ((told.get("data") or {}).get("meta") or {}).get("jobkey_lease") == lease:
                    found.append(accessor)
    return found


def _revoke_accessor(accessor: str) -> Call:
    def call(client: Any) -> Any:
        return client.auth.token.revoke_accessor(accessor)

    return call


def _look_up(accessor: str) -> Call:
    def call(client: Any) -> Any:
        return client.auth.token.lookup_accessor(accessor)

    return call
