"""Nothing of a token or a key shows where values are printed."""

from datetime import UTC, datetime

import pytest

from broker.errors import SubjectTokenRejected
from tests.unit.tokens.conftest import Bench


async def test_errors_and_reprs_hold_no_token(bench: Bench) -> None:
    secret = "s3cret-branch-name"
    token = bench.sign({"aud": secret, "repo": secret})
    with pytest.raises(SubjectTokenRejected) as caught:
        await bench.verifier.verify(token, now=datetime.now(UTC))
    assert secret not in caught.value.detail + caught.value.reason + repr(caught.value)
    shown = repr(bench.keys._fetched) + repr(bench.trusted) + str(bench.verifier.issuers)
    assert token.rpartition(".")[2] not in shown
    assert "RSAPublicKey" not in shown
