"""Who sees what of a case: on a real ledger, with policies that change."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from broker import ids
from broker.cli.ledger import story
from broker.errors import UnknownCase
from broker.exchange import cases as cases_module
from broker.exchange.cases import CaseQuery, Cases, find_in, show_in
from broker.exchange.floods import WINDOW, Floods
from broker.exchange.leases import refused_many
from broker.ledger import events
from broker.ledger.reader import open_reader
from broker.ledger.records import Entry, Event, EventQuery
from broker.ledger.store import Ledger
from broker.people.roles import Person, Role, canonical
from broker.policy import PolicySet
from tests.unit.ledger.story import open_ledger
from tests.unit.policy.world import job_token, load, policy_text

NOW = datetime.now(UTC)
PAYMENTS = policy_text()
SHIPPING = policy_text().replace("policy: payments", "policy: shipping").replace("team@acme", "ship@acme")


def person(*names: str, roles: tuple[Role, ...] = ()) -> Person:
    return Person(
        name="x", roles=frozenset(roles), names=frozenset(map(canonical, names)), token_key=b"k" * 32, expires_at=NOW
    )


OWNER, SHIPPER = person("team@acme.example"), person("ship@acme.example")
ALL = [person(roles=(role,)) for role in Role]


def miss(policy: str, key: str = "job.ref") -> dict[str, Any]:
    return {
        "policy": policy,
        "statement": 0,
        "key": key,
        "code": "no-statement",
        "expected": f"{policy}-secret",
        "got": "g",
    }


def refusal(*near: dict[str, Any], **changed: Any) -> Event:
    job = {"project": "acme/payments", "run_id": "7", **changed.pop("job", {})}
    told: dict[str, Any] = {"case": ids.new("case"), "code": "no-statement", "grants": ["payments/deploy"], "issuer": "ci", "job": job,
            "claims": {"sub": "s"}, "reason": "payments-secret shipping-secret", "policy_set": "sha256:x", "near": near}  # fmt: skip
    return events.refused(**{**told, **changed})


class Scene:
    def __init__(self, ledger: Ledger, folder: Path) -> None:
        self.ledger, self.folder, self.floods = ledger, folder, Floods()
        self.policies: PolicySet = load(PAYMENTS, SHIPPING)
        self.cases = Cases(ledger, lambda: self.policies, self.floods)

    async def keep(self, *kept: Event) -> list[str]:
        for event in kept:
            await self.ledger.write(Entry(events=(event,)))
        return [str(event.body.get("case")) for event in kept]

    async def sees(self, case: str, who: Person) -> bool:
        try:
            await self.cases.show(case, who)
        except UnknownCase:
            return False
        return True

    async def find(self, who: Person, **query: Any) -> list[str]:
        return [row["case"] for row in (await self.cases.find(CaseQuery(**query), who)).cases]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    ledger = await open_ledger(tmp_path)
    yield Scene(ledger, tmp_path)
    await ledger.close()


async def test_an_owner_sees_what_their_policies_say_and_others_all(scene: Scene) -> None:
    (case,) = await scene.keep(refusal(miss("shipping"), miss("payments"), miss("payments", "job.sha")))
    shown = await scene.cases.show(case, OWNER)
    assert shown["near"] == [{
        "policy": "payments", "statement": 0, "held": [], "misses": [
            {"key": "job.ref", "code": "no-statement", "expected": "payments-secret", "got": "g", "first": True},
            {"key": "job.sha", "code": "no-statement", "expected": "payments-secret", "got": "g", "first": False},
        ],
    }]  # fmt: skip
    assert "shipping" not in str(shown)
    assert "reason" not in shown
    for who in ALL:
        whole = await scene.cases.show(case, who)
        assert [group["policy"] for group in whole["near"]] == ["shipping", "payments"]
        assert whole["reason"] == "payments-secret shipping-secret"


async def test_who_owns_a_policy_now_is_who_sees(scene: Scene) -> None:
    (case,) = await scene.keep(refusal(miss("payments")))
    assert (await scene.sees(case, OWNER), await scene.sees(case, SHIPPER)) == (True, False)
    scene.policies = load(PAYMENTS.replace("team@acme", "ship@acme"))
    assert (await scene.sees(case, OWNER), await scene.sees(case, SHIPPER)) == (False, True)
    scene.policies = load(SHIPPING)  # the policy is gone
    assert [await scene.sees(case, who) for who in (OWNER, SHIPPER, *ALL)] == [False, False, True, True, True]


async def test_a_case_that_is_not_there_and_one_of_others_are_told_alike(scene: Scene) -> None:
    there, read = await scene.keep(refusal(miss("shipping")), events.case_read(case="x", person="p", roles=[]))
    told = set()
    for name in (there, read, ids.new("case"), "case_x", "", "evt_" + there[5:], there.lower(), there + " "):
        with pytest.raises(UnknownCase) as unknown:
            await scene.cases.show(name, OWNER)
        told.add((unknown.value.detail, unknown.value.status, unknown.value.case))
    assert len(told) == 1


@pytest.mark.parametrize(
    ("event", "word"),
    [
        pytest.param(refusal(code="BackendFailed"), "audit show", id="no policy is near"),
        pytest.param(events.reused(case=ids.new("case"), session="ses_x", issuer="ci", job={}), "stolen", id="a token twice"),
        pytest.param(refusal(miss("payments")), "policy explain --case", id="a near miss"),
        pytest.param(refusal({**miss("payments", "grant"), "code": "unknown-grant"}), "no such grant", id="a grant's name"),
    ],
)  # fmt: skip
async def test_a_remedy_says_what_to_do(scene: Scene, event: Event, word: str) -> None:
    (case,) = await scene.keep(event)
    shown = await scene.cases.show(case, ALL[0])
    assert word in shown["remedy"]
    assert await scene.sees(case, OWNER) is bool(event.body.get("near"))


async def test_a_flood_is_looked_through_in_pages(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event of it holds a stranger's claims: ten thousand at once are hundreds of megabytes."""
    monkeypatch.setattr(cases_module, "PAGE", 3)
    windows = []
    for _ in range(10):
        flood = Floods()
        made = [flood.stranger(job_token(repository="evil/x"), ("payments/deploy",), now=NOW)[0] for _ in range(2)]
        windows.append(made[1])
        for window in flood.close_windows(now=NOW, every=True):
            await scene.ledger.write(Entry(events=(refused_many(window, NOW),)))
    asked = []
    find = scene.ledger.events

    async def counted(query: EventQuery) -> Any:
        asked.append(query.limit)
        return await find(query)

    monkeypatch.setattr(scene.ledger, "events", counted)
    for case in windows:
        assert (await scene.cases.show(case, ALL[0]))["case"] == case
        with open_reader(scene.folder / "ledger.db") as reader:
            assert show_in(reader, case)["case"] == case
    assert not await scene.sees(ids.new("case"), ALL[0])
    assert set(asked) == {3}


