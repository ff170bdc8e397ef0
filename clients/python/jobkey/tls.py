"""Whom we believe to be the broker: certificates checked by Python's own defaults (host name, chain, TLS 1.2 and up).

`JOBKEY_CA_FILE` *replaces* the system's authorities: a broker with its own CA then trusts nobody else.

Loading a system's whole bundle takes 20 ms, a third of a short `jobkey exec`. OpenSSL's hashed directory holds the
same certificates and is read one file at a time, so it is asked first; when it does not know the issuer, the
handshake is done again with the whole bundle. Both are the system's own trust store, so neither trusts more.
"""

from __future__ import annotations

import os
import ssl

from jobkey.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

UNKNOWN_ISSUER = (2, 20)  # X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, ..._LOCALLY


class Trust:
    """Makes TLS clients; the context is built once, when it is first needed."""

    def __init__(self, ca_file: str = "") -> None:
        self._ca_file = ca_file
        self._context: ssl.SSLContext | None = None
        self.lazy = False  # True while only the hashed directory was asked

    def wrap(self, sock: socket.socket, host: str) -> ssl.SSLSocket:
        """Raises ssl.SSLError; the caller closes the socket."""
        if self._context is None:
            self._context = self._build()
        return self._context.wrap_socket(sock, server_hostname=host.encode("ascii"))

    def wider(self, error: BaseException | None) -> bool:
        """After a failed handshake: True when the whole bundle is now loaded and the connection is worth another try."""
        if not (self.lazy and isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in UNKNOWN_ISSUER):
            return False
        self._context, self.lazy = ssl.create_default_context(), False
        return True

    def _build(self) -> ssl.SSLContext:
        if self._ca_file:
            try:
                return ssl.create_default_context(cafile=self._ca_file)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(
                    f"JOBKEY_CA_FILE cannot be used: {self._ca_file}: {error.strerror or 'not a PEM file'}",
                    "Point it at a PEM file with the certificate of the broker's CA.",
                ) from error
        directory = _hashed_directory()
        self.lazy = bool(directory)
        return ssl.create_default_context(capath=directory) if directory else ssl.create_default_context()


def _hashed_directory() -> str:
    """OpenSSL's certificate directory where it really is one (`<8 hex>.0` names), and nobody chose another bundle."""
    paths = ssl.get_default_verify_paths()
    if os.environ.get(paths.openssl_cafile_env) or not paths.capath:
        return ""
    try:
        with os.scandir(paths.capath) as entries:
            if any(len(e.name) == 10 and e.name.endswith(".0") for e in entries):
                return paths.capath
    except OSError:
        pass
    return ""
