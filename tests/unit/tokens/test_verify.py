"""One token, one verdict: a good one, then every way of being wrong, against a real issuer on loopback."""

import base64
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from broker.errors import MalformedRequest, SubjectTokenRejected
from broker.tokens import TokenVerifier, challenge_of
from tests.fakes.issuer import SigningKey, make_private_key
from tests.unit.tokens.conftest import BROKER, Bench


def b64(data: bytes | str | dict[str, Any]) -> str:
    if isinstance(data, dict):
        data = json.dumps(data, separators=(",", ":"))
    return base64.urlsafe_b64encode(data.encode() if isinstance(data, str) else data).rstrip(b"=").decode()


def raw(bench: Bench, header: dict[str, Any] | str | bytes, payload: dict[str, Any] | str | bytes) -> str:
    """A token with these very bytes, well signed by the issuer's key."""
    signed = f"{b64(header)}.{b64(payload)}"
    algorithm = jwt.algorithms.get_default_algorithms()["RS256"]
    return f"{signed}.{b64(algorithm.sign(signed.encode(), bench.issuer.keys[0].private))}"


def payload(bench: Bench, **claims: Any) -> dict[str, Any]:
    now = int(time.time())
    return {"iss": bench.issuer.url, "sub": "job", "aud": BROKER, "iat": now, "exp": now + 300, "repo": "a/b", **claims}


HEAD = {"alg": "RS256", "kid": "key-1"}


async def refused(bench: Bench, token: str, why: str, *, now: datetime | None = None) -> str:
    with pytest.raises(SubjectTokenRejected) as caught:
        await bench.verifier.verify(token, now=now or datetime.now(UTC))
    assert bench.counts.rejected[-1][1] == why
    assert caught.value.detail.isascii()
    assert len(token) < 20 or token[-20:] not in caught.value.detail
    return caught.value.detail


async def test_a_good_token_becomes_a_job(bench: Bench) -> None:
    token = bench.sign({"jti": "one"}, lifetime=120)
    verified = await bench.verifier.verify(token, now=datetime.now(UTC))
    assert (verified.issuer, verified.kind) == ("ci", "generic")
    assert verified.job.present() == {"project": "acme/payments", "project_id": "7"}
    assert verified.unsafe_triggers == ()
    assert verified.challenge is None
    assert verified.claims["repo_id"] == "7"
    assert verified.expires_at - verified.issued_at == timedelta(seconds=120)
    assert verified.token_key == hashlib.sha256(f"{bench.issuer.url}\0jti\0one".encode()).digest()
    assert bench.counts.verified == ["ci"]


async def test_without_jti_the_signed_part_is_the_identity(bench: Bench) -> None:
    """Of one ECDSA token anybody can make a second with another good signature: both are the same token."""
    key = bench.issuer.add_key(SigningKey("ES256", "curve", make_private_key("ES256")))
    curved = bench.with_(algorithms=("RS256", "ES256"))
    token = curved.sign({"jti": None}, key=key)
    now = datetime.now(UTC)
    first = await curved.verifier.verify(token, now=now)
    head, body, signature = token.split(".")
    r, s = (base64.urlsafe_b64decode(signature + "==")[i : i + 32] for i in (0, 32))
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    other = f"{head}.{body}.{b64(r + (order - int.from_bytes(s)).to_bytes(32))}"
    assert other != token
    assert (await curved.verifier.verify(other, now=now)).token_key == first.token_key
    assert (
        await curved.verifier.verify(curved.sign({"jti": None, "run": 2}, key=key), now=now)
    ).token_key != first.token_key


@pytest.mark.parametrize("alg", ["RS256", "RS512", "PS256", "ES256", "ES384", "ES512", "EdDSA"])
async def test_every_algorithm_an_issuer_may_be_given(bench: Bench, alg: str) -> None:
    family = bench.with_(algorithms=(alg,))
    if alg[:2] in ("ES", "Ed"):
        bench.issuer.rotate(alg=alg)
    else:
        bench.issuer.keys[0].extra = {"alg": alg}
    token = bench.sign(alg=alg)
    assert (await family.verifier.verify(token, now=datetime.now(UTC))).issuer == "ci"
    await family.verifier.close()
    other = bench.with_(algorithms=("RS384",))
    with pytest.raises(SubjectTokenRejected, match="RS384 only"):
        await other.verifier.verify(token, now=datetime.now(UTC))


