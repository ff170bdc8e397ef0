"""HTTP/1.1 over one connection, strictly (RFC 9112). Small, because `http.client` costs more time than the request.

* No redirect is ever followed: a bearer token goes to the host that was asked for, and nowhere else.
* Everything that arrives is bounded: header lines, their number, the body, and the time for all of it together.
* Ambiguous framing is refused, not guessed: both Content-Length and Transfer-Encoding, two lengths, any coding but
  `chunked`, a bare LF in a chunk size, an obsolete folded header.
* The connection is kept for the next request where the answer allows it, and is never inherited by a child.
"""

from __future__ import annotations

import socket
import time

from jobkey import url as urls
from jobkey.errors import ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Callable

    from jobkey.proxy import Proxy

HEAD_LIMIT = 32 * 1024
HEADER_COUNT = 100
BODY_LIMIT = 1024 * 1024
TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
IDLE = 15.0  # seconds after which a kept connection is not trusted any more


class ConnectionFailed(Exception):
    """There was no whole answer. Whether the request arrived is not known."""


class Response:
    """`headers` has lower-case names; a repeated header's values are joined by a comma (RFC 9110 section 5.3)."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Connection:
    """One origin. `request` connects when it has to. Not thread-safe: give each thread its own."""

    def __init__(
        self,
        origin: urls.Url,
        *,
        proxy: Proxy | None = None,
        tls: Callable[[socket.socket, str], socket.socket] | None = None,
    ) -> None:
        """`tls` wraps a connected socket for a host name; it is needed for https origins."""
        if origin.scheme == "https" and tls is None:
            raise ValueError("an https origin needs tls")
        self._origin = origin
        self._proxy = proxy
        self._tls = tls
        self._socket: socket.socket | None = None
        self._buffer = b""
        self._last_used = 0.0
        self._deadline = 0.0

    def request(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, *, timeout: float
    ) -> Response:
        """Send one request and read its whole answer within `timeout` seconds.

        Raises:
            ConnectionFailed: no connection, cut off, too slow.
            ProtocolError: what came is not HTTP, or more than we read.
        """
        now = time.monotonic()
        self._deadline = now + timeout
        if self._socket is not None and now - self._last_used > IDLE:
            self.close()
        lines = [f"{method} {target or '/'} HTTP/1.1", f"Host: {self._origin.authority}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join(lines)
        if (
            head.count("\r\n") != len(lines) - 1
            or not head.isascii()
            or "\0" in head
            or head.count("\n") != len(lines) - 1
        ):
            raise ValueError("a header would have to be escaped")  # never with the value: it may be a token
        try:
            if self._socket is None:
                self._connect()
            self._send(head.encode("ascii") + b"\r\n\r\n" + (body or b""))
            response, reusable = self._read_response(method)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):  # ssl.SSLError and socket.timeout among them
                raise ConnectionFailed(_reason(error)) from error
            raise
        if reusable and not self._buffer:
            self._last_used = time.monotonic()
        else:
            self.close()
        return response

    def close(self) -> None:
        sock, self._socket, self._buffer = self._socket, None, b""
        if sock is not None:
            try:
                sock.close()
            except OSError:
                pass

    # connecting

    def _connect(self) -> None:
        via = self._proxy or self._origin
        # Bytes keep Python from loading its IDNA codec for a name that is ASCII already; typeshed knows only str here.
        sock = socket.create_connection((via.host.encode("ascii"), via.port), self._left())  # type: ignore[arg-type]  # see above
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = sock
            if self._proxy is not None:
                self._tunnel(self._proxy)
            if self._tls is not None and self._origin.scheme == "https":
                sock.settimeout(self._left())
                self._socket = self._tls(sock, self._origin.host)
        except BaseException:
            sock.close()
            raise

    def _tunnel(self, proxy: Proxy) -> None:
        host = f"[{self._origin.host}]" if ":" in self._origin.host else self._origin.host
        place = f"{host}:{self._origin.port}"
        login = f"Proxy-Authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
        self._send(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n{login}\r\n".encode("ascii"))
        status, _ = self._read_head()
        if not 200 <= status < 300:
            raise ConnectionFailed(f"the proxy {proxy.host}:{proxy.port} answered {status}")
        if self._buffer:  # bytes before the handshake cannot be the origin's
            raise ProtocolError("the proxy spoke before the tunnel was used")

    # bytes

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise ConnectionFailed("no whole answer in time")
        return left

    def _send(self, data: bytes) -> None:
        sock = self._socket
        assert sock is not None
        sock.settimeout(self._left())
        sock.sendall(data)

    def _more(self) -> bool:
        """Read once; False at the end of the stream. The deadline is for the whole answer, not for one read."""
        sock = self._socket
        assert sock is not None
        sock.settimeout(self._left())
        data = sock.recv(65536)
        self._buffer += data
        return bool(data)

    def _line(self, limit: int) -> bytes:
        while True:
            end = self._buffer.find(b"\n", 0, limit)
            if end >= 0:
                line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
                if not line.endswith(b"\r"):
                    raise ProtocolError("the answer is not HTTP/1.1: a line ends without CR")
                return line[:-1]
            if len(self._buffer) >= limit:
                raise ProtocolError("the answer's header is too long")
            if not self._more():
                raise ConnectionFailed("the connection was closed before the answer")

    def _exactly(self, count: int) -> bytes:
        pieces, got = [self._buffer[:count]], min(len(self._buffer), count)
        self._buffer = self._buffer[count:]
        while got < count:
            if not self._more():
                raise ConnectionFailed("the connection was closed within the answer")
            piece, self._buffer = self._buffer[: count - got], self._buffer[count - got :]
            pieces.append(piece)
            got += len(piece)
        return b"".join(pieces)

    # messages

    def _read_head(self) -> tuple[int, dict[str, str]]:
        left = HEAD_LIMIT
        line = self._line(left)
        version, _, rest = line.partition(b" ")
        code = rest[:3]
        if version not in (b"HTTP/1.1", b"HTTP/1.0") or not code.isdigit() or rest[3:4] not in (b"", b" "):
            raise ProtocolError("the answer is not HTTP/1.1")
        headers: dict[str, str] = {"": "1.0"} if version == b"HTTP/1.0" else {}
        for _ in range(HEADER_COUNT):
            left -= len(line) + 2
            line = self._line(max(left, 1))
            if not line:
                return int(code), headers
            name, colon, value = line.partition(b":")
            if not colon or not name or not TOKEN.issuperset(name):
                raise ProtocolError("the answer has a malformed header")
            key, text = name.decode("ascii").lower(), value.strip(b" \t").decode("latin-1")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        raise ProtocolError("the answer has too many headers")

    def _read_response(self, method: str) -> tuple[Response, bool]:
        for _ in range(8):  # interim answers (RFC 9110 section 15.2)
            status, headers = self._read_head()
            if status >= 200:
                break
            if status == 101:
                raise ProtocolError("the server changed the protocol")
        else:
            raise ProtocolError("too many interim answers")
        old = headers.pop("", None) is not None
        closing = old or "close" in headers.get("connection", "").lower()
        length = headers.get("content-length")
        coding = headers.get("transfer-encoding")
        if method == "HEAD" or status in (204, 304):
            return Response(status, headers, b""), not closing
        if coding is not None:
            if length is not None or old or coding.lower() != "chunked":
                raise ProtocolError("the answer's framing is ambiguous")
            return Response(status, headers, self._chunked()), not closing
        if length is not None:
            if not length.isdigit() or not length.isascii():
                raise ProtocolError("the answer's length is not a number")
            if len(length) > 9 or int(length) > BODY_LIMIT:
                raise ProtocolError("the answer is too long")
            return Response(status, headers, self._exactly(int(length))), not closing
        return Response(status, headers, self._to_the_end()), False

    def _chunked(self) -> bytes:
        pieces, total = [], 0
        while True:
            size = self._line(256).partition(b";")[0].strip(b" \t")
            if not 0 < len(size) <= 8 or not set(size) <= set(b"0123456789abcdefABCDEF"):
                raise ProtocolError("the answer has a malformed chunk")
            count = int(size, 16)
            if count == 0:
                break
            total += count
            if total > BODY_LIMIT:
                raise ProtocolError("the answer is too long")
            pieces.append(self._exactly(count))
            if self._exactly(2) != b"\r\n":
                raise ProtocolError("the answer has a malformed chunk")
        for _ in range(HEADER_COUNT):  # trailers are read and dropped
            if not self._line(HEAD_LIMIT):
                return b"".join(pieces)
        raise ProtocolError("the answer has too many headers")

    def _to_the_end(self) -> bytes:
        while self._more():
            if len(self._buffer) > BODY_LIMIT:
                raise ProtocolError("the answer is too long")
        body, self._buffer = self._buffer, b""
        return body


def _reason(error: OSError) -> str:
    """A sentence of the operating system or of OpenSSL; it holds no bytes of the exchange."""
    if isinstance(error, socket.timeout):
        return "no answer in time"
    verify = getattr(error, "verify_message", "")
    if verify:
        return f"its TLS certificate is not good: {verify}"
    return str(error.strerror or error) or type(error).__name__