async def test_every_strangers_case_leads_to_the_one_event(scene: Scene) -> None:
    token = job_token(repository_id="1")
    cases = [scene.floods.stranger(token, ("payments/deploy",), now=NOW)[0] for _ in range(4)]
    for case in cases:  # before the event is written
        shown = await scene.cases.show(case, ALL[0])
        assert (shown["case"], shown["code"], shown["count"]) == (case, "stranger", 4)
        assert not await scene.sees(case, OWNER)
    (window,) = scene.floods.close_windows(now=NOW + WINDOW)
    await scene.keep(refusal(miss("payments")), refused_many(window, NOW + WINDOW), refusal(miss("payments")))
    for case in cases:
        shown = await scene.cases.show(case, ALL[0])
        assert (shown["case"], shown["type"], shown["count"], shown["near"]) == (case, "refused-many", 4, [])
        assert shown["job"]["project_id"] == "1"
        assert not await scene.sees(case, OWNER)
    with open_reader(scene.folder / "ledger.db") as reader:
        assert [show_in(reader, case)["count"] for case in cases] == [4, 4, 4, 4]
        assert [len(story(reader, case)[0]) for case in [*cases, ids.new("case")]] == [1, 1, 1, 1, 0]
    assert await scene.find(ALL[0]) != await scene.find(OWNER)


async def test_lists_are_filtered_by_what_one_may_see_and_by_the_question(scene: Scene) -> None:
    mine, other, both, elsewhere = await scene.keep(
        refusal(miss("payments")), refusal(miss("shipping")), refusal(miss("shipping"), miss("payments")),
        refusal(miss("payments"), job={"project": "acme/else", "run_id": "8"}),
    )  # fmt: skip
    assert await scene.find(OWNER) == [elsewhere, both, mine]
    assert await scene.find(SHIPPER) == [both, other]
    assert await scene.find(ALL[0]) == [elsewhere, both, other, mine]
    assert await scene.find(OWNER, project="acme/payments") == [both, mine]
    assert await scene.find(OWNER, run="8") == [elsewhere]
    assert await scene.find(SHIPPER, run="8") == []
    assert await scene.find(OWNER, policy="shipping") == []
    assert await scene.find(ALL[0], policy="shipping") == [both, other]
    assert await scene.find(ALL[0], since=datetime.now(UTC) + timedelta(minutes=1)) == []
    assert await scene.find(ALL[0], until=NOW - timedelta(hours=1)) == []
    page = await scene.cases.find(CaseQuery(), OWNER)
    assert [row["policies"] for row in page.cases] == [["payments"]] * 3
    assert "secret" not in str(page)
    with open_reader(scene.folder / "ledger.db") as reader:
        assert [row["case"] for row in find_in(reader, CaseQuery(run="8")).cases] == [elsewhere]


async def test_pages_go_on_where_they_ended_however_much_is_hidden(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    from broker.exchange import cases

    monkeypatch.setattr(cases, "MOST_READ", 6)
    monkeypatch.setattr(cases, "PAGE", 3)
    kept = await scene.keep(*(refusal(miss("payments" if n % 5 == 0 else "shipping")) for n in range(23)))
    wanted, found, before, pages = kept[::5][::-1], [], None, 0
    while True:
        page = await scene.cases.find(CaseQuery(before=before, limit=2), OWNER)
        found += [row["case"] for row in page.cases]
        before, pages = page.next, pages + 1
        if before is None:
            break
    assert found == wanted
    assert pages >= 4  # a page reads no more than MOST_READ