# Each changes a good token's header; the signature is good over what stands there.
@pytest.mark.parametrize(
    ("header", "why"),
    [
        pytest.param({**HEAD, "alg": "none"}, "algorithm", id="alg none"),
        pytest.param({**HEAD, "alg": "None"}, "algorithm", id="alg none in other letters"),
        pytest.param({**HEAD, "alg": "HS256"}, "algorithm", id="HMAC"),
        pytest.param({**HEAD, "alg": "ES256"}, "algorithm", id="an algorithm not pinned"),
        pytest.param({**HEAD, "alg": "rs256"}, "algorithm", id="alg in other letters"),
        pytest.param({**HEAD, "alg": ["RS256"]}, "malformed", id="alg as a list"),
        pytest.param({"kid": "key-1"}, "malformed", id="no alg"),
        pytest.param({**HEAD, "crit": ["exp"]}, "malformed", id="crit known"),
        pytest.param({**HEAD, "crit": ["b64"], "b64": False}, "malformed", id="crit b64"),
        pytest.param({**HEAD, "crit": []}, "malformed", id="crit empty"),
        pytest.param({**HEAD, "jwk": {"kty": "RSA"}}, "malformed", id="key in the header"),
        pytest.param({**HEAD, "jku": "https://evil.example/jwks"}, "malformed", id="key's URL in the header"),
        pytest.param({**HEAD, "x5u": "https://evil.example/x"}, "malformed", id="certificate's URL in the header"),
        pytest.param({**HEAD, "x5c": ["MIIB"]}, "malformed", id="certificate in the header"),
        pytest.param({**HEAD, "zip": "DEF"}, "malformed", id="compressed"),
        pytest.param({**HEAD, "cty": "JWT"}, "malformed", id="nested"),
        pytest.param({**HEAD, "enc": "A256GCM"}, "malformed", id="encrypted"),
        pytest.param({**HEAD, "kid": 1}, "malformed", id="kid a number"),
        pytest.param({**HEAD, "kid": ""}, "malformed", id="kid empty"),
        pytest.param({**HEAD, "kid": "k" * 256}, "malformed", id="kid long"),
        pytest.param({**HEAD, "kid": "../../etc/passwd"}, "key", id="kid a path"),
        pytest.param({**HEAD, "typ": "at+jwt"}, "type", id="an access token"),
        pytest.param({**HEAD, "typ": "logout+jwt"}, "type", id="a logout token"),
        pytest.param({**HEAD, "typ": ""}, "type", id="an empty type"),
        pytest.param({**HEAD, "typ": "application/"}, "type", id="a media type of nothing"),
        pytest.param({**HEAD, "typ": 1}, "malformed", id="typ a number"),
        pytest.param('{"alg":"RS256","alg":"none","kid":"key-1"}', "malformed", id="alg twice"),
        pytest.param('{"alg":"RS256" ,"kid":"key-1","alg" :"none"}', "malformed", id="alg twice, with spaces"),
        pytest.param('{"alg":"RS256","\\u0061lg":"none","kid":"key-1"}', "malformed", id="alg twice, once escaped"),
        pytest.param("[]", "malformed", id="a list"),
        pytest.param('"RS256"', "malformed", id="a text"),
        pytest.param("{", "malformed", id="cut off"),
        pytest.param('{"alg":"RS256"}{}', "malformed", id="two objects"),
        pytest.param(b'\xef\xbb\xbf{"alg":"RS256"}', "malformed", id="byte order mark"),
        pytest.param(b'{"alg":"RS256","kid":"\xff"}', "malformed", id="not UTF-8"),
    ],
)
async def test_hostile_headers(bench: Bench, header: Any, why: str) -> None:
    await refused(bench, raw(bench, header, payload(bench)), why)


