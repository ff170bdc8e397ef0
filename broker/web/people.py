"""What people call (design section 6): cases, who the broker takes them for, and how to sign in (RFC 9728).

Thin: a header to a Person, a query to a CaseQuery, an answer that no cache keeps. What may be seen is decided in broker.exchange.cases.
"""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from aiohttp import web

from broker.durations import parse as parse_duration
from broker.errors import MalformedRequest
from broker.exchange.cases import CaseQuery, Cases
from broker.model import rfc3339
from broker.people.roles import Person
from broker.people.signin import RESOURCE, SignIn
from broker.web.job import answer

MOST: Final = 200  # cases on a page
_PARAMETERS: Final = frozenset({"run", "project", "policy", "since", "until", "before", "limit"})
_LONGEST: Final = 300
_DIGITS: Final = re.compile(r"[0-9]{1,15}")


class PeopleRoutes:
    """`/v1/cases`, `/v1/me` and the protected resource's metadata."""

    def __init__(self, signin: SignIn, cases: Cases) -> None:
        self._signin, self._cases = signin, cases

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get(RESOURCE, self.resource)
        router.add_get("/v1/me", self.me)
        router.add_get("/v1/cases", self.find)
        router.add_get("/v1/cases/{case}", self.show)

    async def resource(self, _: web.Request) -> web.Response:
        """Public: whose token to bring, and how to get one."""
        body = json.dumps(self._signin.resource()).encode()
        headers = {"Cache-Control": "public, max-age=300"}
        return web.Response(body=body, content_type="application/json", headers=headers)

    async def me(self, request: web.Request) -> web.Response:
        person = await self._person(request)
        return answer({
            "person": person.name,
            "roles": sorted(person.roles),
            "owns": sorted(self._cases.owned(person)),
            "expires_at": rfc3339(person.expires_at),
        })  # fmt: skip

    async def show(self, request: web.Request) -> web.Response:
        person = await self._person(request)
        case = request.match_info["case"]
        shown = await self._cases.show(case, person)
        await self._signin.reads(person, case, now=datetime.now(UTC))  # on record before it is told
        return answer(shown)

    async def find(self, request: web.Request) -> web.Response:
        person = await self._person(request)
        page = await self._cases.find(case_query(request), person)
        return answer({"cases": list(page.cases)} | ({} if page.next is None else {"next": str(page.next)}))

    async def _person(self, request: web.Request) -> Person:
        return await self._signin.person(request.headers.get("Authorization"), now=datetime.now(UTC))


def case_query(request: web.Request) -> CaseQuery:
    """The query's parameters. Raises MalformedRequest: one that nobody knows could be a misspelt filter."""
    given: dict[str, Any] = {}
    for name, value in request.query.items():
        if name not in _PARAMETERS:
            raise MalformedRequest(f"the parameters are {', '.join(sorted(_PARAMETERS))}")
        if name in given:
            raise MalformedRequest(f"{name}: once is enough")
        if not value or len(value) > _LONGEST or not value.isprintable():
            raise MalformedRequest(f"{name}: 1 to {_LONGEST} printable characters are expected")
        given[name] = value
    for name in ("since", "until"):
        if name in given:
            given[name] = instant(given[name], name)
    for name in ("before", "limit"):
        if name in given:
            given[name] = _number(given[name], name)
    if not 1 <= given.get("limit", 1) <= MOST:
        raise MalformedRequest(f"limit: 1 to {MOST}")
    return CaseQuery(**given)


def instant(text: str, name: str) -> datetime:
    """An instant, a day, or an age such as 24h. Raises MalformedRequest."""
    try:
        if text[0].isdigit() and text[-1] in "smhd":
            age = parse_duration(text)
            return datetime.now(UTC) - min(age, timedelta(days=36_500))
        when = datetime.fromisoformat(text)
        return (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise MalformedRequest(
            f"{name}: give an instant such as 2026-11-21T20:00:00Z, a day, or an age such as 24h"
        ) from None


def _number(text: str, name: str) -> int:
    if _DIGITS.fullmatch(text) is None:
        raise MalformedRequest(f"{name}: a whole number is expected")
    return int(text)
