"""Two sets compared: a table of changes and what each of them does, by the words that a reviewer reads."""

import dataclasses
import json
import re
from typing import Any

import pytest
import yaml

from broker.authoring.compare.difference import Change, Difference, compare
from broker.authoring.compare.json_ import FORMAT, as_json
from broker.authoring.compare.words import grant_lines, headline, limit_lines, miss_words, plain, policy_lines, tally
from broker.backends.seam import Power
from broker.policy import PolicySet
from broker.policy.guardrails import read_guardrails
from broker.proof import Verdict
from tests.unit.policy.world import TARGETS, load, policy_text, world

NONE, SOME, UNKNOWN = Verdict.NONE, Verdict.SOME, Verdict.UNKNOWN
MAIN = policy_text(job="ref: refs/heads/main")
GRANT = "payments/deploy"


def difference(old: str | list[str], new: str | list[str], *, before: Any = None, after: Any = None) -> Difference:
    sets = []
    for texts, limits in ((old, before), (new, after)):
        rails = None if limits is None else read_guardrails(yaml.safe_dump(limits), "g.yaml")
        sets.append(load(*([texts] if isinstance(texts, str) else texts), guardrails=rails))
    return compare(sets[0], sets[1], world())


def said(found: Difference, name: str = GRANT) -> list[str]:
    (grant,) = [one for one in found.grants if one.name == name]
    return [plain(line.words) for line in grant_lines(grant)]


def observed(text: str) -> str:
    return text.replace("trust:", "mode: observe\ntrust:")


@pytest.mark.parametrize(
    ("old", "new", "allowed", "refused"),
    [
        pytest.param(MAIN, policy_text(), SOME, NONE, id="a condition less"),
        pytest.param(policy_text(), MAIN, NONE, SOME, id="a condition more"),
        pytest.param(MAIN, policy_text(job="ref: {glob: 'refs/heads/main'}"), NONE, NONE, id="the same, as a glob"),
        pytest.param(MAIN, policy_text(job="ref: {glob: 'refs/heads/*'}"), SOME, NONE, id="a glob that holds it"),
        pytest.param(
            policy_text(job="ref: {glob: 'refs/heads/*'}"), policy_text(job="ref: {regex: 'refs/heads/[^/]*'}"),
            NONE, NONE, id="a glob and the regex that it means",
        ),
        pytest.param(MAIN, policy_text(job="ref: refs/heads/next"), SOME, SOME, id="another value"),
        pytest.param(
            MAIN, policy_text(job="ref: refs/heads/main", rest="when: claims.run_attempt == '1'"), NONE, SOME, id="CEL more"
        ),
        pytest.param(MAIN, policy_text(job="ref: refs/heads/main", rest="when: 'true'"), NONE, UNKNOWN, id="CEL of no use"),
        pytest.param(
            policy_text(rest="when: claims.run_attempt == '1'"), policy_text(rest="when: claims.run_attempt != '2'"),
            SOME, UNKNOWN, id="another CEL expression",
        ),
        pytest.param(MAIN, observed(MAIN), NONE, SOME, id="observed now"),
        pytest.param(observed(MAIN), MAIN, SOME, NONE, id="enforced now"),
        pytest.param(observed(MAIN), observed(policy_text()), NONE, NONE, id="observed and wider"),
        pytest.param(
            MAIN, policy_text(job="ref: refs/heads/main", rest="allow_triggers: [issue_comment]"), SOME, NONE,
            id="an unsafe trigger allowed",
        ),
        pytest.param(
            policy_text(job="ref: [refs/heads/main, refs/heads/next]"),
            policy_text(job="ref: refs/heads/main").replace(
                "grants:", "  - {issuer: github, job: {project_id: '512345678', ref: refs/heads/next}}\ngrants:"
            ),
            NONE, NONE, id="a list, or two statements",
        ),
        pytest.param(MAIN, MAIN.replace("ttl: 15m", "ttl: 5m"), NONE, NONE, id="a shorter life"),
        pytest.param(
            policy_text(grant='with: {role: "{{ job.environment }}"}'), policy_text(grant="with: {role: admin}"),
            SOME, NONE, id="a template less refuses fewer jobs",
        ),
        pytest.param(
            policy_text(grant="with: {role: admin}"), policy_text(grant='with: {role: "{{ job.environment }}"}'),
            NONE, SOME, id="a template more",
        ),
        pytest.param(
            policy_text(grant='with: {role: "{{ job.environment }}"}'),
            policy_text(job="ref: refs/heads/main", grant='with: {role: "{{ job.environment }}"}'),
            NONE, SOME, id="the same template in both",
        ),
    ],
)  # fmt: skip
def test_who_is_newly_allowed_and_refused(old: str, new: str, allowed: Verdict, refused: Verdict) -> None:
    found = difference(old, new)
    compared = found.grants[0].compared
    assert (compared.allowed.verdict, compared.refused.verdict) == (allowed, refused)
    for direction in (compared.allowed, compared.refused):
        assert (direction.job is not None) is (direction.verdict is SOME)
        assert bool(direction.why) is (direction.verdict is UNKNOWN)


