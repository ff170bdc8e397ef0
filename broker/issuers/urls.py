"""Which URLs an issuer may have: https, or http to this very machine; nothing that two parsers could read differently."""

import ipaddress
import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

_ALLOWED: Final = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+(/[A-Za-z0-9._~%!$&'()*+,;=:@/-]*)?")
LONGEST: Final = 512


def is_loopback(host: str) -> bool:
    """Whether a URL's host is this machine by its name alone: `localhost`, 127.0.0.0/8 or ::1."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def split(url: str) -> SplitResult:
    """The parts of an issuer's or key set's URL. Raises ValueError that says what to write, without the URL itself.

    No user name, query or fragment (RFC 8414 section 2), no `..`, no backslash, no spaces.
    """
    if len(url) > LONGEST or _ALLOWED.fullmatch(url) is None or "/../" in url + "/":
        raise ValueError("write a plain URL such as https://ci.acme.example, without user name, query or fragment")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(
            "the URL's host or port is not one; write a URL such as https://ci.acme.example:8443"
        ) from None
    if not host or port == 0:
        raise ValueError("the URL's host or port is not one; write a URL such as https://ci.acme.example:8443")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError("use https; http is accepted for loopback addresses only")
    return parts
