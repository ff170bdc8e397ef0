"""Whatever bytes arrive, the verifier has one exception for them; and a valid token has one spelling and one meaning."""

import asyncio
import base64
import json
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.errors import IssuerUnreachable, SubjectTokenRejected
from broker.issuers import ISSUERS, generic
from broker.issuers.trusted import TrustedIssuer
from broker.model import JobIdentity
from broker.tokens import TokenVerifier, jose
from broker.tokens.fetching import Fetched
from broker.tokens.keyset import parse
from tests.fakes.issuer import SigningKey, make_private_key

BROKER, ISSUER = "https://broker.acme.example", "https://ci.acme.example"
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
KEY = SigningKey("ES256", "key-1", make_private_key("ES256"))
CLAIMS = {
    "iss": ISSUER,
    "sub": "job",
    "aud": BROKER,
    "iat": int(NOW.timestamp()),
    "exp": int(NOW.timestamp()) + 300,
    "repo": "a/b",
}
TOKEN = jwt.encode(CLAIMS, KEY.private, algorithm="ES256", headers={"kid": "key-1"})


def primed() -> TokenVerifier:
    """A verifier that has its keys and never fetches: the clock stands still and the bucket is empty."""
    kind = generic.build({"project": "claims.repo"})
    trusted = TrustedIssuer(name="ci", kind=kind, url=ISSUER, audiences=(BROKER,), algorithms=("ES256",))
    verifier = TokenVerifier([trusted], clock=lambda: 0.0)
    keys = verifier.keys["ci"]
    keys._fetched, keys._refresh_at, keys._fresh_until = (
        Fetched(parse({"keys": [KEY.jwk()]}, ["ES256"]), None),
        1e9,
        1e9,
    )
    keys._bucket = 0.0
    return verifier


VERIFIER = primed()


def verify(token: str) -> Any:
    return asyncio.run(VERIFIER.verify(token, now=NOW))


def test_the_token_itself_is_good() -> None:
    assert verify(TOKEN).job.project == "a/b"


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
NEAR = st.fixed_dictionaries(
    {}, optional={name: st.just(value) | JSON for name, value in {**CLAIMS, "nbf": 0, "jti": "x"}.items()}
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "alg": st.sampled_from(["ES256", "none", "RS256"]) | JSON,
        "kid": st.just("key-1") | JSON,
        "typ": JSON,
        "crit": JSON,
    },
)


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda data: data.decode("latin-1")))
@example("")
@example("..")
@example("\ud800.\udfff.")
def test_arbitrary_text_is_only_ever_rejected(text: str) -> None:
    with pytest.raises(SubjectTokenRejected):
        verify(text)


@given(st.lists(st.binary(max_size=120).map(_b64), min_size=3, max_size=3))
def test_arbitrary_parts_are_only_ever_rejected(parts: list[str]) -> None:
    with pytest.raises(SubjectTokenRejected):
        verify(".".join(parts))


@given(HEADERS, NEAR)
@settings(max_examples=150)
def test_near_tokens_with_a_bad_signature_are_rejected(header: dict[str, Any], claims: dict[str, Any]) -> None:
    token = f"{_b64(json.dumps(header).encode())}.{_b64(json.dumps(claims).encode())}.{_b64(bytes(64))}"
    with pytest.raises((SubjectTokenRejected, IssuerUnreachable)):  # the second where it names a key nobody knows
        verify(token)


@given(NEAR)
@settings(max_examples=150)
def test_well_signed_nonsense_is_accepted_whole_or_rejected(claims: dict[str, Any]) -> None:
    signed = f"{_b64(json.dumps({'alg': 'ES256', 'kid': 'key-1'}).encode())}.{_b64(json.dumps(claims).encode())}"
    algorithm = jwt.algorithms.get_default_algorithms()["ES256"]
    try:
        verified = verify(f"{signed}.{_b64(algorithm.sign(signed.encode(), KEY.private))}")
    except SubjectTokenRejected:
        return
    assert (verified.claims["iss"], verified.claims["aud"]) == (ISSUER, BROKER) or verified.claims["aud"] == [BROKER]


@given(st.integers(0, len(TOKEN) - 1), st.integers(0, 0x10FFFF).map(chr))
@settings(max_examples=300)
def test_no_changed_character_verifies(position: int, letter: str) -> None:
    changed = TOKEN[:position] + letter + TOKEN[position + 1 :]
    if changed == TOKEN:
        return
    with pytest.raises((SubjectTokenRejected, IssuerUnreachable)):
        verify(changed)