@pytest.mark.parametrize("typ", ["JWT", "jwt", "application/jwt"])
async def test_ordinary_types(bench: Bench, typ: str) -> None:
    token = raw(bench, {**HEAD, "typ": typ, "x5t": "abc"}, payload(bench))
    assert (await bench.verifier.verify(token, now=datetime.now(UTC))).issuer == "ci"


async def test_the_public_key_is_no_hmac_secret(bench: Bench) -> None:
    pem = (
        bench.issuer.keys[0]
        .private.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    signed = f"{b64({'alg': 'HS256', 'kid': 'key-1'})}.{b64(payload(bench))}"
    token = f"{signed}.{b64(hmac.digest(pem, signed.encode(), 'sha256'))}"
    await refused(bench, token, "algorithm")


async def test_a_key_of_the_attackers_own_is_not_good(bench: Bench) -> None:
    stranger = SigningKey("RS256", "key-1", make_private_key("RS256"))
    await refused(bench, bench.sign(key=stranger), "signature")


async def test_a_signature_of_the_wrong_kind(bench: Bench) -> None:
    """The algorithm is pinned, the named key is of another type."""
    curved = bench.with_(algorithms=("RS256", "ES256"))
    header = b64({"alg": "ES256", "kid": "key-1"})
    await refused(curved, f"{header}.{b64(payload(bench))}.{b64(b'x' * 64)}", "key")
    await curved.verifier.close()


def _nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param(lambda good: good[:-1] + ',"sub":"other"}', "malformed", id="sub twice"),
        pytest.param(lambda good: '{"aud":"x",' + good[1:], "malformed", id="aud twice, the good one last"),
        pytest.param(lambda good: good[:-1] + ',"repo" :"evil","repo" :"evil"}', "malformed", id="twice, spaced"),
        pytest.param(lambda good: good[:-1] + ',"x":{"a":1,"a":2}}', "malformed", id="twice, inside"),
        pytest.param(lambda good: good[:-1] + ',"x":[{"a":1,"a":2}]}', "malformed", id="twice, inside a list"),
        pytest.param(lambda good: good[:-1] + ',"x":NaN}', "malformed", id="NaN"),
        pytest.param(lambda good: good[:-1] + ',"x":-Infinity}', "malformed", id="Infinity"),
        pytest.param(lambda good: good[:-1] + ',"x":1e999}', "malformed", id="infinite by size"),
        pytest.param(lambda good: good[:-1] + ',"x":' + "9" * 5000 + "}", "malformed", id="5000 digits"),
        pytest.param(lambda good: good[:-1] + ',"x":9007199254740993}', "malformed", id="beyond 2^53"),
        pytest.param(lambda good: good[:-1] + ',"x":' + _nested(9) + "}", "malformed", id="deep"),
        pytest.param(lambda good: good[:-1] + ',"x":' + _nested(5000) + "}", "malformed", id="very deep"),
        pytest.param(lambda good: good[:-1] + ',"x":"' + "[{" * 20 + '"}', None, id="brackets in text are no depth"),
        pytest.param(lambda good: good[:-1] + ',"x":"say \\":\\""}', None, id="a colon in text is no member"),
        pytest.param(lambda good: " " + good.replace(",", " ,\n"), None, id="whitespace where JSON has it"),
        pytest.param(lambda good: good[:-1] + ',"x":"\\ud800"}', "malformed", id="lone surrogate"),
        pytest.param(lambda good: good[:-1] + ',"x":{"\\udfff":1}}', "malformed", id="lone surrogate in a name"),
        pytest.param(lambda good: good[:-1] + ',"x":"a\\u0000b"}', "malformed", id="NUL"),
        pytest.param(lambda good: good[:-1] + ',"x":"\\u00e9\\ud83d\\ude00"}', None, id="escapes that are text"),
        pytest.param(lambda good: good[:-1] + ',"x":"a\nb"}', "malformed", id="raw line end in text"),
        pytest.param(lambda good: good[:-1] + ",}", "malformed", id="trailing comma"),
        pytest.param(lambda good: good + "x", "malformed", id="more behind it"),
        pytest.param(lambda good: "\ufeff" + good, "malformed", id="byte order mark"),
        pytest.param(lambda _: "", "malformed", id="empty"),
        pytest.param(lambda _: "[]", "malformed", id="list"),
        pytest.param(lambda _: "null", "malformed", id="null"),
    ],
)
async def test_hostile_payloads(bench: Bench, change: Any, why: str | None) -> None:
    token = raw(bench, HEAD, change(json.dumps(payload(bench), separators=(",", ":"))))
    if why is None:
        assert (await bench.verifier.verify(token, now=datetime.now(UTC))).issuer == "ci"
    else:
        await refused(bench, token, why)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda token: token + "=", id="padded"),
        pytest.param(lambda token: token.replace(".", "=.", 1), id="padded header"),
        pytest.param(lambda token: " " + token, id="space before"),
        pytest.param(lambda token: token + "\n", id="line end after"),
        pytest.param(lambda token: token[:40] + "\n" + token[40:], id="line end inside"),
        pytest.param(lambda token: token.replace("_", "/").replace("-", "+") + "+", id="the other base64"),
        pytest.param(lambda token: token + ".", id="four parts"),
        pytest.param(lambda token: token + ".e30.e30", id="five parts, as encrypted ones have"),
        pytest.param(lambda token: token.rpartition(".")[0], id="two parts"),
        pytest.param(lambda token: token.rpartition(".")[0] + ".", id="unsigned"),
        pytest.param(lambda token: "." + token.partition(".")[2], id="no header"),
        pytest.param(lambda _: "", id="nothing"),
        pytest.param(lambda _: "..", id="dots"),
        pytest.param(lambda token: token + "é", id="not ASCII"),
        pytest.param(lambda token: token + "\ud800", id="not even text"),
        pytest.param(lambda token: token[:50] + "\0" + token[50:], id="NUL"),
        pytest.param(lambda token: token + "A" * 16_384, id="over 16 KiB"),
        pytest.param(lambda token: token + "A" * 1_000_000, id="a megabyte"),
        pytest.param(lambda token: "Bearer " + token, id="with its scheme"),
    ],
)
async def test_odd_spellings(bench: Bench, change: Any) -> None:
    await refused(bench, change(bench.sign()), "malformed")


