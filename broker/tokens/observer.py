"""What the verifier tells whoever counts. No metrics library in here; broker.web brings one."""

from collections.abc import Sequence
from typing import Protocol


class Observer(Protocol):
    """Called in the middle of a request, so it must be quick and must not raise.

    No argument holds an attacker's text, but for the claim names of `unknown_claims`, which an issuer has signed.
    """

    def token_verified(self, issuer: str) -> None: ...

    def token_rejected(self, issuer: str | None, why: str) -> None:
        """`why` is one of verify.REASONS; `issuer` a configured name, or None before one was chosen."""

    def unknown_claims(self, kind: str, names: Sequence[str]) -> None:
        """Claims that stand in no trust class of the kind: its CI signs something new."""

    def keys_fetched(self, issuer: str, *, ok: bool) -> None: ...


class Silent:
    """Counts nothing."""

    def token_verified(self, issuer: str) -> None: ...

    def token_rejected(self, issuer: str | None, why: str) -> None: ...

    def unknown_claims(self, kind: str, names: Sequence[str]) -> None: ...

    def keys_fetched(self, issuer: str, *, ok: bool) -> None: ...
