"""Take secrets out of a stream of bytes, however it is cut into pieces.

* No occurrence of a pattern survives, also one that spans any number of chunks, overlaps another or contains it.
* Nothing is held back but what may be the beginning of a secret: a line that is none passes at once.
* At the end of the stream a beginning of a secret that never came to its end is masked too, if it is long enough to
  tell something (a program that was killed while it printed a key).
* Fast: each chunk is searched with `bytes.find`, which is memchr and two-way search in C.

What is a pattern: the value; each line of a multi-line one; base64 (standard and URL-safe) in its three alignments, so
that `user:password` of an HTTP Basic header is found, and as `base64` wraps it; percent-encoded, JSON-escaped and
hexadecimal form. Reversed, split or compressed it is not recognised: redaction limits accidents, short life protects.
"""

from __future__ import annotations

from base64 import b64encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MARK = b"***"
SHORTEST = 6  # bytes; anything shorter would blank what is no secret
WRAPS = (76, 64)  # columns of base64(1) and of PEM


def patterns(texts: Iterable[str]) -> list[bytes]:
    """All forms of all texts that are worth looking for, the longest first."""
    found: set[bytes] = set()
    for text in texts:
        for piece in {text.strip("\r\n"), text.strip(), *text.splitlines()}:
            if len(piece.strip()) >= SHORTEST:
                found.update(forms(piece))
    return sorted((form for form in found if len(form) >= SHORTEST), key=lambda form: (-len(form), form))


def forms(text: str) -> set[bytes]:
    from jobkey.url import quote

    raw = text.encode("utf-8", "surrogateescape")
    found = {raw, quote(raw.decode("utf-8", "replace")).encode("ascii"), raw.hex().encode("ascii")}
    import json

    for ascii_only in (True, False):
        found.add(json.dumps(text, ensure_ascii=ascii_only)[1:-1].encode("utf-8", "surrogateescape"))
    alone = b64encode(raw)  # with the end that depends on nothing more
    found.update((alone, alone.translate(_URLSAFE)))
    for shift in range(3):
        encoded = _inner_base64(raw, shift)
        found.update((encoded, encoded.translate(_URLSAFE)))
        if shift == 0:
            for width in WRAPS:
                if len(encoded) > width:
                    found.update(encoded[at : at + width] for at in range(0, len(encoded), width))
    return found


_URLSAFE = bytes.maketrans(b"+/", b"-_")


def _inner_base64(raw: bytes, shift: int) -> bytes:
    """What base64 of any text holds, if `raw` stands in it at an offset of `shift` modulo 3.

    That is without the characters at both ends which depend on the neighbours.
    """
    encoded = b64encode(b"\0" * shift + raw).rstrip(b"=")
    total = shift + len(raw)
    first = (shift * 8 + 5) // 6  # the first character made of bits of `raw` alone
    last = total * 8 // 6  # and the one after the last
    return encoded[first:last]


class Redactor:
    """One stream. `feed` gives what may be shown now; `finish` the rest."""

    def __init__(self, secrets: Iterable[bytes]) -> None:
        self._patterns = [secret for secret in secrets if secret]
        self._longest = max(map(len, self._patterns), default=0)
        self._held = b""
        self._covered = 0  # bytes of `_held` that belong to a secret whose mark was already shown

    def feed(self, chunk: bytes) -> bytes:
        data = self._held + chunk
        keep = self._unsure(data)
        shown = self._mask(data, keep, self._spans(data))
        self._held = data[keep:]
        return shown

    def finish(self) -> bytes:
        data, held_in = self._held, self._covered
        spans = self._spans(data)
        if len(data) >= SHORTEST or held_in:
            spans = [(0, len(data.rstrip(b"\r\n")))]  # a secret cut short; the line end is none of it
        shown = self._mask(data, len(data), spans)
        self._held, self._covered = b"", 0
        return shown

    def _spans(self, data: bytes) -> list[tuple[int, int]]:
        """Every occurrence of every pattern, overlapping ones too, by their start."""
        spans = []
        for pattern in self._patterns:
            at = data.find(pattern)
            while at >= 0:
                spans.append((at, at + len(pattern)))
                at = data.find(pattern, at + 1)
        spans.sort()
        return spans

    def _mask(self, data: bytes, keep: int, spans: list[tuple[int, int]]) -> bytes:
        """`data[:keep]` with each run of overlapping occurrences as one mark; remembers a run that crosses `keep`."""
        out: list[bytes] = []
        run_end = self._covered  # everything before is already masked
        for start, end in spans:
            if start >= keep:
                break
            if start > run_end or run_end == 0:
                out += (data[run_end:start], MARK)
            run_end = max(run_end, end)
        if run_end < keep:
            out.append(data[run_end:keep])
        self._covered = max(0, run_end - keep)
        return b"".join(out)

    def _unsure(self, data: bytes) -> int:
        """Where the longest end of `data` begins that is a proper beginning of some pattern."""
        size = len(data)
        best = size
        for pattern in self._patterns:
            at = data.find(pattern[:1], max(0, size - len(pattern) + 1), best)
            while at >= 0:
                if pattern.startswith(data[at:]):
                    best = at
                    break
                at = data.find(pattern[:1], at + 1, best)
        return best