async def test_unused_bits_make_no_second_spelling(bench: Bench) -> None:
    """342 characters of an RSA signature leave four bits unused: 16 last characters would decode to the same bytes."""
    token = bench.sign()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert alphabet.index(token[-1]) % 16 == 0
    await refused(bench, token[:-1] + alphabet[alphabet.index(token[-1]) + 1], "malformed")


NOW = 1_800_000_000


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        pytest.param({}, None, id="good"),
        pytest.param({"iat": NOW - 600, "exp": NOW + 1}, None, id="as old as may be"),
        pytest.param({"iat": NOW - 630}, None, id="max_age and leeway"),
        pytest.param({"iat": NOW - 631}, "too-old", id="older"),
        pytest.param({"iat": NOW - 60, "exp": NOW - 29}, None, id="expired within the leeway"),
        pytest.param({"iat": NOW - 60, "exp": NOW - 30}, "expired", id="expired"),
        pytest.param({"iat": NOW + 30}, None, id="ahead within the leeway"),
        pytest.param({"iat": NOW + 31}, "times", id="from the future"),
        pytest.param({"nbf": NOW + 30}, None, id="nbf within the leeway"),
        pytest.param({"nbf": NOW + 31}, "times", id="not yet"),
        pytest.param({"nbf": 0}, None, id="nbf zero"),
        pytest.param({"nbf": "0"}, "times", id="nbf text"),
        pytest.param({"nbf": None}, "times", id="nbf null"),
        pytest.param({"exp": NOW + 7200}, None, id="as long as may be"),
        pytest.param({"exp": NOW + 7201}, "times", id="lives longer"),
        pytest.param({"exp": NOW + 86_400}, "times", id="a day"),
        pytest.param({"exp": NOW}, "times", id="no life"),
        pytest.param({"exp": NOW - 10}, "times", id="negative life"),
        pytest.param({"iat": float(NOW)}, None, id="a whole float"),
        pytest.param({"iat": NOW + 0.5}, "times", id="a fraction"),
        pytest.param({"iat": str(NOW)}, "times", id="text"),
        pytest.param({"iat": True}, "times", id="boolean"),
        pytest.param({"exp": True}, "times", id="boolean exp"),
        pytest.param({"exp": 1e30}, "times", id="huge float"),
        pytest.param({"exp": 253_402_300_800}, "times", id="year 10000"),
        pytest.param({"exp": -1}, "times", id="negative"),
        pytest.param({"iat": 0}, "times", id="1970"),
        pytest.param({"iat": [NOW]}, "times", id="list"),
        pytest.param({"exp": None}, "times", id="null"),
    ],
)
async def test_times(bench: Bench, claims: dict[str, Any], why: str | None) -> None:
    token = raw(bench, HEAD, {**payload(bench), "iat": NOW, "exp": NOW + 300, **claims})
    now = datetime.fromtimestamp(NOW, UTC)
    if why is None:
        assert (await bench.verifier.verify(token, now=now)).issuer == "ci"
    else:
        await refused(bench, token, why, now=now)


