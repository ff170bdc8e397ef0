"""A request's token becomes a person: a real issuer on loopback, the real verifier, a real ledger."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest

from broker.errors import IssuerUnreachable, RoleNeeded, SignInNeeded, SubjectTokenRejected, TooManyReads
from broker.issuers import ISSUERS
from broker.issuers.trusted import TrustedIssuer
from broker.ledger.records import EventQuery
from broker.ledger.store import Ledger
from broker.people import signin
from broker.people.roles import Person
from broker.people.settings import People
from broker.people.signin import SignIn
from broker.tokens import TokenVerifier
from tests.fakes.issuer import FakeIssuer
from tests.unit.ledger.story import open_ledger
from tests.unit.people.parts import checked

URL = "https://broker.acme.example"
DANA = {"sub": "17", "aud": "jobkey", "email": "dana@acme.example", "email_verified": True}
ROLES = {"roles": {"auditor": {"groups": {"contains": "sec-audit"}}}}


class Scene:
    def __init__(self, issuer: FakeIssuer, ledger: Ledger, people: People) -> None:
        self.issuer, self.ledger, self.people = issuer, ledger, people
        self.owners = {"owner@acme.example"}
        self.signin = SignIn(people, ledger, url=URL, owns=self.owns)

    def owns(self, person: Person) -> bool:
        return person.owns(self.owners)

    async def ask(self, token: str | None) -> Person:
        return await self.signin.person(None if token is None else f"Bearer {token}", now=datetime.now(UTC))

    async def refusal(self, token: str | None) -> SignInNeeded:
        with pytest.raises(SignInNeeded) as refused:
            await self.ask(token)
        return refused.value

    def sign(self, how: dict[str, Any] | None = None, /, **claims: Any) -> str:
        return self.issuer.sign({**DANA, "groups": ["sec-audit"], **claims}, **(how or {}))

    async def events(self, kind: str) -> list[dict[str, Any]]:
        return [event.body for event in await self.ledger.events(EventQuery(type=kind, newest_first=False))]


@pytest.fixture
async def issuer() -> AsyncIterator[FakeIssuer]:
    async with FakeIssuer() as running:
        yield running


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    opened = await open_ledger(tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
async def scene(issuer: FakeIssuer, ledger: Ledger) -> AsyncIterator[Scene]:
    made = Scene(issuer, ledger, checked(issuer=issuer.url, **ROLES))
    yield made
    await made.signin.close()


async def test_a_person_signs_in_and_is_recorded_once_a_token(scene: Scene) -> None:
    token = scene.sign()
    people = await asyncio.gather(*(scene.ask(token) for _ in range(5)))
    assert {(person.name, *person.roles) for person in people} == {("dana@acme.example", "auditor")}
    (event,) = await scene.events("person-signed-in")
    assert (event["person"], event["subject"], event["idp"], event["roles"]) == (
        "dana@acme.example", "17", scene.issuer.url, ["auditor"],
    )  # fmt: skip
    assert token not in str(event)
    await scene.ask(scene.sign())
    assert len(await scene.events("person-signed-in")) == 2


async def test_a_sign_in_that_cannot_be_recorded_is_none_and_the_next_try_is(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    from broker.errors import LedgerUnwritable

    token, write = scene.sign(), scene.ledger.write

    async def broken(_: Any) -> None:
        raise LedgerUnwritable("no")

    monkeypatch.setattr(scene.ledger, "write", broken)
    with pytest.raises(LedgerUnwritable):
        await scene.ask(token)
    monkeypatch.setattr(scene.ledger, "write", write)
    assert (await scene.ask(token)).name == "dana@acme.example"
    assert len(await scene.events("person-signed-in")) == 1


async def test_without_a_token_the_answer_says_how_to_sign_in(scene: Scene) -> None:
    for header in (None, "", "Basic x", "Bearer", "Bearer  "):
        with pytest.raises(SignInNeeded) as refused:
            await scene.signin.person(header, now=datetime.now(UTC))
        assert refused.value.challenge == (
            f'Bearer realm="jobkey people", resource_metadata="{URL}/.well-known/oauth-protected-resource"'
        )
        assert "jobkey-broker signin" in refused.value.detail


@pytest.mark.parametrize(
    ("claims", "how"),
    [
        pytest.param({"aud": URL}, {}, id="a job's audience"),
        pytest.param({"aud": "other"}, {}, id="another client's"),
        pytest.param({"aud": ["jobkey", "other"]}, {}, id="two audiences"),
        pytest.param({"aud": "jobkey#S256." + "x" * 43, "azp": "other"}, {}, id="a bound audience of another client"),
        pytest.param({"azp": "other"}, {}, id="made for another client"),
        pytest.param({"exp": 1_700_000_000, "iat": 1_699_999_000, "nbf": 1_699_999_000}, {}, id="expired"),
        pytest.param({"sub": ""}, {}, id="no subject"),
        pytest.param({"iss": "https://login.evil.example"}, {}, id="another issuer"),
        pytest.param({}, {"header": {"typ": "at+jwt"}}, id="an access token"),
        pytest.param({}, {"header": {"typ": "logout+jwt"}}, id="a logout token"),
        pytest.param({}, {"header": {"jku": "https://evil.example"}}, id="a key's address"),
    ],
)
async def test_tokens_that_are_not_good(scene: Scene, claims: dict[str, Any], how: dict[str, Any]) -> None:
    token = scene.sign(how, **claims)
    refused = await scene.refusal(token)
    assert refused.challenge.endswith(', error="invalid_token"')
    assert "CI" not in refused.detail.replace("signin", "")
    assert token not in refused.detail
    assert await scene.events("person-signed-in") == []


async def test_signatures_of_others_are_not_good(scene: Scene) -> None:
    claims = {**DANA, "iss": scene.issuer.url, "iat": 1, "exp": 9_999_999_999}
    for token in (jwt.encode(claims, "x" * 32, "HS256"), jwt.encode(claims, None, "none"), "x", "a.b.c", "jks_secret"):
        await scene.refusal(token)


async def test_an_access_token_is_taken_only_where_the_broker_says_so(issuer: FakeIssuer, ledger: Ledger) -> None:
    scene = Scene(issuer, ledger, checked(issuer=issuer.url, token="access_token", audience=URL, **ROLES))
    good = scene.sign({"header": {"typ": "at+jwt"}}, aud=URL, azp="any-client")
    assert (await scene.ask(good)).name == "dana@acme.example"
    await scene.refusal(scene.sign(aud=URL))  # an ID token's typ
    await scene.refusal(scene.sign({"header": {"typ": None}}, aud=URL))  # nobody's: RFC 9068 section 4
    for empty in ("", "application/"):
        await scene.refusal(scene.sign({"header": {"typ": empty}}, aud=URL))
    await scene.refusal(scene.sign({"header": {"typ": "at+jwt"}}))  # an ID token's audience
    await scene.signin.close()


async def test_jobs_and_people_never_meet_whatever_url_and_audience_they_share(
    issuer: FakeIssuer, ledger: Ledger
) -> None:
    """Settings refuse to load the two with one URL. Even so each verifier knows its own table only."""
    scene = Scene(issuer, ledger, checked(issuer=issuer.url, **ROLES))
    jobs = TokenVerifier([
        TrustedIssuer(name="ci", kind=ISSUERS["github"], url="https://token.acme.example", audiences=("jobkey",))
    ])  # fmt: skip
    with pytest.raises(SubjectTokenRejected):
        await jobs.verify(scene.sign(), now=datetime.now(UTC))
    async with FakeIssuer() as ci:
        job = ci.sign({**ISSUERS["github"].examples["github-environment"], **DANA, "iss": ci.url})
        await scene.refusal(job)
    assert [*scene.signin._verifier.issuers] == ["people"]
    assert scene.signin._verifier.issuers["people"].kind.identity(DANA).present() == {}
    await jobs.close()
    await scene.signin.close()


async def test_who_has_no_role_and_owns_nothing_is_told_and_not_recorded(scene: Scene) -> None:
    with pytest.raises(RoleNeeded, match="nobody here"):
        await scene.ask(scene.sign(groups=[]))
    with pytest.raises(RoleNeeded, match="email_verified"):
        await scene.ask(scene.sign(email_verified=False))
    assert await scene.events("person-signed-in") == []
    owner = await scene.ask(scene.sign(groups=[], email="owner@acme.example"))
    assert not owner.roles


async def test_a_broker_without_people_lets_nobody_in(ledger: Ledger) -> None:
    closed = SignIn(None, ledger, url=URL, owns=lambda _: True)
    for header in (None, "Bearer x"):
        with pytest.raises(RoleNeeded, match="people"):
            await closed.person(header, now=datetime.now(UTC))
    assert closed.resource() == {"resource": URL, "resource_name": "Jobkey broker"}


async def test_an_issuer_that_is_down_is_503_and_not_401(scene: Scene) -> None:
    scene.issuer.mode = "down"
    with pytest.raises(IssuerUnreachable):
        await scene.ask(scene.sign())


async def test_a_case_that_is_read_is_recorded_once_a_token_and_limited(scene: Scene) -> None:
    person, now = await scene.ask(scene.sign()), datetime.now(UTC)
    for _ in range(3):
        await scene.signin.reads(person, "case_1", now=now)
    (event,) = await scene.events("case-read")
    assert (event["read"], event["person"], event["roles"]) == ("case_1", "dana@acme.example", ["auditor"])
    for number in range(int(signin.BURST) - 1):
        await scene.signin.reads(person, f"case_x{number}", now=now)
    with pytest.raises(TooManyReads) as limited:
        await scene.signin.reads(person, "case_y", now=now)
    assert len(await scene.events("case-read")) == int(signin.BURST)
    await scene.signin.reads(person, "case_1", now=now)  # on record already
    await scene.signin.reads(person, "case_y", now=now + timedelta(seconds=limited.value.retry_after or 0))


async def test_what_was_seen_is_remembered_within_bounds(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signin, "MOST_SEEN", 3)
    for _ in range(5):
        person = await scene.ask(scene.sign())
        await scene.signin.reads(person, "case_1", now=datetime.now(UTC))
    assert (len(scene.signin._seen), len(scene.signin._read), len(scene.signin._buckets)) == (3, 3, 1)
