"""Hostile bodies: every one is a MalformedRequest that says where, and never what was sent."""

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import MalformedRequest, RequestRefused
from broker.model import Secret
from broker.web import wire

BEARER = Secret("token")


def body(**members: object) -> bytes:
    return json.dumps({"grants": ["payments/deploy"], **members}).encode()


def test_names_and_objects_become_grant_requests() -> None:
    asked = ["payments/deploy", {"grant": "payments/ssh", "ttl": "5m", "params": {"public_key": "ssh-ed25519 A"}}]
    request = wire.credentials_body(body(grants=asked, verifier="v" * 43, nonce="n" * 22)).to_request(BEARER)
    first, second = request.grants
    assert (first.grant, first.ttl, first.params) == ("payments/deploy", None, None)
    assert (second.grant, second.ttl, second.params) == (
        "payments/ssh",
        timedelta(minutes=5),
        {"public_key": "ssh-ed25519 A"},
    )
    assert "v" * 43 not in repr(request)
    assert "n" * 22 not in repr(request)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="half an object"),
        pytest.param(b"\xff\xfe", id="not UTF-8"),
        pytest.param(b'{"grants": ["payments/deploy\xff"]}', id="broken UTF-8 inside"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b'"payments/deploy"', id="a text"),
        pytest.param(b"{}", id="no grants"),
        pytest.param(body(grants=[]), id="no grant"),
        pytest.param(body(grants="payments/deploy"), id="a text for a list"),
        pytest.param(body(grants=["payments"]), id="no slash"),
        pytest.param(body(grants=["../../etc"]), id="a path"),
        pytest.param(body(grants=["payments/deploy\n"]), id="trailing newline"),
        pytest.param(body(grants=["Payments/deploy"]), id="capitals"),
        pytest.param(body(grants=[1]), id="a number"),
        pytest.param(body(grants=["payments/deploy"] * 17), id="seventeen"),
        pytest.param(body(grants=[{"grant": "payments/deploy", "ttl": "0s"}]), id="ttl zero"),
        pytest.param(body(grants=[{"grant": "payments/deploy", "ttl": "-5m"}]), id="ttl negative"),
        pytest.param(body(grants=[{"grant": "payments/deploy", "ttl": "1.5m"}]), id="ttl fractional"),
        pytest.param(body(grants=[{"grant": "payments/deploy", "ttl": "soon"}]), id="ttl text"),
        pytest.param(body(grants=[{"grant": "payments/deploy", "ttl": 300}]), id="ttl a number"),
        pytest.param(body(grants=[{"grant": "payments/deploy", "ttl": "9" * 30 + "h"}]), id="ttl huge"),
        pytest.param(body(grants=[{"grant": "payments/deploy", "ttl": "400d"}]), id="ttl more than a year"),
        pytest.param(body(grants=[{"grant": "payments/deploy", "ttl": "\uff15m"}]), id="ttl in full-width digits"),
        pytest.param(body(grants=[{"grant": "payments/deploy", "params": []}]), id="params a list"),
        pytest.param(body(grants=[{"grant": "payments/deploy", "tll": "5m"}]), id="a misspelt member"),
        pytest.param(body(verifyer="v" * 43), id="a misspelt verifier"),
        pytest.param(body(verifier="short"), id="a short verifier"),
        pytest.param(body(nonce="n" * 200), id="a long nonce"),
        pytest.param(body(nonce=7), id="a number for a nonce"),
        pytest.param(b'{"grants": ["payments/deploy"], "x": ' + b"[" * 5000 + b"]" * 5000 + b"}", id="deep"),
    ],
)
def test_bad_bodies(sent: bytes) -> None:
    with pytest.raises(MalformedRequest):
        wire.credentials_body(sent)


def test_a_grant_asked_for_twice() -> None:
    with pytest.raises(MalformedRequest, match="twice"):
        wire.credentials_body(body(grants=["payments/deploy", {"grant": "payments/deploy"}])).to_request(BEARER)


def test_a_secret_in_the_wrong_member_is_not_repeated() -> None:
    with pytest.raises(MalformedRequest) as refused:
        wire.credentials_body(body(grants=["eyJhbGciOi.secret.secret"]))
    assert "secret" not in refused.value.detail


@given(st.binary(max_size=300))
def test_whatever_bytes_arrive(sent: bytes) -> None:
    for read in (wire.credentials_body, wire.renew_body, wire.token_form, wire.revoke_form):
        try:
            read(sent)
        except RequestRefused:
            continue


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ("", "MalformedRequest"),
        ("grant_type=password", "UnsupportedGrantType"),
        ("grant_type=" + wire.EXCHANGE + "&subject_token_type=" + wire.ACCESS_TOKEN, "UnsupportedTokenType"),
        ("grant_type=a&grant_type=b", "MalformedRequest"),
        ("actor_token=x", "MalformedRequest"),
        ("%ff=%fe", "MalformedRequest"),
    ],
)
def test_bad_forms(form: str, error: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        wire.token_form(form.encode())
    assert type(refused.value).__name__ == error


def test_rfc_8693_form() -> None:
    form = f"grant_type={wire.EXCHANGE}&subject_token=a.b.c&subject_token_type={wire.JWT}&audience=payments%2Fdeploy&unknown=1"
    request = wire.token_form(form.encode()).to_request()
    assert request.grants[0].grant == "payments/deploy"
    assert request.bearer.reveal() == "a.b.c"