def test_no_flipped_bit_verifies() -> None:
    for position in range(len(TOKEN)):
        for bit in range(7):
            changed = TOKEN[:position] + chr(ord(TOKEN[position]) ^ 1 << bit) + TOKEN[position + 1 :]
            with pytest.raises((SubjectTokenRejected, IssuerUnreachable)):
                verify_now(changed)


def verify_now(token: str) -> None:
    """Without an event loop: nothing is waited for here, and a thousand loops would take long."""
    verification = VERIFIER.verify(token, now=NOW)
    with pytest.raises(StopIteration):
        _run(verification)


def _run(verification: Any) -> None:
    for _ in range(3):  # the two stops of broker.turns, and the end
        assert verification.send(None) is None


@given(st.binary(max_size=64))
def test_base64url_has_one_spelling(data: bytes) -> None:
    spelled = _b64(data).encode()
    if data:
        assert jose.decode(spelled) == data


@given(st.text(alphabet="ABab01-_+/=. \n", min_size=1, max_size=9))
def test_what_decodes_encodes_back_to_itself(segment: str) -> None:
    try:
        data = jose.decode(segment.encode())
    except jose.Malformed:
        return
    assert _b64(data) == segment


WHITESPACE = st.sampled_from(["", "", "", " ", "\n", "\t "])


@st.composite
def objects(draw: Any) -> tuple[str, bool]:
    """A flat object's text, written with any whitespace and any colons in its texts, and whether a member stands twice."""
    names = draw(st.lists(st.sampled_from(["a", "b", 'c":', "d e", 'f" :', "{", ""]), max_size=5))
    values = st.sampled_from(["x", 1, 'say ": ', None, 'a":b', {}])
    space = lambda: draw(WHITESPACE)  # noqa: E731  four times on one line below
    members = [
        space() + json.dumps(name) + space() + ":" + space() + json.dumps(draw(values)) + space() for name in names
    ]
    return "{" + ",".join(members) + draw(WHITESPACE) * (not members) + "}", len(set(names)) != len(names)


@given(objects())
@settings(max_examples=500)
def test_the_quick_way_never_overlooks_a_doubled_member(case: tuple[str, bool]) -> None:
    text, doubled = case
    if doubled:
        with pytest.raises(jose.Malformed, match="twice"):
            jose.decode_object(text.encode(), "payload")
    else:
        assert jose.decode_object(text.encode(), "payload") == json.loads(text)


NUMBERS = st.sampled_from([
    "0", "-0", "1", "-1", "01", "1.0", "1e2", "1E400", "-1e-400", "9007199254740991", "9007199254740992", "-9007199254740992",
    "18446744073709551615", "18446744073709551616", "9" * 40, "NaN", "Infinity", "true", "false", "null", "True", '"1"', "+1", ".5",
])  # fmt: skip


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "\x7f", "\u2028", "\U0001f600"]), NUMBERS), max_size=3),
    WHITESPACE,
    st.binary(max_size=2),
)
@settings(max_examples=500)
def test_the_quick_way_reads_what_the_slow_way_reads(members: list[tuple[str, str]], space: str, junk: bytes) -> None:
    text = "{" + ",".join(f'"{name}"{space}:{space}{value}' for name, value in members) + "}"
    for data in (text.encode(), text.encode() + space.encode(), text.encode() + junk, text.encode()[:-1] + junk + b"}"):
        quick = jose._plain_object(data)
        if quick is not None:
            slow = jose._STRICT.decode(data.decode())
            assert list(quick.items()) == list(slow.items())
            assert [type(value) for value in quick.values()] == [type(value) for value in slow.values()]


@pytest.mark.parametrize("name", ISSUERS)
@given(data=st.data())
@settings(max_examples=60)
def test_no_claims_break_a_kind(name: str, data: st.DataObject) -> None:
    """Claims of any type make words of the right type, or none; a kind never raises."""
    kind = ISSUERS[name]
    safe = next(iter(kind.examples.values()))
    changes = data.draw(st.dictionaries(st.sampled_from([*safe, "iss"]), JSON, max_size=4))
    claims = {**safe, **changes}
    job = kind.identity(claims)
    assert isinstance(job, JobIdentity)
    flags = {"ref_protected", "environment_protected", "fork"}
    assert all(type(value) is (bool if word in flags else str) and value != "" for word, value in job.present().items())
    assert job.ref is None or job.ref.startswith("refs/")
    assert job.run_url is None or (
        job.run_url.startswith("https://") and job.run_url.isprintable() and " " not in job.run_url
    )
    assert set(kind.unsafe_triggers(claims)) <= kind.trigger_names.keys()