def test_a_set_compared_with_itself_is_the_same() -> None:
    found = difference([MAIN, MAIN.replace("policy: payments", "policy: web")], [MAIN, MAIN.replace("policy: payments", "policy: web")])  # fmt: skip
    assert (found.policies, found.grants, found.limits, found.same) == ((), (), (), 2)
    assert headline(found) == "no identity is newly allowed: proved"
    assert tally(found) == "2 grants decided as before"


def test_the_words_for_a_wider_condition() -> None:
    found = difference(MAIN, policy_text(job="ref: {glob: 'refs/heads/*'}"))
    assert headline(found) == "1 grant newly allowed to some job"
    assert said(found) == ["newly allowed, e.g. a job of github, by trust[0]", "no identity is newly refused: proved"]
    (line, *_) = grant_lines(found.grants[0])
    assert line.job is not None
    ref = dict(line.job.reads)["job.ref"]
    assert ref != "refs/heads/main"
    assert re.fullmatch("refs/heads/[^/]*", ref)
    assert [plain(words) for words in miss_words(line)] == [
        f"OLD refuses it: trust[0] job.ref: expected refs/heads/main, got {ref}"
    ]


def test_cel_that_could_matter_is_said_to_be_left_out() -> None:
    found = difference(policy_text(rest="when: size(job.ref) < 4"), policy_text(rest="when: size(job.ref) < 3"))
    assert headline(found) == "that no job is newly allowed cannot be proved for 1 grant"
    (allowed, _) = said(found)
    assert allowed.startswith("newly allowed: cannot be ruled out: ")
    assert "`when: size(job.ref) < 3` is not looked into" in allowed


def test_new_and_removed_policies_and_grants() -> None:
    web = MAIN.replace("policy: payments", "policy: web")
    more = MAIN.replace("examples:", "  extra: {backend: safe, ttl: 5m}\nexamples:")
    found = difference([MAIN, web], [more])
    assert {grant.name: grant.change for grant in found.grants} == {
        GRANT: Change.SAME, "payments/extra": Change.NEW, "web/deploy": Change.REMOVED,
    }  # fmt: skip
    assert said(found, "payments/extra") == ["newly allowed, e.g. a job of github, by trust[0]"]
    assert said(found, "web/deploy") == [
        "no identity is newly allowed: proved", "newly refused, e.g. a job of github, by trust[0]",
    ]  # fmt: skip
    (removed,) = [one for one in found.grants if one.name == "web/deploy"]
    (_, line) = grant_lines(removed)
    assert [plain(words) for words in miss_words(line)] == ["NEW refuses it: there is no such grant"]
    assert tally(found) == "1 new grant, 1 removed grant, 1 grant decided as before, 1 grant takes something away"
    assert [(one.name, one.change) for one in found.policies] == [("payments", Change.CHANGED), ("web", Change.REMOVED)]


@pytest.mark.parametrize(
    ("old", "new", "gives", "words"),
    [
        ("", "ttl: 1h", SOME, "ttl: 15m becomes 1h: longer"),
        ("", "ttl: 5m", NONE, "ttl: 15m becomes 5m: shorter"),
        ("", "backend: needy", SOME, "backend: safe becomes needy: a credential of another backend"),
        ("", "with: {role: admin}", UNKNOWN, "with.role: admin is new: what it gives cannot be told from here"),
        ("", "with: {role: reader}", NONE, None),  # the default, written out
        ("with: {level: 1}", "with: {level: 2}", UNKNOWN, "with.level: 1 becomes 2: what it gives cannot be told from here"),
        (
            "with: {tags: {a: x, b: y}}", "with: {tags: {b: y, a: x}, hosts: ['1']}", UNKNOWN,
            'with.hosts: ["1"] is new: what it gives cannot be told from here',
        ),
        (
            "with: {tags: {a: true}}", 'with: {tags: {a: "true"}}', UNKNOWN,
            'with.tags.a: true becomes "true": what it gives cannot be told from here',
        ),
        ("params: {session: abc}", "params: {session: {glob: 'a*'}}", SOME,
         'params.session: abc becomes {"glob": "a*"}: a job may send more'),
        ("params: {session: {glob: 'a*'}}", "params: {session: abc}", NONE,
         'params.session: {"glob": "a*"} becomes abc: a job may send nothing new: proved'),
        ("params: {session: abc}", "", SOME, "params.session: abc is gone: a job may send more"),
    ],
)  # fmt: skip
def test_what_a_grant_gives(old: str, new: str, gives: Verdict, words: str | None) -> None:
    def text(part: str) -> str:
        made = policy_text(grant="" if part.startswith(("ttl", "backend")) else part)
        if part.startswith(("ttl", "backend")):
            key = part.partition(":")[0]
            made = re.sub(rf"{key}: .*", part, made, count=1)
        return made

    found = difference(text(old), text(new))
    (grant,) = found.grants
    assert grant.compared.allowed.verdict is NONE
    assert [plain(line.words) for line in grant_lines(grant)][2:] == ([] if words is None else [words])
    assert found.wider is gives
    if gives is SOME and "params" in (words or ""):
        assert grant.compared.sends is not None
        assert headline(found) == "no identity is newly allowed: proved; 1 grant gives more to a job that gets it"


