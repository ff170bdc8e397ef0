"""What a refusal costs: why is found for owners only, and a flood of strangers pays for a no."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.errors import GrantRefused
from broker.exchange.credentials import Exchange
from broker.exchange.floods import Floods
from broker.exchange.leases import LeaseKeeper
from broker.exchange.requests import CredentialRequest
from broker.keys.files import FileKeyStore
from broker.ledger.records import EventQuery
from broker.ledger.store import Ledger
from broker.model import GrantRequest, Secret
from broker.policy import Denied
from broker.tokens.verify import TokenVerifier
from tests.unit.policy.world import NOON, job_token, load, policy_text

ASKED = CredentialRequest(bearer=Secret("unused"), grants=(GrantRequest(grant="payments/deploy"),))


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    opened = await Ledger.open(
        f"sqlite:///{tmp_path / 'ledger.db'}", keys=FileKeyStore(tmp_path / "keys"), origin="test"
    )
    yield opened
    await opened.close()


@pytest.fixture
def explained(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One entry for each time that the misses of a refusal were looked for."""
    seen: list[None] = []
    find = Denied.misses.fget
    assert find is not None

    def counted(self: Denied) -> object:
        seen.append(None)
        return find(self)

    monkeypatch.setattr(Denied, "misses", property(counted))
    return seen


def exchange(ledger: Ledger, tmp_path: Path) -> Exchange:
    keys, floods = FileKeyStore(tmp_path / "keys"), Floods()
    policies = load(policy_text(job="ref: refs/heads/main"))
    return Exchange(
        verifier=TokenVerifier([]), policies=lambda: policies, backends={}, ledger=ledger, keys=keys,
        keeper=LeaseKeeper(ledger, {}, keys, floods), floods=floods,
    )  # fmt: skip


async def test_a_stranger_is_refused_without_a_look_at_why(
    ledger: Ledger, tmp_path: Path, explained: list[None]
) -> None:
    broker = exchange(ledger, tmp_path)
    stranger = job_token(repository="evil/x", repository_id="1", repository_owner="evil", repository_owner_id="2")
    with pytest.raises(GrantRefused) as refused:
        await broker.judge(stranger, ASKED, broker.policies(), now=NOON)
    assert refused.value.case is not None
    assert broker.floods.window_of(refused.value.case) is not None
    assert not explained


async def test_a_near_miss_is_explained_to_its_owners(ledger: Ledger, tmp_path: Path, explained: list[None]) -> None:
    broker = exchange(ledger, tmp_path)
    near = job_token(repository_id="512345678", ref="refs/heads/x")
    with pytest.raises(GrantRefused) as refused:
        await broker.judge(near, ASKED, broker.policies(), now=NOON)
    assert explained
    (event,) = await ledger.events(EventQuery(type="refused"))
    assert event.body["case"] == refused.value.case
    assert event.body["near"][0]["key"] == "job.ref"
    assert "refs/heads/main" not in json.dumps([refused.value.detail, dict(refused.value.extra)])
