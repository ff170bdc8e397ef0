"""The past judged again: counts, what changed, what was never used, and memory that does not grow with the ledger."""

import dataclasses
import json
import tracemalloc
from collections.abc import Mapping
from typing import Any

import pytest

from broker.authoring.compare import replay
from broker.authoring.compare.replay import Outcome, Replay, Replayed
from broker.authoring.compare.replay_words import replay_headline, replay_lines, unused_lines
from broker.authoring.compare.words import plain
from broker.issuers import ISSUERS
from broker.model import VerifiedToken
from broker.policy import PolicySet, Statement
from tests.unit.policy.world import load, policy_text

MAIN = policy_text(job="ref: refs/heads/main")
TAGS = policy_text(job="ref: refs/tags/v1.2.0")
OPEN = policy_text()
OBSERVED = policy_text(top="mode: observe")
EXTRA = policy_text().replace("policy: payments", "policy: unused")


def event(type_: str = "issued", like: str = "github-branch", *, number: int = 0, **members: Any) -> dict[str, Any]:
    """One event's body. Keyword arguments replace its members; `claims` is laid over the example's."""
    claims = {**ISSUERS["github"].examples[like], "run_id": str(1000 + number), **members.pop("claims", {})}
    body: dict[str, Any] = {
        "id": f"evt_{number}", "time": "2026-11-20T10:00:00Z", "type": type_, "issuer": "github", "claims": claims,
    }  # fmt: skip
    if type_ == "issued":
        body |= {"kind": "github", "leases": [{"grant": "payments/deploy", "lease": f"lse_{number}"}]}
    elif type_ == "refused-many":
        body.pop("claims")
        body |= {"count": 7, "sample": {"claims": claims, "grants": ["payments/deploy"]}}
    else:
        body |= {"grants": ["payments/deploy"]}
    return {**body, **members}


def replayed(old: PolicySet, new: PolicySet, *bodies: Mapping[str, Any]) -> Replayed:
    again = Replay(old, new, ISSUERS)
    for body in bodies:
        again.take(body)
    return again.result()


@pytest.mark.parametrize(
    ("old", "new", "body", "changed"),
    [
        pytest.param(MAIN, MAIN, event(), {}, id="nothing changed"),
        pytest.param(MAIN, TAGS, event(), {("allowed", "refused"): 1}, id="newly refused"),
        pytest.param(TAGS, MAIN, event("refused"), {("refused", "allowed"): 1}, id="newly allowed"),
        pytest.param(MAIN, OBSERVED, event(), {("allowed", "observed"): 1}, id="now only observed"),
        pytest.param(OBSERVED, OPEN, event("observed"), {("observed", "allowed"): 1}, id="now minted"),
        pytest.param(MAIN, OPEN, event("refused-many", "github-tag"), {("refused", "allowed"): 7}, id="a flood"),
        pytest.param(MAIN, OPEN, event("refused", "github-fork"), {}, id="an unsafe trigger stays refused"),
        pytest.param(MAIN, TAGS, event("renewed"), {}, id="another type"),
        pytest.param(MAIN, TAGS, event("refused", grants=["payments/nothing"]), {}, id="a grant that nobody has"),
        pytest.param(
            TAGS, MAIN, event("refused", grants=["payments/deploy", "payments/nothing"]), {}, id="all grants or none"
        ),
        pytest.param(TAGS, MAIN, event("refused", grants=[]), {}, id="no grants"),
    ],
)
def test_what_a_request_comes_to(old: str, new: str, body: dict[str, Any], changed: dict[tuple[str, str], int]) -> None:
    found = replayed(load(old), load(new), body)
    assert {(before.value, after.value): count for (before, after), count in found.changed.items()} == changed


def test_a_changed_request_says_which_job_it_was() -> None:
    found = replayed(load(MAIN), load(TAGS), event(number=5, claims={"iss": ISSUERS["github"].url}))
    (one,) = found.shown
    assert (one.event, one.project, one.run, one.grants) == ("evt_5", "acme/payments", "1005", ("payments/deploy",))
    assert one.run_url == "https://github.com/acme/payments/actions/runs/1005"
    assert (one.before, one.after) == (Outcome.ALLOWED, Outcome.REFUSED)


def test_only_the_grants_that_differ_are_named() -> None:
    two = policy_text(job="ref: refs/heads/main") + ""
    other = two.replace("policy: payments", "policy: web")
    body = event(leases=[{"grant": "payments/deploy"}, {"grant": "web/deploy"}])
    found = replayed(load(two, other), load(TAGS, other), body)
    assert [one.grants for one in found.shown] == [("payments/deploy",)]


def test_a_template_that_cannot_be_filled_is_a_refusal() -> None:
    plainly = policy_text(grant="with: {role: reader}")
    filled = policy_text(grant='with: {role: "{{ job.environment }}"}')
    bodies = [event(like="github-branch"), event(like="github-environment", number=1)]
    found = replayed(load(plainly), load(filled), *bodies)
    assert found.changed == {(Outcome.ALLOWED, Outcome.REFUSED): 1}
    assert found.shown[0].event == "evt_0"


def test_what_cannot_be_judged_is_counted_with_the_reason() -> None:
    found = replayed(
        load(MAIN), load(TAGS),
        event(issuer="gone"), event(claims={"event_name": None}, issuer="github") | {"claims": None},
        {"type": "refused", "issuer": "github", "claims": []},
    )  # fmt: skip
    assert found.events == 0
    assert found.not_judged == {"no issuer 'gone' is configured": 1, "the event holds no claims": 2}
    assert any("not judged: no issuer 'gone'" in plain(words) for words in replay_lines(found))