def test_what_a_credential_can_do_is_told_where_the_backend_says_so() -> None:
    """The options' own words say little; what the backend makes of them is what a reviewer has to know."""
    able = dataclasses.replace(
        TARGETS["safe"],
        writes=lambda options: [Power(object=f"safe:{options.get('role', 'reader')}", deed="log in as")],
    )
    there = dataclasses.replace(world(), targets={"safe": able})
    found = compare(load(MAIN), load(MAIN.replace("ttl: 15m", "ttl: 15m\n    with: {role: root}")), there)
    assert said(found)[2:] == [
        "with.role: root is new: what it gives cannot be told from here",
        "its credential can no longer log in as safe:reader",
        "its credential can now log in as safe:root",
    ]
    assert found.wider is UNKNOWN
    assert headline(found) == "no identity is newly allowed: proved; 1 grant gives something else"


def test_owners_mode_and_examples() -> None:
    added = "- {name: a fork, claims: {$like: github-fork}, expect: refuse}"
    new = observed(policy_text(job="ref: refs/heads/main", examples=added)).replace(
        "team@acme.example", "other@acme.example"
    )
    (policy,) = difference(MAIN, new).policies
    assert [plain(line.words) for line in policy_lines(policy)] == [
        "mode: enforce becomes observe: it is judged and mints nothing",
        "owners: other@acme.example now sees its refusals",
        "owners: team@acme.example no longer does",
        "example: a fork is new",
    ]
    (back,) = difference(new, MAIN).policies
    assert "mode: observe becomes enforce: what was only judged is minted now" in [
        plain(x.words) for x in policy_lines(back)
    ]
    assert "example: a fork is gone" in [plain(line.words) for line in policy_lines(back)]


def test_a_version_on_trial_is_told_and_counts_for_nothing() -> None:
    trial = MAIN + (
        "next:\n  trust: [{issuer: github, job: {project_id: '512345678'}}]\n"
        "  examples: [{name: s, claims: {$like: github-branch, repository_id: '1'}, expect: refuse}]\n"
    )
    found = difference(MAIN, trial)
    assert [plain(line.words) for line in policy_lines(found.policies[0])] == [
        "next: the version on trial is new; it mints nothing"
    ]
    assert found.wider is NONE


