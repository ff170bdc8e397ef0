"""Which proxy, if any: HTTPS_PROXY and NO_PROXY as curl and Go read them.

* Loopback and link-local metadata are never sent through a proxy.
* An http:// proxy gets a CONNECT and never sees inside the tunnel. A proxy that itself wants TLS is refused in words.
* Lower case wins over upper case, as in curl.
"""

from __future__ import annotations

from jobkey import url as urls
from jobkey.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Proxy:
    """Where to CONNECT, and the value of Proxy-Authorization where the proxy's URL holds a user."""

    __slots__ = ("authorization", "host", "port")

    def __init__(self, host: str, port: int, authorization: str) -> None:
        self.host = host
        self.port = port
        self.authorization = authorization


def for_url(target: urls.Url, env: Mapping[str, str]) -> Proxy | None:
    """The proxy for an https URL. Plain http goes to loopback and metadata only, and those are always direct."""
    if target.scheme != "https" or urls.is_loopback(target.host):
        return None
    setting = env.get("https_proxy") or env.get("HTTPS_PROXY") or env.get("all_proxy") or env.get("ALL_PROXY")
    if not setting or excluded(target, env.get("no_proxy") or env.get("NO_PROXY") or ""):
        return None
    scheme, mark, rest = setting.rpartition("://")
    if mark and scheme.lower() != "http":
        raise ConfigError(
            f"HTTPS_PROXY asks for a {scheme.lower()[:16]}:// proxy, which jobkey does not speak",
            "Use an http:// proxy (the tunnel inside is still TLS), or add the broker to NO_PROXY.",
        )
    user, _, place = rest.rstrip("/").rpartition("@")
    host, port = urls.host_and_port(place, 80, "HTTPS_PROXY")
    return Proxy(host, port, _basic(user) if user else "")


def excluded(target: urls.Url, no_proxy: str) -> bool:
    for raw in no_proxy.split(","):
        entry = raw.strip().lower()
        if not entry:
            continue
        if entry == "*":
            return True
        if "/" in entry:
            if _in_network(target.host, entry):
                return True
            continue
        name, _, port = entry.partition(":") if entry.count(":") == 1 else (entry.strip("[]"), "", "")
        if port and port != str(target.port):
            continue
        name = name[1:] if name.startswith("*.") else name
        bare = name.lstrip(".")
        if target.host == bare or target.host.endswith("." + bare):
            return True
    return False


def _in_network(host: str, network: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _basic(user: str) -> str:
    from base64 import b64encode
    from urllib.parse import unquote_to_bytes

    name, _, password = user.partition(":")
    return "Basic " + b64encode(unquote_to_bytes(name) + b":" + unquote_to_bytes(password)).decode("ascii")
