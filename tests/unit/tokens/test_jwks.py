"""An issuer's keys through rotations, outages, lies and floods: a real issuer on loopback, and a clock moved by hand."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from broker.errors import IssuerUnreachable, SubjectTokenRejected
from broker.tokens import fetching, jwks
from tests.fakes.issuer import FakeIssuer, SigningKey, make_private_key
from tests.unit.tokens.conftest import Bench
from tests.unit.tokens.test_verify import b64


async def good(bench: Bench, token: str | None = None) -> None:
    assert (await bench.verifier.verify(token or bench.sign(), now=datetime.now(UTC))).issuer == "ci"


async def unknown(bench: Bench, token: str) -> None:
    with pytest.raises(SubjectTokenRejected, match="publishes no key"):
        await bench.verifier.verify(token, now=datetime.now(UTC))


async def unreachable(bench: Bench, token: str | None = None) -> IssuerUnreachable:
    with pytest.raises(IssuerUnreachable) as caught:
        await bench.verifier.verify(token or bench.sign(), now=datetime.now(UTC))
    assert caught.value.retry_after is not None
    assert 1 <= caught.value.retry_after <= 60
    return caught.value


async def settled(bench: Bench) -> None:
    """Let a fetch behind the requests land."""
    if bench.keys._flight is not None:
        await asyncio.wait([bench.keys._flight])


async def test_one_fetch_for_many_tokens_at_once(bench: Bench) -> None:
    await asyncio.gather(*(good(bench) for _ in range(50)))
    await good(bench)
    assert bench.issuer.fetches == {"discovery": 1, "jwks": 1}


async def test_rotation_is_noticed_at_the_first_token(bench: Bench) -> None:
    await good(bench)
    old = bench.sign()
    bench.issuer.rotate(alg="RS256")
    await good(bench)
    await unknown(bench, old)  # the key it was signed with was taken back
    assert bench.issuer.fetches["discovery"] == 1, "the jwks_uri was known"


async def test_two_keys(bench: Bench) -> None:
    second = bench.issuer.add_key(SigningKey("RS256", "key-2", make_private_key("RS256")))
    await good(bench)
    await good(bench, bench.sign(key=second))
    assert bench.issuer.fetches["jwks"] == 1
    with pytest.raises(SubjectTokenRejected, match="signature"):  # a key only vouches under its own name
        await bench.verifier.verify(bench.sign(key=second, kid="key-1"), now=datetime.now(UTC))


async def test_a_token_without_kid_needs_a_single_key(bench: Bench) -> None:
    bench.issuer.keys[0].kid = None
    await good(bench)
    named = bench.with_()
    await unknown(named, bench.sign(kid="key-1"))  # the token names a key, the set does not
    bench.issuer.add_key(SigningKey("RS256", "key-2", make_private_key("RS256")))
    several = bench.with_()
    await unknown(several, bench.sign(kid=None))
    await good(several, bench.sign(key=bench.issuer.keys[1]))


async def test_unknown_kid_flood(bench: Bench) -> None:
    """10,000 made-up key names in a minute cost the issuer a handful of fetches, and good jobs notice nothing."""
    await good(bench)
    private = bench.issuer.keys[0].private
    template = jwt.encode({"iss": bench.issuer.url}, private, algorithm="RS256").split(".")
    outcomes = {SubjectTokenRejected: 0, IssuerUnreachable: 0}
    genuine = bench.sign()
    for i in range(10_000):
        token = ".".join([b64({"alg": "RS256", "kid": f"no-{i}"}), *template[1:]])
        with pytest.raises((SubjectTokenRejected, IssuerUnreachable)) as caught:
            await bench.verifier.verify(token, now=datetime.now(UTC))
        outcomes[caught.type] += 1
        bench.clock.advance(0.006)
        if i % 1000 == 0:
            await good(bench, genuine)
    assert bench.issuer.fetches["jwks"] <= 1 + jwks.BUCKET + 60 / jwks.BUCKET_SECONDS
    assert outcomes[SubjectTokenRejected] >= jwks.BUCKET
    assert len(bench.verifier._headers) == 1, "headers of tokens that never verified are not kept"


async def test_a_flood_delays_a_rotation_but_refuses_no_good_job(bench: Bench) -> None:
    await good(bench)
    for i in range(jwks.BUCKET):
        await unknown(bench, bench.sign(kid=f"no-{i}"))
    bench.issuer.rotate(alg="RS256")
    token = bench.sign()
    error = await unreachable(bench, token)  # "try again", never "your token is bad"
    assert error.status == 503
    bench.clock.advance(jwks.BUCKET_SECONDS)
    await good(bench, token)


async def test_keys_are_refreshed_behind_the_requests(bench: Bench) -> None:
    bench.issuer.cache_control = "public, max-age=100"
    await good(bench)
    bench.clock.advance(79)
    await good(bench)
    assert bench.keys._flight is None
    bench.clock.advance(2)
    await good(bench)  # answered at once; the fetch has only begun
    assert bench.keys._flight is not None
    await settled(bench)
    assert bench.issuer.fetches["jwks"] == 2


async def test_an_unknown_kid_joins_the_fetch_under_way(bench: Bench) -> None:
    """It waits for that one rather than spend another; it is fetched for anew only where that one does not bring it."""
    bench.issuer.cache_control = "max-age=100"
    await good(bench)
    bench.issuer.rotate(alg="RS256")
    bench.issuer.mode = "slow"
    bench.clock.advance(81)
    flight = bench.keys._start()
    fresh = asyncio.create_task(good(bench))
    await asyncio.sleep(0)
    bench.issuer.release.set()
    await fresh
    assert flight.done()
    assert bench.issuer.fetches["jwks"] == 2
    assert bench.keys._bucket == jwks.BUCKET


async def test_a_token_without_kid_and_several_nameless_keys(bench: Bench) -> None:
    bench.issuer.keys[0].kid = None
    bench.issuer.add_key(SigningKey("RS256", None, make_private_key("RS256")))
    assert "no `kid` to tell them apart" in (await unreachable(bench)).reason


async def test_a_bug_in_fetching_is_an_outage_not_a_crash(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_: Any) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr(jwks, "discover", broken)
    assert "ZeroDivisionError" in (await unreachable(bench)).reason
    monkeypatch.undo()
    bench.clock.advance(jwks.RETRY_FIRST)
    await good(bench)


async def test_close_ends_a_fetch_under_way(bench: Bench) -> None:
    bench.issuer.mode = "slow"
    flight = bench.keys._start()
    await asyncio.sleep(0)
    await bench.verifier.close()
    assert flight.cancelled()


async def test_keys_of_hours_ago_are_fetched_before_use_where_nothing_failed(bench: Bench) -> None:
    """A broker that slept must not accept a key taken back meanwhile, when asking costs one fetch."""
    await good(bench)
    old = bench.sign()
    bench.issuer.rotate(alg="RS256")
    bench.clock.advance(4 * 3600)
    await unknown(bench, old)


async def test_beyond_the_stale_limit_nobody_is_let_in_while_the_issuer_hangs_up(bench: Bench) -> None:
    await good(bench)
    bench.issuer.mode = "drop"
    bench.clock.advance(7 * 3600)
    for _ in range(3):
        assert "stale_limit" in (await unreachable(bench)).reason


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (None, 300), ("max-age=120", 120), ("max-age=5", 60), ("max-age=999999", 900), ("no-store", 60),
        ("public, MAX-AGE = 120, must-revalidate", 120), ("max-age=nonsense", 300), ("no-cache, max-age=800", 60),
    ],
)  # fmt: skip
async def test_cache_control_counts_within_bounds(bench: Bench, said: str | None, seconds: float) -> None:
    bench.issuer.cache_control = said
    await good(bench)
    assert bench.keys._fresh_until - bench.clock.now == seconds
    assert bench.keys.due_in() == pytest.approx(seconds * jwks.REFRESH_AT)


async def test_a_key_taken_back_is_gone_within_the_fresh_time(bench: Bench) -> None:
    await good(bench)
    old = bench.sign()
    bench.issuer.rotate(alg="RS256")
    bench.clock.advance(jwks.DEFAULT_FRESH)
    await unknown(bench, old)


async def test_an_outage_is_not_noticed_until_the_stale_limit(bench: Bench) -> None:
    bench = bench.with_(stale_limit=timedelta(hours=1))
    await good(bench)
    bench.issuer.mode = "down"
    for _ in range(59):
        bench.clock.advance(60)
        await good(bench)
        await settled(bench)
    assert bench.keys.trouble is not None
    bench.clock.advance(61)
    assert "stale_limit" in (await unreachable(bench)).reason
    bench.issuer.mode = "good"
    bench.clock.advance(jwks.RETRY_LONGEST)
    await good(bench)
    assert bench.keys.trouble is None


async def test_in_an_outage_no_job_waits_and_the_issuer_is_not_hammered(bench: Bench) -> None:
    await good(bench)
    bench.issuer.mode = "down"
    bench.clock.advance(jwks.DEFAULT_FRESH)
    await good(bench)
    await settled(bench)
    before = sum(bench.issuer.fetches.values())
    for _ in range(100):
        await good(bench)
    assert sum(bench.issuer.fetches.values()) == before
    assert 0 < bench.keys.due_in() <= jwks.RETRY_FIRST


async def test_a_rotation_during_an_outage_says_try_again(bench: Bench) -> None:
    await good(bench)
    bench.issuer.rotate(alg="RS256")
    bench.issuer.mode = "down"
    token = bench.sign()
    await unreachable(bench, token)
    bench.issuer.mode = "good"
    await good(bench, token)


async def test_a_slow_issuer_makes_one_fetch_wait_and_no_client_can_cancel_it(bench: Bench) -> None:
    bench.issuer.mode = "slow"
    impatient, patient = (asyncio.create_task(good(bench)) for _ in range(2))
    while not bench.issuer.fetches["discovery"]:
        await asyncio.sleep(0)
    impatient.cancel()
    bench.issuer.release.set()
    await patient
    assert impatient.cancelled()
    assert bench.issuer.fetches == {"discovery": 1, "jwks": 1}


LIES = [
    (mode, path)
    for mode in FakeIssuer.MODES
    for path in ("discovery", "jwks")
    if mode not in ("good", "slow") and (mode, path) not in (("wrong-issuer", "jwks"), ("no-keys", "discovery"))
]


@pytest.mark.parametrize(("mode", "broken_path"), LIES)
async def test_lies_and_faults_never_widen_trust(bench: Bench, mode: str, broken_path: str) -> None:
    """Before the first good set nobody gets in; after it, the last good one stays, and only that."""
    bench.issuer.mode, bench.issuer.broken_path = mode, broken_path
    error = await unreachable(bench)
    assert "try again" in error.detail
    assert bench.issuer.fetches["elsewhere"] == 0, "a redirect was followed"
    bench.issuer.mode = "good"
    bench.clock.advance(jwks.RETRY_LONGEST)
    await good(bench)
    kept = bench.sign()
    bench.issuer.mode = mode
    bench.issuer.rotate(alg="RS256")
    bench.clock.advance(jwks.DISCOVERY_FRESH)
    await bench.keys.refresh()
    assert bench.keys.trouble
    await good(bench, kept)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"kty": "oct", "k": "c2VjcmV0"}, id="a shared secret"),
        pytest.param({"kty": "EC", "crv": "P-256"}, id="another type"),
        pytest.param({"kty": None}, id="no type at all"),
        pytest.param({"use": "enc"}, id="for encryption"),
        pytest.param({"key_ops": ["encrypt"]}, id="for encryption by key_ops"),
        pytest.param({"key_ops": "verify"}, id="key_ops of another type"),
        pytest.param({"alg": "RS512"}, id="for another algorithm"),
        pytest.param({"alg": "HS256"}, id="for HMAC"),
        pytest.param({"d": "AQAB"}, id="with its private half"),
        pytest.param({"n": "AQAB"}, id="a tiny modulus"),
        pytest.param({"n": "!!!"}, id="no base64"),
        pytest.param({"n": None}, id="no modulus"),
        pytest.param({"e": "AQ"}, id="exponent one"),
        pytest.param({"e": "Aw"}, id="exponent three"),
        pytest.param({"kid": ""}, id="empty name"),
        pytest.param({"kid": 7}, id="name a number"),
    ],
)
async def test_unfit_keys_are_left_out(bench: Bench, change: dict[str, Any]) -> None:
    """An unfit key is no key; a fit one beside it still works."""
    bench.issuer.keys[0].extra = change
    assert (await unreachable(bench)).status == 503
    other = bench.issuer.add_key(SigningKey("RS256", "key-2", make_private_key("RS256")))
    bench.clock.advance(jwks.RETRY_LONGEST)
    await good(bench, bench.sign(key=other))
    await unknown(bench, bench.sign(kid="key-1"))


@pytest.mark.parametrize(("bits", "exponent"), [(1024, 65537), (2048, 3)])
async def test_weak_keys_and_junk_beside_them(bench: Bench, bits: int, exponent: int) -> None:
    weak = rsa.generate_private_key(public_exponent=exponent, key_size=bits)
    token = bench.sign()
    bench.issuer.keys = [SigningKey("RS256", "key-1", weak)]
    bench.issuer.extra_jwks = [None, 1, "x", [], {"kty": []}, {"kty": "RSA", "crv": 3}, {"kty": "EC", "crv": {}}]
    assert "no key for RS256" in (await unreachable(bench, token)).reason


async def test_one_name_for_two_keys_means_neither(bench: Bench) -> None:
    bench.issuer.add_key(SigningKey("RS256", "key-1", make_private_key("RS256")))
    await unreachable(bench)
    twin = bench.with_()
    bench.issuer.keys = [bench.issuer.keys[0], SigningKey("RS256", "key-1", bench.issuer.keys[0].private)]
    await good(twin)  # the same key listed twice is one key


async def test_too_many_keys(bench: Bench) -> None:
    bench.issuer.extra_jwks = [{}] * 64
    await unreachable(bench)


@pytest.mark.parametrize(
    ("jwks_uri", "because"),
    [
        ("https://192.168.7.7/jwks", "must not be dialled"),
        ("https://10.0.0.1/jwks", "must not be dialled"),
        ("https://169.254.169.254/latest/meta-data", "must not be dialled"),
        ("https://[fe80::1]/jwks", "must not be dialled"),
        ("https://[::ffff:10.0.0.1]/jwks", "must not be dialled"),
        ("https://0.0.0.0/", "must not be dialled"),
        ("http://192.168.7.7/jwks", "no plain https URL"),
        ("file:///etc/passwd", "no plain https URL"),
        ("ftp://x.example/", "no plain https URL"),
        ("https://user:pw@x.example/jwks", "no plain https URL"),
        ("//x.example", "no plain https URL"),
        ("https://x.example/jwks#x", "no plain https URL"),
        ("https://x.example/a b", "no plain https URL"),
        ("https://", "no plain https URL"),
        (["https://x.example/"], "no jwks_uri"),
    ],
)
async def test_jwks_uri_leads_nowhere_private(bench: Bench, jwks_uri: Any, because: str) -> None:
    bench.issuer.jwks_uri = jwks_uri
    assert because in (await unreachable(bench)).reason
    assert bench.issuer.fetches["jwks"] == 0


async def test_dns_rebinding(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A public name that resolves to a private address when dialled; the name itself looked harmless."""
    asked = []

    async def getaddrinfo(host: str, port: int, **_: Any) -> Any:
        asked.append(host)
        return [(2, 1, 6, "", ("192.168.1.10", port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    bench.issuer.jwks_uri = "https://keys.public.example/jwks"
    error = await unreachable(bench)
    assert asked == ["keys.public.example"]
    assert "must not be dialled" in error.reason


async def test_https_never_steps_down(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    secure = bench.with_(url="https://ci.acme.example")

    async def answer(*_: Any) -> tuple[dict[str, Any], str]:
        return {"issuer": "https://ci.acme.example", "jwks_uri": "http://127.0.0.1/jwks"}, ""

    monkeypatch.setattr(fetching, "_get", answer)
    with pytest.raises(fetching.FetchFailed, match="steps down"):
        await fetching.discover(secure.trusted)


async def test_start_fetches_ahead_and_close_ends_it(bench: Bench) -> None:
    await bench.verifier.start()
    while bench.keys.age is None:
        await asyncio.sleep(0.001)
    before = sum(bench.issuer.fetches.values())
    await good(bench)
    assert sum(bench.issuer.fetches.values()) == before
    await bench.verifier.close()
    assert not [task for task in asyncio.all_tasks() if task.get_name() in ("jwks-ci", "fresh-ci")]


async def test_start_survives_an_issuer_that_is_down(bench: Bench) -> None:
    bench.issuer.mode = "drop"
    await bench.verifier.start()
    while not bench.counts.fetched:
        await asyncio.sleep(0.001)
    assert bench.counts.fetched == [False]
    assert bench.keys.due_in() == pytest.approx(jwks.RETRY_FIRST)