@pytest.mark.parametrize(
    ("before", "after", "looser", "first"),
    [
        ({"longest_ttl": {"x": "1h"}}, {"longest_ttl": {"x": "2h"}}, True, "longest_ttl.x: 1h becomes 2h: policies may say more"),
        ({"longest_ttl": {"x": "1h"}}, {"longest_ttl": {"x": "5m"}}, False, "longest_ttl.x: 1h becomes 5m: policies may say less"),
        ({"longest_ttl": {"x": "1h"}}, {"longest_ttl": {}}, True, "longest_ttl.x: 1h is gone: policies may say more"),
        ({}, {"longest_ttl": {"x": "1h"}}, False, "longest_ttl.x: 1h is new: policies may say less"),
        ({}, {"require_immutable_id": False}, True, "require_immutable_id: true becomes false: policies may say more"),
        ({"no_wildcards": ["ref"]}, {"no_wildcards": ["project"]}, True,
         "no_wildcards: job.ref becomes job.project: some room is given, some is taken away"),
        ({"triggers_never_allowed": ["issues"]}, {"triggers_never_allowed": []}, True,
         "triggers_never_allowed: issues becomes none: policies may say more"),
        ({"owners": ["*@acme.example"]}, {}, True, "owners: *@acme.example is gone: policies may say more"),
        ({}, {"owners": ["*@acme.example"]}, False, "owners: *@acme.example is new: policies may say less"),
        ({"folders": {".": {"issuers": ["github"]}}}, {"folders": {".": {"issuers": ["github", "gitlab"]}}}, True,
         "folders...issuers: github becomes github, gitlab: policies may say more"),
        ({}, {"folders": {".": {"backends": ["safe"]}}}, False, "folders...backends: safe is new: policies may say less"),
        ({"folders": {".": {"longest_ttl": {"x": "1h"}}}}, {}, True,
         "folders...longest_ttl.x: 1h is gone: policies may say more"),
        ({}, {"advised_ttl": {"x": "1h"}}, False, "advised_ttl.x: 1h is new: only the linter and tests ask for it"),
        ({"protects": {"policies": ["git:a/b"]}}, {"protects": {"policies": []}}, True,
         "protects.policies: git:a/b becomes none: the linter asks for less"),
    ],
)  # fmt: skip
def test_guardrails_that_changed(before: Any, after: Any, looser: bool, first: str) -> None:
    found = difference(MAIN, MAIN, before={"no_wildcards": [], **before}, after={"no_wildcards": [], **after})
    (limit,) = found.limits
    assert next(plain(line.words) for line in limit_lines(limit)) == first
    assert found.looser is looser
    assert found.wider is NONE
    assert headline(found).endswith("the guardrails give policies more room") is looser


def test_which_policies_use_the_room_and_which_lose_it() -> None:
    wide = MAIN.replace("ttl: 15m", "ttl: 1h")
    strict, loose = {"longest_ttl": {"safe-kind": "15m"}}, {"longest_ttl": {"safe-kind": "1h"}}
    found = difference(MAIN, wide, before=strict, after=loose)
    (limit,) = found.limits
    told = [plain(line.words) for line in limit_lines(limit)]
    assert told[1].startswith("payments uses that room; before it would not load: payments.yaml:")
    assert "let safe-kind credentials live 15m at most" in told[1]
    back = difference(wide, MAIN, before=loose, after=strict)
    assert any(
        "the old payments would no longer load: payments.yaml:" in plain(line.words)
        for line in limit_lines(back.limits[0])
    )
    unused = difference(MAIN, MAIN, before=strict, after=loose)
    assert "no policy uses that room" in [plain(line.words) for line in limit_lines(unused.limits[0])][1]


def test_an_unset_of_guardrails_for_triggers_is_proved_not_to_widen_by_itself() -> None:
    found = difference(MAIN, MAIN, before={"triggers_never_allowed": ["issues"]}, after={})
    assert [grant.change for grant in found.grants] == [Change.SAME]
    assert said(found) == ["no identity is newly allowed: proved", "no identity is newly refused: proved"]


def test_the_json_is_what_the_page_says() -> None:
    found = difference([MAIN], [policy_text(grant="with: {level: 2}")], before={"owners": ["*@acme.example"]}, after={})
    told = json.loads(json.dumps(as_json(found, old="main", new="HEAD", commits=("a" * 40, None))))
    assert list(told) == [
        "format", "headline", "newly_allowed", "guardrails_looser", "old", "new", "grants", "same", "policies",
        "guardrails", "not_checked", "replay",
    ]  # fmt: skip
    assert told["format"] == FORMAT
    assert told["newly_allowed"] == "some"
    assert told["guardrails_looser"] is True
    assert told["old"] == {"name": "main", "commit": "a" * 40, "policy_set": found.versions[0]}
    (grant,) = told["grants"]
    assert grant["newly_allowed"]["job"]["claims"]["repository_id"] == "512345678"
    assert grant["newly_allowed"]["job"]["missed"][0]["key"] == "trust[0] job.ref"
    assert grant["newly_refused"] == {"verdict": "none", "why": "", "job": None}
    assert grant["reach"] == [
        {"what": "with", "path": "with.level", "before": None, "after": "2", "gives": "unknown", "takes": "unknown"}
    ]
    assert told["guardrails"][0]["key"] == "owners"
    assert told["policies"][0]["policy"] == "payments"


def test_an_issuer_nobody_configured_here_is_no_crash() -> None:
    """A set may be older than the world it is compared in."""
    old, new = load(MAIN), load(policy_text())
    strange = compare(old, new, world(gitlab=world().issuers["gitlab"]))
    assert strange.wider in {SOME, UNKNOWN}
    assert isinstance(old, PolicySet)
