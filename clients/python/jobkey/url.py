"""URLs, strictly: the few shapes that a broker or a CI's token service has, and nothing clever.

Request URLs come from the environment, and so perhaps from an earlier step of the job: only https is spoken, plain
http to loopback alone (and to Google's metadata host, which has nothing else). User names, fragments, spaces,
control characters and anything outside ASCII are refused rather than repaired: two parsers that disagree about a
host are how bearer tokens get sent to somebody else.
"""

from __future__ import annotations

from jobkey.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

HOST = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.-_")
VISIBLE = frozenset(map(chr, range(0x21, 0x7F))) - set('"<>\\^`{|}#')
UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class Url:
    """A checked URL. `target` is what follows the host in a request line; `str()` is the whole."""

    __slots__ = ("host", "port", "scheme", "target")

    def __init__(self, scheme: str, host: str, port: int, target: str) -> None:
        self.scheme = scheme
        self.host = host  # lower case, without brackets
        self.port = port
        self.target = target

    @property
    def authority(self) -> str:
        """As the Host header wants it (RFC 9112 section 3.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"

    def at(self, path: str) -> Url:
        """The same place with `path` below this URL's own path."""
        return Url(self.scheme, self.host, self.port, self.target.rstrip("/") + path)


DEFAULT_PORTS = {"https": 443, "http": 80}


def parse(text: str, what: str, plain_hosts: Iterable[str] = ()) -> Url:
    """Check one URL. `what` names its setting in errors; `plain_hosts` may be spoken to without TLS, beside loopback."""
    scheme, mark, rest = text.partition("://")
    scheme = scheme.lower()
    if not mark or scheme not in DEFAULT_PORTS:
        raise ConfigError(f"{what} is not an https:// URL", f"Set {what} to a URL such as https://broker.example.com")
    cut = min((i for i in (rest.find("/"), rest.find("?")) if i >= 0), default=len(rest))
    authority, target = rest[:cut], rest[cut:]
    if not VISIBLE.issuperset(target) or "@" in authority:
        raise ConfigError(f"{what} holds a user name, a fragment or characters that do not belong in a URL")
    host, port = host_and_port(authority, DEFAULT_PORTS[scheme], what)
    if scheme == "http" and not is_loopback(host) and host not in plain_hosts:
        raise ConfigError(
            f"{what} uses plain http to {host}", "A bearer token needs TLS: use https:// (http is for loopback only)."
        )
    if target.startswith("?"):
        target = "/" + target
    return Url(scheme, host, port, target)


def host_and_port(authority: str, default: int, what: str) -> tuple[str, int]:
    host, port = authority, ""
    if authority.startswith("["):
        host, bracket, tail = authority[1:].partition("]")
        good = bool(bracket) and (not tail or tail.startswith(":")) and set(host) <= set("0123456789abcdefABCDEF:.")
        port = tail[1:]
    else:
        host, _, port = authority.partition(":")
        good = bool(host) and HOST.issuperset(host.lower())
    if not good or (port and not (port.isdigit() and port.isascii() and 0 < int(port[:6]) < 65536)):
        raise ConfigError(f"{what} names no host and port that can be used")
    return host.lower(), int(port) if port else default


def is_loopback(host: str) -> bool:
    """Only what cannot leave this machine: `localhost` itself (RFC 6761), 127.0.0.0/8 in full form, ::1."""
    if host in ("localhost", "::1"):
        return True
    parts = host.split(".")
    return len(parts) == 4 and parts[0] == "127" and all(p.isdigit() and p.isascii() and int(p) < 256 for p in parts)


def quote(text: str) -> str:
    """Percent-encode everything but RFC 3986's unreserved characters."""
    return "".join(chr(b) if b in UNRESERVED else f"%{b:02X}" for b in text.encode())


def broker(text: str) -> Url:
    """The broker's own URL, without a trailing slash, so that it equals the audience the broker expects."""
    url = parse(text.strip(), "JOBKEY_URL")
    if "?" in url.target:
        raise ConfigError("JOBKEY_URL holds a query", "Give the broker's public URL alone.")
    return Url(url.scheme, url.host, url.port, url.target.rstrip("/"))