def test_what_the_ledger_tells_otherwise_than_the_old_set() -> None:
    bodies = [event(), event("refused"), event("refused", code="params"), event("refused", code="verifier")]
    assert replayed(load(TAGS), load(TAGS), *bodies).otherwise == 1  # issued, and OLD would not
    assert replayed(load(MAIN), load(MAIN), *bodies).otherwise == 1  # refused, and OLD would not


def test_what_was_never_used() -> None:
    two = policy_text(
        job="ref: refs/heads/main",
        rest="",
    ).replace("grants:\n", "  - {issuer: github, job: {project_id: '512345678', ref: refs/heads/release}}\ngrants:\n  more: {backend: safe, ttl: 5m}\n")  # fmt: skip
    found = replayed(load(two, EXTRA), load(two, EXTRA), event())
    assert found.unused.policies == ("unused",)
    assert found.unused.grants == ("payments/more",)
    assert found.unused.statements == (("payments", 1),)
    said = [plain(words) for words in unused_lines(found)]
    assert said == [
        "policies never used: unused", "grants never used: payments/more", "statements never used: payments trust[1]",
    ]  # fmt: skip


def test_jobs_that_read_the_same_are_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[VerifiedToken] = []
    trusts = Statement.trusts

    def counted(self: Statement, token: VerifiedToken) -> bool:
        asked.append(token)
        return trusts(self, token)

    monkeypatch.setattr(Statement, "trusts", counted)
    bodies = [event(number=number, claims={"sha": str(number)}) for number in range(50)]
    found = replayed(load(MAIN), load(TAGS), *bodies)
    assert found.changed == {(Outcome.ALLOWED, Outcome.REFUSED): 50}
    assert found.jobs == 50
    assert len(asked) <= 4  # once by each version, and by the example of each when it was loaded


@pytest.mark.parametrize(
    ("old", "new", "claims"),
    [
        pytest.param("", "when: claims.run_attempt == '1'", ({}, {"run_attempt": "2"}), id="a claim that CEL reads"),
        pytest.param("", "when: job.attempt == '1'", ({}, {"run_attempt": "2"}), id="a field that CEL reads"),
        pytest.param("", "when: size(claims) > 30", ({}, {f"c{i}": "x" for i in range(9)}), id="CEL that reads all"),
        pytest.param("", "claims: {n: 1}", ({"n": 1}, {"n": True}), id="one is not true"),
        pytest.param("", "claims: {n: 1}", ({"n": 1}, {"n": "1"}), id="one is not text"),
        pytest.param("", "claims: {l: {contains: a}}", ({"l": ["a"]}, {"l": ["b"]}), id="lists"),
        pytest.param("", "claims: {'/o/a': x}", ({"o": {"a": "x"}}, {"o": {"a": "y"}}), id="objects"),
        pytest.param(
            "allow_triggers: [issue_comment]", "", ({}, {"event_name": "issue_comment"}), id="an unsafe trigger"
        ),
    ],
)
def test_what_a_statement_reads_is_never_taken_from_memory(
    old: str, new: str, claims: tuple[dict[str, Any], ...]
) -> None:
    """Every order of the two jobs, twice: each answer is that of a replay of the job alone."""
    before, after = load(policy_text(rest=old)), load(policy_text(rest=new))
    alone = [replayed(before, after, event(claims=one)).changed for one in claims]
    assert alone[0] != alone[1]
    for order in ([0, 1, 0, 1], [1, 0, 0, 1]):
        found = replayed(before, after, *(event(claims=claims[place]) for place in order))
        expected = {key: 2 * (alone[0].get(key, 0) + alone[1].get(key, 0)) for key in {*alone[0], *alone[1]}}
        assert found.changed == expected


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("MOST_REMEMBERED", 50), ("MOST_GROUPS", 20), ("MOST_JOBS", 30), ("MOST_SHOWN", 10)):
        monkeypatch.setattr(replay, name, value)
    again = Replay(load(OPEN), load(TAGS), ISSUERS)
    sizes = []
    for number in range(3_000):
        claims = {"repository": f"acme/p{number}", "ref": f"refs/heads/b{number}"}
        again.take(json.loads(json.dumps(event(number=number, claims=claims))))
        if number == 200:
            tracemalloc.start()
        if number in (210, 2_999):
            sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert sizes[1] - sizes[0] < 300_000
    found = again.result()
    assert found.changed == {(Outcome.ALLOWED, Outcome.REFUSED): 3_000}
    assert (len(found.groups), found.left_out, found.jobs, len(found.shown)) == (20, 2_980, 31, 10)


def test_the_words_name_the_numbers() -> None:
    nothing = replayed(load(MAIN), load(MAIN), event())
    assert replay_headline(nothing, 7) == "1 request in the last 7 days judged again: every one would come out the same"
    found = replayed(load(MAIN), load(TAGS), *(event(number=number) for number in range(3)))
    assert (
        replay_headline(found, 1) == "3 requests in the last 1 day judged again: 3 from 3 jobs would come out otherwise"
    )
    said = [plain(words) for words in replay_lines(found)]
    assert said[0] == "3 requests: allowed becomes refused"
    assert said[1].startswith(
        "3 requests of acme/payments for payments/deploy: allowed becomes refused, e.g. run 1000 (evt_0)"
    )
    many = dataclasses.replace(found, jobs=replay.MOST_JOBS + 1)
    assert "3 from more than 100,000 jobs" in replay_headline(many, 1)
