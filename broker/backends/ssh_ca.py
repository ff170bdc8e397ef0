"""`ssh-ca`: an OpenSSH user certificate for a key pair that the job made and never shows.

* The private key never leaves the job. The certificate alone opens nothing, so no value of this backend is a secret.
* Never without principals, never with an extension that the policy does not name, never longer than the grant.
* Key id and serial stand in sshd's log on every login; the key id starts with the lease.
"""

import hashlib
import ipaddress
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, Final, Literal

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import AfterValidator, Field

from broker.backends import ssh_wire
from broker.backends.options import listed, settled, whole
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
    Strict,
    Surroundings,
    Templated,
    opened,
)

CLOCK_SKEW: Final = 60  # seconds that a target's clock may be behind
PRINCIPAL: Final = r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}"  # no comma, space or control: none can become two, or an option
_PRINCIPAL: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,254}")
_COMMAND: Final = re.compile(r"[^\x00-\x1f\x7f]{1,2048}")
_KEY_ID_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._/:@+=-]")


def _principal(name: str) -> str:
    return whole(_PRINCIPAL, name, "a principal is letters, digits and _ . @ -, not starting with . @ or -")


def _network(text: str) -> str:
    if "/" not in text:
        raise ValueError("an address with its prefix length is expected, such as 192.0.2.0/24")
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        raise ValueError("a network such as 192.0.2.0/24 is expected, with no bits set after the prefix") from None


def _command(text: str) -> str:
    if not _COMMAND.fullmatch(text) or "{{" in text:
        raise ValueError("a command is one line without control characters and without a template")
    return text


def _public_key(line: str) -> str:
    ssh_wire.read_public_key(line)
    return line


def _distinct(items: list[str]) -> list[str]:
    if len(set(items)) != len(items):
        raise ValueError("the same word stands twice")
    return items


Extension = Literal[
    "permit-X11-forwarding", "permit-agent-forwarding", "permit-port-forwarding", "permit-pty", "permit-user-rc"
]


class SshSettings(Strict):
    """Nothing to set: the key is the broker's own "ssh-ca"."""


class SshOptions(Strict):
    """What a policy says of the certificate (PROTOCOL.certkeys)."""

    principals: Annotated[
        list[Annotated[str, Templated(PRINCIPAL), AfterValidator(_principal)]],
        Field(min_length=1, max_length=32, description="the users it may log in as", examples=[["deploy"]]),
        AfterValidator(_distinct),
    ]
    extensions: Annotated[list[Extension], AfterValidator(_distinct)] = Field(
        default_factory=list, description="what else the login may do; nothing if left out"
    )
    source_addresses: Annotated[
        Annotated[list[Annotated[str, AfterValidator(_network)]], Field(min_length=1, max_length=32)] | None,
        Field(description="networks it may be used from", examples=[["192.0.2.0/24"]]),
    ] = None
    force_command: Annotated[
        Annotated[str, AfterValidator(_command)] | None,
        Field(description="the one command that runs, whatever is asked"),
    ] = None


class SshParams(Strict):
    """What the job sends: the public half of a key pair that it made."""

    public_key: Annotated[str, AfterValidator(_public_key)]