@pytest.mark.parametrize("name", ["iat", "exp"])
async def test_times_have_to_be_there(bench: Bench, name: str) -> None:
    claims = payload(bench)
    del claims[name]
    await refused(bench, raw(bench, HEAD, claims), "times")


CHALLENGE = challenge_of("v" * 43)


@pytest.mark.parametrize(
    ("audience", "challenge"),
    [
        pytest.param(BROKER, None, id="ours"),
        pytest.param([BROKER], None, id="a list of one"),
        pytest.param(f"{BROKER}#S256.{CHALLENGE}", CHALLENGE, id="bound"),
        pytest.param([f"{BROKER}#S256.{CHALLENGE}"], CHALLENGE, id="bound, in a list"),
    ],
)
async def test_our_audience(bench: Bench, audience: Any, challenge: str | None) -> None:
    verified = await bench.verifier.verify(bench.sign({"aud": audience}), now=datetime.now(UTC))
    assert verified.challenge == challenge


@pytest.mark.parametrize(
    "audience",
    [
        "https://other.example", BROKER + "/", BROKER.upper(), "", None, 1, True, [], {}, {"a": BROKER}, [[BROKER]],
        [BROKER, "https://other.example"], [BROKER, BROKER], f"{BROKER}#S256.", f"{BROKER}#S256.{CHALLENGE}x",
        f"{BROKER}#S256.{CHALLENGE[:-1]}", f"{BROKER}#S256.{CHALLENGE[:-1]}=", f"{BROKER}#S256.{CHALLENGE}\n",
        f"{BROKER}#S512.{CHALLENGE}", f"https://other.example#S256.{CHALLENGE}", f"#S256.{CHALLENGE}",
        f"{BROKER}#S256.{CHALLENGE}#S256.{CHALLENGE}",
    ],
)  # fmt: skip
async def test_other_audiences(bench: Bench, audience: Any) -> None:
    detail = await refused(bench, raw(bench, HEAD, payload(bench, aud=audience)), "audience")
    assert BROKER in detail, "the error says what to ask for"


async def test_a_bound_audience_can_be_demanded(bench: Bench) -> None:
    strict = bench.with_(bound_audience="required")
    now = datetime.now(UTC)
    assert (
        await strict.verifier.verify(bench.sign({"aud": f"{BROKER}#S256.{CHALLENGE}"}), now=now)
    ).challenge == CHALLENGE
    assert "#S256." in await refused(strict, bench.sign(), "unbound")
    await strict.verifier.close()


