"""A person's questions on the wire: the query's words, and what is wrong with them."""

from datetime import UTC, datetime, timedelta

import pytest
from aiohttp.test_utils import make_mocked_request

from broker.errors import MalformedRequest, SignInNeeded
from broker.web.openapi import openapi
from broker.web.people import case_query, instant
from broker.web.problems import problem


def test_every_filter_reaches_the_query() -> None:
    query = case_query(
        make_mocked_request(
            "GET",
            "/v1/cases?run=7&project=acme%2Fx&policy=p&since=2026-11-21&until=2026-11-22T10:00:00Z&before=9&limit=3",
        )
    )
    assert (query.run, query.project, query.policy, query.before, query.limit) == ("7", "acme/x", "p", 9, 3)
    assert query.since == datetime(2026, 11, 21, tzinfo=UTC)
    assert query.until == datetime(2026, 11, 22, 10, tzinfo=UTC)
    assert case_query(make_mocked_request("GET", "/v1/cases")).limit == 50


@pytest.mark.parametrize(
    "query",
    [
        "rnu=7", "run=7&run=7", "run=", "project=a%00b", "project=" + "x" * 301, "limit=0", "limit=201", "limit=x", "limit=-1",
        "limit=%D9%A3", "before=1.0", "before=" + "9" * 16, "since=yesterday", "since=0h", "since=99999999999d", "until=2026-13-01",
        "until=%2B", "since=1y",
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused(query: str) -> None:
    with pytest.raises(MalformedRequest):
        case_query(make_mocked_request("GET", f"/v1/cases?{query}"))


def test_an_age_is_told_from_a_day() -> None:
    now = datetime.now(UTC)
    assert abs(instant("90m", "since") - (now - timedelta(minutes=90))) < timedelta(seconds=10)
    assert instant("2026-11-21T20:00:00+02:00", "since") == datetime(2026, 11, 21, 18, tzinfo=UTC)


def test_a_challenge_of_its_own_reaches_the_header() -> None:
    challenge = 'Bearer realm="jobkey people", resource_metadata="https://broker.acme.example/x"'
    answer = problem(SignInNeeded("sign in", challenge=challenge))
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, challenge)
    assert answer.headers["Cache-Control"] == "no-store"


def test_the_description_knows_the_webhook_where_there_is_one() -> None:
    assert "/v1/policies/webhook" not in openapi("https://broker.acme.example")["paths"]
    told = openapi("https://broker.acme.example", webhook=True)
    call = told["paths"]["/v1/policies/webhook"]["post"]
    assert set(call["responses"]) == {"202", "401", "422", "503"}
    schemes = told["components"]["securitySchemes"]
    named = {schemes[name]["name"] for way in call["security"] for name in way}
    assert named == {"X-Hub-Signature-256", "X-Gitlab-Token"}


def test_the_description_knows_people() -> None:
    paths = openapi("https://broker.acme.example")["paths"]
    assert {"401", "403", "404", "429", "503"} <= set(paths["/v1/cases/{case}"]["get"]["responses"])
    assert paths["/v1/cases"]["get"]["security"] == [{"person": []}]
    names = {parameter["name"] for parameter in paths["/v1/cases"]["get"]["parameters"]}
    assert names == {"run", "project", "policy", "since", "until", "before", "limit"}
