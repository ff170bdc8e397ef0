"""Key set documents that hold nothing usable, told without a server."""

from typing import Any

import pytest

from broker.tokens.keyset import NoKeys, parse
from tests.fakes.issuer import SigningKey, make_private_key

CURVE = SigningKey("ES256", "a", make_private_key("ES256"))


@pytest.mark.parametrize(
    "document", [{}, {"keys": None}, {"keys": {}}, {"keys": "x"}, {"keys": []}, {"keys": [{}]}, {"keys": [CURVE.jwk()]}]
)
def test_nothing_usable(document: dict[str, Any]) -> None:
    with pytest.raises(NoKeys):
        parse(document, ("RS256",))


def test_a_key_without_alg_checks_what_is_pinned_and_fits() -> None:
    jwk = SigningKey("RS256", "a", make_private_key("RS256")).jwk()
    del jwk["alg"]
    keys = parse({"keys": [jwk, CURVE.jwk()]}, ("PS256", "RS256", "ES256", "EdDSA"))
    assert sorted((key.kid, key.alg) for key in keys.keys) == [("a", "ES256"), ("a", "PS256"), ("a", "RS256")]
    assert keys.find("a", "RS512") is None
    assert keys.find(None, "RS256") is None, "two keys, and the token names none"


def test_a_signature_that_trips_the_library_is_no_signature() -> None:
    key = parse({"keys": [CURVE.jwk()]}, ("ES256",)).find("a", "ES256")
    assert key is not None
    for signature in (b"", b"x", b"x" * 64, b"\0" * 64, b"x" * 1000):
        assert not key.verifies(b"x", signature)