def test_challenge_is_rfc_7636() -> None:
    assert challenge_of("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    for wrong in ("", "v" * 42, "v" * 129, "v" * 42 + "+", "v" * 43 + "\n", "é" * 43):
        with pytest.raises(MalformedRequest):
            challenge_of(wrong)


async def test_issuer_is_compared_exactly(bench: Bench) -> None:
    url = bench.issuer.url
    for other in (url + "/", url.upper(), url + "/x", url[:-1], "", None, 1, [url], {"url": url}):
        await refused(bench, raw(bench, HEAD, payload(bench, iss=other)), "issuer")
    assert sum(bench.issuer.fetches.values()) == 0, "a token steered a fetch"


@pytest.mark.parametrize("value", [None, "", [], {}])
async def test_required_claims(bench: Bench, value: Any) -> None:
    assert "'sub'" in await refused(bench, raw(bench, HEAD, payload(bench, sub=value)), "claims")


@pytest.mark.parametrize("jti", [1, True, "", "j" * 513, ["a"], {}])
async def test_odd_token_ids(bench: Bench, jti: Any) -> None:
    await refused(bench, raw(bench, HEAD, payload(bench, jti=jti)), "claims")


async def test_jti_can_be_demanded(bench: Bench) -> None:
    strict = bench.with_(jti="required")
    assert "'jti'" in await refused(strict, raw(bench, HEAD, payload(bench)), "claims")
    await strict.verifier.close()


async def test_restore_is_the_same_job_again(bench: Bench) -> None:
    audience = f"{BROKER}#S256.{CHALLENGE}"
    verified = await bench.verifier.verify(bench.sign({"aud": audience}), now=datetime.now(UTC))
    kept = json.loads(json.dumps(verified.claims))
    assert bench.verifier.restore("ci", kept, token_key=verified.token_key) == verified
    with pytest.raises(SubjectTokenRejected, match="no longer configured"):
        bench.verifier.restore("gone", kept)
    moved = TokenVerifier(
        [type(bench.trusted)(name="ci", kind=bench.trusted.kind, url="https://moved.example", audiences=(BROKER,))]
    )
    with pytest.raises(SubjectTokenRejected, match="no longer configured"):
        moved.restore("ci", kept)


async def test_with_the_key_at_hand_nothing_is_waited_for(bench: Bench) -> None:
    now = datetime.now(UTC)
    await bench.verifier.verify(bench.sign(), now=now)
    verification = bench.verifier.verify(bench.sign(), now=now)
    # No event loop: the stops around the signature check (broker.turns) ask for nothing, and after them it is done.
    assert [verification.send(None), verification.send(None)] == [None, None]
    with pytest.raises(StopIteration) as finished:
        verification.send(None)
    assert finished.value.value.issuer == "ci"


def test_two_issuers_of_one_url_or_name(bench: Bench) -> None:
    make = type(bench.trusted)
    first = make(name="a", kind=bench.trusted.kind, url="https://a.example", audiences=(BROKER,))
    with pytest.raises(ValueError, match="same url"):
        TokenVerifier([first, make(name="b", kind=bench.trusted.kind, url="https://a.example", audiences=(BROKER,))])
    with pytest.raises(ValueError, match="rename"):
        TokenVerifier([first, make(name="a", kind=bench.trusted.kind, url="https://b.example", audiences=(BROKER,))])


async def test_claims_nobody_knows_are_counted(bench: Bench) -> None:
    from broker.issuers import ISSUERS

    github = bench.with_(kind=ISSUERS["github"], jti="required")
    claims = {**ISSUERS["github"].examples["github-branch"], "aud": BROKER, "brand_new": "x", "repo_property_team": "t"}
    await github.verifier.verify(bench.issuer.sign(claims), now=datetime.now(UTC))
    assert github.counts.unknown == [("github", ("brand_new",))]
    await github.verifier.close()
