"""Where a fetch may connect to, decided at the moment of dialling, by the address itself.

A name that resolved to a public address when it was checked may resolve to 169.254.169.254 when it is dialled (DNS
rebinding), so nothing is decided by name. Redirects are never followed, and no proxy is taken from the environment.
"""

import ipaddress
import socket
from typing import Any, Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
# Answered by the machine's own cloud, whatever an operator allows: credentials are one GET away there.
_METADATA: Final = frozenset(
    ipaddress.ip_address(address)
    for address in (
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
    )
)


class ForbiddenAddress(OSError):
    """The host's address is one the broker must not dial."""


def _embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for: mapped, 6to4, Teredo or NAT64. Each leads there on some network."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return address.ipv4_mapped
        if address.sixtofour:
            return address.sixtofour
        if address.teredo:
            return address.teredo[1]
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def permitted(host: str, *, allow_private: bool, allow_loopback: bool) -> bool:
    """Whether an address (text, as a socket takes it) may be dialled."""
    try:
        address = _embedded(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return False
    if address in _METADATA or address.is_multicast or address.is_link_local or address.is_unspecified:
        return False
    if address.is_loopback:
        return allow_loopback
    return address.is_global or (allow_private and not address.is_reserved)


class Dialler:
    """aiohttp's `socket_factory`: makes a socket for a permitted address, and notes one that is not."""

    def __init__(self, *, allow_private: bool, allow_loopback: bool) -> None:
        self._allow_private, self._allow_loopback = allow_private, allow_loopback
        self.forbidden = False

    def __call__(self, addr_info: tuple[Any, ...]) -> socket.socket:
        """Raises ForbiddenAddress. `addr_info` is one entry of getaddrinfo: (family, type, protocol, name, address)."""
        family, kind, protocol, _, address = addr_info
        if not permitted(str(address[0]), allow_private=self._allow_private, allow_loopback=self._allow_loopback):
            self.forbidden = True
            raise ForbiddenAddress("the address is private, link-local, loopback or otherwise not to be dialled")
        return socket.socket(family=family, type=kind, proto=protocol)
