"""A secret never survives, however the stream is cut."""

import base64
import json
import time
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jobkey.redact import MARK, Redactor, patterns

LETTERS = st.sampled_from([b"a", b"b", b"ab", b"aab", b"\n", b"xyz", b"-"])
WORDS = st.lists(LETTERS, min_size=3, max_size=12).map(b"".join).filter(lambda word: len(word) >= 6)


def through(secrets: list[bytes], chunks: list[bytes]) -> bytes:
    redactor = Redactor(secrets)
    return b"".join([*(redactor.feed(chunk) for chunk in chunks), redactor.finish()])


@given(secrets=st.lists(WORDS, min_size=1, max_size=5), data=st.data())
@settings(max_examples=300, deadline=None)
def test_no_secret_survives_any_chunking(secrets: list[bytes], data: st.DataObject) -> None:
    """A tiny alphabet, so that secrets overlap, contain and continue one another all the time."""
    pieces = data.draw(st.lists(st.one_of(LETTERS, st.sampled_from(secrets)), max_size=30))
    stream = b"".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    shown = through(secrets, chunks)
    for secret in secrets:
        assert secret not in shown
    assert shown.replace(MARK, b"") in subsequences(stream, shown)


def subsequences(stream: bytes, shown: bytes) -> list[bytes]:
    """What is shown is the stream with parts left out: nothing is added, moved or repeated."""
    rest = iter(stream)
    text = shown.replace(MARK, b"")
    return [text] if all(byte in rest for byte in text) else []


@given(
    secrets=st.lists(WORDS, min_size=1, max_size=4),
    stream=st.lists(LETTERS, max_size=30).map(b"".join),
    cut=st.integers(1, 7),
)
@settings(max_examples=200, deadline=None)
def test_the_cutting_changes_nothing_but_marks(secrets: list[bytes], stream: bytes, cut: int) -> None:
    whole = through(secrets, [stream])
    cut_up = through(secrets, [stream[at : at + cut] for at in range(0, len(stream), cut)])
    assert whole == cut_up


@given(text=st.binary(max_size=300), cut=st.integers(1, 50))
@settings(deadline=None)
@example(text=b"s3cret-value", cut=3)
def test_what_is_no_secret_passes_unchanged(text: bytes, cut: int) -> None:
    secret = b"\0never-in-there\0"
    if secret in text or any(text.endswith(secret[:n]) for n in range(6, 16)):
        return
    assert through([secret], [text[at : at + cut] for at in range(0, len(text), cut)]) == text


@pytest.mark.parametrize(
    ("chunk", "shown"),
    [
        (b"a line\n", b"a line\n"),
        (b"progress 10%\r", b"progress 10%\r"),
        (b"no newline", b"no newline"),
        (b"ends like s3c", b"ends like "),
    ],
)
def test_nothing_is_held_back_but_a_possible_beginning(chunk: bytes, shown: bytes) -> None:
    assert Redactor([b"s3cret-value"]).feed(chunk) == shown


def test_a_secret_cut_short_at_the_end_is_masked() -> None:
    assert through([b"s3cret-value"], [b"key: s3cret-va"]) == b"key: ***"
    assert through([b"s3cret-value"], [b"key: s3c"]) == b"key: s3c"


KEY = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nBKcwggSjAgEAAoIBAQDZ\n-----END KEY-----\n"


@pytest.mark.parametrize("secret", ["hunter2-and-more", 'with "quotes" & %41/+?', "grüße-aus-köln", "l" * 100])
@pytest.mark.parametrize("before", ["", "x", "user:"])
@pytest.mark.parametrize("after", ["", "!", "?!"])
def test_the_forms_that_tools_print(secret: str, before: str, after: str) -> None:
    def clean(text: bytes) -> bytes:
        return through(patterns([secret]), [text[at : at + 5] for at in range(0, len(text), 5)])

    whole = (before + secret + after).encode()
    assert MARK in clean(whole)
    assert secret.encode() not in clean(whole)
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        left = clean(b"Basic " + encode(whole) + b"\n")
        assert MARK in left
        neighbours = len(left.removeprefix(b"Basic ").strip().replace(MARK, b""))
        assert neighbours <= len(before + after) * 4 // 3 + 5  # the rest of the line is gone
    for text in (quote(secret, safe=""), json.dumps(secret)[1:-1], secret.encode().hex()):
        assert clean(text.encode()) == MARK


def test_base64_as_the_tool_wraps_it() -> None:
    secret = "0123456789abcdef" * 12
    wrapped = base64.encodebytes(secret.encode())
    assert through(patterns([secret]), [wrapped]).replace(b"\n", b"").replace(MARK, b"") == b""


def test_each_line_of_a_multi_line_value_alone() -> None:
    for line in KEY.splitlines():
        assert through(patterns([KEY]), [b"> " + line.encode() + b"\n"]) == b"> ***\n"


def test_short_values_are_left_alone() -> None:
    assert patterns(["", "true", "12345", " a \n b \n"]) == []


def test_megabytes_pass_quickly() -> None:
    """A slow machine and 30 patterns: ten megabytes in well under three seconds (about 0.1 s on a laptop)."""
    redactor = Redactor(patterns(["wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "x" * 400, KEY]))
    chunk = (b"the quick brown fox jumps over the lazy dog 0123456789\n" * 1200)[:65536]
    start = time.process_time()
    size = sum(len(redactor.feed(chunk)) for _ in range(160))
    assert size > 160 * 65000
    assert time.process_time() - start < 3