class SshCa(Backend):
    """User certificates by the broker's own CA key."""

    kind = "ssh-ca"
    trace = False
    Settings = SshSettings
    Options = SshOptions
    Params = SshParams
    longest = timedelta(hours=24)
    revocation: ClassVar[str] = (
        "sshd accepts the certificate until it expires, unless its serial is in a KRL that sshd reads."
    )
    params_help = {"public_key": "ssh-public-key"}  # noqa: RUF012  a ClassVar by its base class

    @classmethod
    def describe(cls, options: Mapping[str, Any]) -> str:
        """Principals, and everything that widens or narrows what sshd does with the certificate."""
        said = f"an SSH certificate for {listed(options['principals'], 'principal', 'principals')}"
        if extensions := options.get("extensions"):
            said += f" with {' and '.join(extensions)}"
        if networks := options.get("source_addresses"):
            said += f" from {listed(networks, 'network', 'networks')} only"
        if command := options.get("force_command"):
            said += f" that runs the command {json.dumps(command, ensure_ascii=False)} only"
        return said

    def __init__(self, name: str, settings: SshSettings, around: Surroundings) -> None:  # noqa: ARG002  the seam's signature
        self._keys = around.keys
        self._ca: tuple[str, bytes, str] | None = None  # kid, raw bytes and line of the signing key

    @classmethod
    def writes(cls, options: Mapping[str, Any], settings: Any, url: str) -> Iterator[Power]:  # noqa: ARG003  the seam's signature
        """A login under every principal, wherever a host accepts it."""
        for principal in options["principals"]:
            yield Power(object=f"ssh:{opened(principal)}", deed="log in as")

    async def mint(self, order: Order, record: Record) -> Minted:  # noqa: ARG002  the seam's signature
        """Sign a certificate for the job's key. Raises BackendError where a template was left in a principal."""
        options: SshOptions = order.options
        settled(options.principals)
        key = ssh_wire.read_public_key(order.params.public_key)
        raw, ca_line = self._signing_key()
        serial, key_id = serial_of(order.lease), _key_id(order)
        before = math.floor(order.expires_at.timestamp())  # sshd refuses from this second on
        principals = list(options.principals)
        certificate = ssh_wire.user_certificate(
            key,
            nonce=os.urandom(32),
            serial=serial,
            key_id=key_id,
            principals=principals,
            valid_after=math.floor(order.now.timestamp()) - CLOCK_SKEW,
            valid_before=before,
            critical_options=ssh_wire.options(_critical(options)),
            extensions=ssh_wire.options((name, None) for name in options.extensions),
            ca=raw,
            sign=self._sign,
        )
        return Minted(
            type="ssh-certificate",
            values={"certificate": certificate, "principals": principals, "ca": ca_line},
            secrets=(),
            env={},
            expires_at=datetime.fromtimestamp(before, order.now.tzinfo),
            fingerprinted=certificate,
            handle={"serial": str(serial), "key_id": key_id},
            facts={"serial": str(serial), "key_id": key_id, "principals": " ".join(principals)},
        )

    async def revoke(self, handle: Handle) -> Gone | StillWorks:  # noqa: ARG002  the seam's signature
        """Until a KRL is served, a signature cannot be unsaid."""
        return StillWorks(self.revocation)

    def _sign(self, data: bytes) -> bytes:
        return self._keys.sign("ssh-ca", data)

    def _signing_key(self) -> tuple[bytes, str]:
        public = self._keys.public("ssh-ca")[0]
        if self._ca is None or self._ca[0] != public.kid:
            if not isinstance(public.key, Ed25519PublicKey):
                raise BackendError("the ssh-ca key has to be Ed25519", retry=False)
            line = public.key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
            self._ca = (public.kid, public.key.public_bytes_raw(), line)
        return self._ca[1], self._ca[2]


def serial_of(lease: str) -> int:
    """The certificate's serial: 64 bits of SHA-256 over the lease's id, so that either leads to the other. Never 0."""
    return int.from_bytes(hashlib.sha256(lease.encode()).digest()[:8]) or 1


def _key_id(order: Order) -> str:
    """Words from the CI lose what could break a log line or a KRL specification; the lease stands first."""
    words = {"lease": order.lease, "grant": order.grant, "project": order.job.project, "run": order.job.run_id}
    return " ".join(f"{name}={_KEY_ID_UNSAFE.sub('_', text[:128])}" for name, text in words.items() if text)


def _critical(options: SshOptions) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    if options.force_command is not None:
        pairs.append(("force-command", options.force_command))
    if options.source_addresses is not None:
        pairs.append(("source-address", ",".join(options.source_addresses)))
    return pairs
