"""`policy diff` against `decide`, over random pairs of policy files and random claim sets.

* Whatever is called newly allowed is: its job is put to `decide` of both sets, here once more and independently.
* Nothing that is called impossible happens: 2,000 pairs x 50 claim sets in a normal run; JOBKEY_DIFF_PAIRS sets another
  number of pairs. A failure names the seed, and `pair(seed)` makes the same two files again.
* Adding a condition or a guardrail never widens, nor does one more limit on a folder, its owners or lives, or an example.
"""

import copy
import itertools
import json
import os
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest

from broker.authoring.compare.difference import Difference, compare
from broker.authoring.compare.grants import Job
from broker.errors import ConfigError
from broker.issuers import ISSUERS
from broker.model import GrantRequest, VerifiedToken
from broker.policy import Allowed, AllowedGrant, PolicySet, decide
from broker.policy.decide import judge
from broker.policy.examples import example_token
from broker.policy.guardrails import read_guardrails
from broker.policy.load import PolicyText, compile_all
from broker.proof import Verdict
from tests.unit.policy.world import NOON, world

PAIRS = int(os.environ.get("JOBKEY_DIFF_PAIRS", "2000"))
CLAIM_SETS = 50
BLOCKS = 8  # so that a failure comes early, and each stays within the timeout
Random = random.Random
File = dict[str, Any]

REFS = ["refs/heads/main", "refs/heads/main-evil", "refs/heads/release/1", "refs/tags/v1", "refs/heads/a\nb", "REFS"]
NEAR: Mapping[str, list[Any]] = {
    "ref": REFS,
    "environment": ["production", "staging", "prod uction", "", None],
    "repository": ["acme/payments", "acme/payments-evil", "evil/payments"],
    "repository_id": ["512345678", "1"],
    "event_name": ["push", "pull_request_target", "schedule", "issue_comment"],
    "ref_protected": ["true", "false", "TRUE", True, None],
    "run_attempt": ["1", "2", "x", None],
    "teams": [["a", "b"], ["b"], "a", [["a"]], {"a": 1}, []],
    "n": [1, 1.0, True, "1", 0, None],
}
ODD: list[Any] = [None, "", [], {}, 0, False, 1.5, "\ud800", "x" * 300, "\N{SNOWMAN}"]
FIELDS = {
    "ref": ["refs/heads/main", "refs/tags/v1", {"glob": "refs/heads/*"}, {"glob": "refs/**"}, {"regex": "refs/heads/.*"},
            {"not": "refs/heads/main"}, ["refs/heads/main", {"glob": "refs/tags/v?"}], {"not": {"glob": "refs/tags/*"}}],
    "environment": ["production", ["production", "staging"], {"absent": True}, {"not": "staging"}, {"glob": "prod*"},
                    [{"absent": True}, "staging"]],
    "project": ["acme/payments", {"glob": "acme/*"}, {"glob": "acme/payments**"}, {"not": "evil/payments"}],
    "project_id": ["512345678", ["512345678", "1"]],
    "ref_protected": [True, False, {"not": False}],
    "attempt": ["1", ["1", "2"], {"regex": "[0-9]+"}],
    "trigger": ["push", ["push", "schedule"], {"not": "schedule"}],
}  # fmt: skip
CLAIMS: Mapping[str, list[Any]] = {
    "ref": [{"glob": "refs/heads/**"}, {"not": {"regex": ".*evil"}}, "refs/heads/main"],
    "teams": [{"contains": "a"}, {"not": {"contains": "a"}}, {"contains": {"glob": "?"}}, {"absent": True}],
    "n": [1, True, "1", [1, "1"], {"not": 1}, {"not": True}, {"absent": True}],
    "run_attempt": [{"regex": "[12]"}, {"not": "x"}],
    "/deep/er": ["x", {"absent": True}],
}
WHENS = [
    "claims.run_attempt == '1'", "has(claims.environment)", "!has(claims.environment)", "job.ref_protected",
    "claims.ref != 'x' || true", "claims.ref.startsWith('refs/heads/')",
]  # fmt: skip
TRIGGERS = ["pull_request_target", "issue_comment"]
PARAMS = [{}, {"session": "abc"}, {"session": {"glob": "a*"}}, {"session": ["abc", "b"]}, {"size": 1},
          {"session": {"absent": True}}, {"session": {"not": "abc"}}]  # fmt: skip
SENT: list[Mapping[str, Any] | None] = [
    None,
    {"session": "abc"},
    {"session": "b"},
    {"size": 1},
    {"session": "abc", "size": 2},
]
WITHS = [{}, {}, {}, {"role": "admin"}, {"role": "{{ job.environment }}"}, {"level": 3},
         {"tags": {"of": "{{ claims.repository }}"}}]  # fmt: skip
GUARDRAILS: list[dict[str, Any]] = [
    {},
    {"triggers_never_allowed": ["pull_request_target"]},
    {"longest_ttl": {"safe-kind": "15m"}},
    {"no_wildcards": ["ref"]},
    {"folders": {".": {"issuers": ["github"]}}},
    {"folders": {".": {"backends": ["safe"]}}},
    {"owners": ["*@acme.example"]},
    {"require_immutable_id": True},
]
EXAMPLES = [
    {
        "name": "nobody",
        "issuer": "github",
        "claims": {"iss": "https://nobody.example", "event_name": "x"},
        "expect": "refuse",
    },
]


def maybe(rng: Random, chance: float) -> bool:
    return rng.random() < chance


def a_statement(rng: Random) -> File:
    made: File = {"issuer": "gitlab" if maybe(rng, 0.12) else "github", "job": {}, "claims": {}}
    for name in rng.sample(list(FIELDS), rng.choice([1, 1, 2, 2, 3])):
        made["job"][name] = rng.choice(FIELDS[name])
    if maybe(rng, 0.35):
        name = rng.choice(list(CLAIMS))
        made["claims"][name] = rng.choice(CLAIMS[name])
    if maybe(rng, 0.12):
        made["when"] = rng.choice(WHENS)
    if made["issuer"] == "github" and maybe(rng, 0.25):
        made["allow_triggers"] = rng.sample(TRIGGERS, rng.choice([1, 2]))
    return made


def a_grant(rng: Random) -> File:
    return {
        "backend": "safe",
        "ttl": rng.choice(["5m", "15m", "1h"]),
        "with": rng.choice(WITHS),
        "params": rng.choice(PARAMS) if maybe(rng, 0.35) else {},
    }


def a_policy(rng: Random) -> File:
    grants = {name: a_grant(rng) for name in rng.sample(["g", "h"], rng.choice([1, 1, 2]))}
    return {
        "policy": "p",
        "owners": ["team@acme.example"],
        "mode": "observe" if maybe(rng, 0.1) else "enforce",
        "trust": [a_statement(rng) for _ in range(rng.choice([1, 1, 2, 3]))],
        "grants": grants,
        "examples": EXAMPLES,
    }


def changed(rng: Random, policy: File) -> File:
    """The same file with one or two small changes, of every sort that a person makes."""
    made = copy.deepcopy(policy)
    for _ in range(rng.choice([1, 1, 2])):
        statement = rng.choice(made["trust"])
        match rng.randrange(10):
            case 0:
                made["trust"].append(a_statement(rng))
            case 1 if len(made["trust"]) > 1:
                made["trust"].remove(statement)
            case 2:
                made["mode"] = rng.choice(["observe", "enforce"])
            case 3 if statement["issuer"] == "github":
                statement["allow_triggers"] = rng.sample(TRIGGERS, rng.randrange(3))
            case 4:
                made["grants"][rng.choice(["g", "h"])] = a_grant(rng)
            case 5:
                statement.pop("when", None)
            case 6:
                statement["when"] = rng.choice(WHENS)
            case 7 if len(statement["job"]) > 1:
                statement["job"].pop(rng.choice(list(statement["job"])))
            case 8:
                name = rng.choice(list(CLAIMS))
                statement["claims"][name] = rng.choice(CLAIMS[name])
            case _:
                name = rng.choice(list(FIELDS))
                statement["job"][name] = rng.choice(FIELDS[name])
    return made


def build(policies: list[File], guardrails: File) -> PolicySet | None:
    """As a broker loads it; None where it does not."""
    limits = read_guardrails(json.dumps({"require_immutable_id": False, **guardrails}), "g.yaml")
    texts = [
        PolicyText(f"{number}.yaml", f"{number}.yaml", json.dumps(policy).encode())
        for number, policy in enumerate(policies)
    ]
    try:
        return compile_all(texts, world(limits), [])
    except ConfigError:
        return None


def pair(seed: int) -> tuple[PolicySet, PolicySet]:
    """Two sets that load: mostly a file and a small change of it, sometimes under other guardrails, or two strangers."""
    rng = Random(seed)
    while True:
        before = a_policy(rng)
        after = a_policy(rng) if maybe(rng, 0.1) else changed(rng, before)
        limits = [rng.choice(GUARDRAILS) if maybe(rng, 0.2) else {} for _ in range(2)]
        old = build([] if maybe(rng, 0.02) else [before], limits[0])
        new = build([] if maybe(rng, 0.02) else [after], limits[1])
        if old is not None and new is not None:
            return old, new


def tokens(seed: int, count: int) -> Iterator[VerifiedToken]:
    """Jobs near the policies: a kind's example, one to three claims changed, mostly to other good values."""
    rng = Random(~seed)
    made = 0
    while made < count:
        issuer = "gitlab" if maybe(rng, 0.1) else "github"
        kind = ISSUERS[issuer]
        claims = dict(rng.choice(list(kind.examples.values())))
        for name in rng.sample(list(NEAR), rng.choice([0, 1, 2, 3, 4])):
            claims[name] = rng.choice(ODD) if maybe(rng, 0.1) else rng.choice(NEAR[name])
        if maybe(rng, 0.05):
            claims["deep"] = {"er": rng.choice(["x", "", None])}
        try:
            yield example_token(issuer, kind, claims)
        except Exception:  # the kind does not read such claims
            continue
        made += 1


def mints(
    policies: PolicySet, token: VerifiedToken, grant: str, params: Mapping[str, Any] | None
) -> AllowedGrant | None:
    """What a broker would mint, asked of `decide` alone."""
    match decide(policies, token, [GrantRequest(grant=grant, params=params)], now=NOON):
        case Allowed(grants=(one,)) if not one.observed:
            return one
    return None


def trusts(policies: PolicySet, token: VerifiedToken, grant: str) -> bool:
    """Whether the job is one that gets the grant, whatever it sends."""
    if grant not in policies.grants:
        return False
    policy, found = policies.grants[grant]
    answer = judge(policy, found, token, GrantRequest(grant=grant), trust_only=True)
    return isinstance(answer, AllowedGrant) and not policy.observed


def token_of(job: Job) -> VerifiedToken:
    return example_token(job.issuer, ISSUERS[job.issuer], job.claims)


def check(
    old: PolicySet, new: PolicySet, difference: Difference, jobs: list[VerifiedToken], seen: Counter[str]
) -> None:
    named = {grant.name: grant.compared for grant in difference.grants}
    for job, less, more in (
        job
        for one in named.values()
        for job in ((one.allowed.job, old, new), (one.refused.job, new, old), (one.sends, old, new))
        if job[0] is not None
    ):
        assert job is not None
        name = next(n for n, one in named.items() if job in (one.allowed.job, one.refused.job, one.sends))
        token = token_of(job)
        assert mints(more, token, name, job.params), "called allowed, and is not"
        assert not mints(less, token, name, job.params), "called newly so, and is not"
        seen["witnesses"] += 1
    for name in sorted({*old.grants, *new.grants}):
        one = named.get(name)
        reach = one.reach if one else ()
        gives = one.allowed.verdict if one else Verdict.NONE
        takes = one.refused.verdict if one else Verdict.NONE
        sends = {way: [getattr(part, way) for part in reach if part.what == "params"] for way in ("gives", "takes")}
        for token in jobs:
            if gives is Verdict.NONE:
                assert not trusts(new, token, name) or trusts(old, token, name), "proved impossible, and happens"
            if takes is Verdict.NONE:
                assert not trusts(old, token, name) or trusts(new, token, name), "proved impossible, and happens"
            for params in SENT if any(sends.values()) else SENT[:1]:
                was, now = mints(old, token, name, params), mints(new, token, name, params)
                seen["minted"] += now is not None
                if now and not was:
                    seen["newly"] += 1
                    assert gives is not Verdict.NONE or set(sends["gives"]) - {Verdict.NONE}
                    assert difference.wider is not Verdict.NONE
                if was and not now:
                    assert takes is not Verdict.NONE or set(sends["takes"]) - {Verdict.NONE}
                if was and now and (now.ttl > was.ttl or now.options != was.options):
                    seen["more"] += 1
                    assert difference.wider is not Verdict.NONE
        for verdict, way in ((gives, "allowed"), (takes, "refused")):
            seen[f"{way} {verdict}"] += 1


@pytest.mark.parametrize("block", range(BLOCKS))
def test_what_is_called_newly_allowed_is_and_what_is_called_impossible_never_happens(block: int) -> None:
    seen: Counter[str] = Counter()
    for seed in range(block, PAIRS, BLOCKS):
        old, new = pair(seed)
        difference = compare(old, new, world())
        try:
            check(old, new, difference, list(tokens(seed, CLAIM_SETS)), seen)
        except AssertionError as error:
            said = [source.text for policies in (old, new) for source in policies.sources]
            raise AssertionError(f"seed {seed}: {error}\n" + "\n".join(said)) from error
    # It is no use without cases of every sort.
    if PAIRS >= 2_000:
        assert seen["witnesses"] > 50
        assert seen["newly"] > 100
        assert seen["minted"] > 500
        assert all(seen[f"{way} {verdict}"] for way in ("allowed", "refused") for verdict in ("none", "some"))
        decided = seen["allowed none"] + seen["allowed some"]
        assert decided > 0.85 * (decided + seen["allowed unknown"])  # CEL and templates are what it cannot decide


@pytest.mark.parametrize("block", range(4))
def test_adding_a_condition_never_widens_and_that_is_proved(block: int) -> None:
    proved = 0
    for seed in range(block, max(PAIRS // 5, 40), 4):
        rng = Random(seed)
        before = a_policy(rng)
        old = build([before], {})
        if old is None:
            continue
        after = copy.deepcopy(before)
        statement = rng.choice(after["trust"])
        where, table = rng.choice([("job", FIELDS), ("claims", CLAIMS)])
        free = [name for name in table if name not in statement[where]]
        name = rng.choice(free)
        statement[where][name] = rng.choice(table[name])
        new = build([after], {})
        assert new is not None, "a condition more is refused where one less is"
        assert compare(old, new, world()).wider is Verdict.NONE, f"seed {seed}"
        for token in tokens(seed, 10):
            for grant in new.grants:
                assert not mints(new, token, grant, None) or mints(old, token, grant, None)
        proved += 1
    assert proved > 5


@pytest.mark.parametrize("extra", GUARDRAILS[1:], ids=lambda extra: next(iter(extra)))
def test_adding_a_guardrail_never_widens_and_that_is_proved(extra: File) -> None:
    loaded = 0
    for seed in range(max(PAIRS // 20, 100)):
        rng = Random(seed)
        policy = a_policy(rng)
        first = rng.choice(GUARDRAILS)
        if set(first) & set(extra):
            continue
        old, new = build([policy], first), build([policy], {**first, **extra})
        if old is None or new is None:
            continue
        difference = compare(old, new, world())
        assert difference.wider is Verdict.NONE
        assert not difference.looser
        assert compare(new, old, world()).looser
        loaded += 1
    assert loaded


# ---- folders of policies, each with limits of its own


HOME = ["a", "a/b", "c"]
OWNERS = ["team@acme.example", "other@acme.example", "team@partner.example"]
LIVES = ["1m", "5m", "10m", "15m", "30m", "1h"]
TRIED: list[File] = [
    {"name": "a life too long", "folder": "a", "expect": expect, "policy": {
        "owners": ["team@acme.example"],
        "trust": [{"issuer": "github", "job": {"project_id": "512345678", "ref": "refs/heads/main"}}],
        "grants": {"g": {"backend": "safe", "ttl": "1h"}},
    }}
    for expect in ("load", "refuse")
]  # fmt: skip


def a_life(text: str) -> int:
    return int(text[:-1]) * (60 if text.endswith("h") else 1)


def a_limit(rng: Random) -> File:
    """What one folder may do."""
    choices: dict[str, Any] = {
        "issuers": rng.choice([["github"], ["github", "gitlab"]]),
        "backends": ["safe"],
        "owners": rng.choice([["*@acme.example"], ["team@*"], ["team@acme.example", "*@partner.example"]]),
        "longest_ttl": {"safe-kind": rng.choice(LIVES)},
    }
    return {name: choices[name] for name in rng.sample(list(choices), rng.choice([1, 1, 2]))}


def some_guardrails(rng: Random) -> File:
    made = copy.deepcopy(rng.choice(GUARDRAILS))
    made.setdefault("folders", {}).update(
        {name: a_limit(rng) for name in rng.sample([".", *HOME], rng.choice([0, 1, 2]))}
    )
    return made


def one_more(rng: Random, limits: File) -> File:
    """The same guardrails with something added or shortened."""
    made = copy.deepcopy(limits)
    match rng.randrange(6):
        case 0:
            extra = rng.choice([one for one in GUARDRAILS[1:] if not set(one) & set(made)] or [{}])
            made |= copy.deepcopy(extra)
        case 1:
            made["examples"] = [rng.choice(TRIED)]
        case 2:
            made["advised_ttl"] = {"safe-kind": "1m"}
        case 3 if "longest_ttl" in made:
            old = made["longest_ttl"]["safe-kind"]
            made["longest_ttl"] = {"safe-kind": rng.choice([one for one in LIVES if a_life(one) <= a_life(old)])}
        case _:
            folder = made["folders"].setdefault(rng.choice([".", *HOME]), {})
            for name, limit in a_limit(rng).items():
                if name == "longest_ttl" and name in folder:
                    limit = {"safe-kind": min(folder[name]["safe-kind"], limit["safe-kind"], key=a_life)}  # noqa: PLW2901  the shorter of the two
                    folder[name] = limit
                else:
                    folder.setdefault(name, limit)
    return made


def at_home(rng: Random) -> list[File]:
    """Three policies in three folders, with owners of their own."""
    made = []
    for number, home in enumerate(HOME):
        policy = a_policy(rng) | {"policy": f"p{number}", "owners": [rng.choice(OWNERS)], "home": home}
        made.append(policy)
    return made


def in_folders(policies: list[File], limits: File) -> PolicySet | None:
    guardrails = read_guardrails(json.dumps({"require_immutable_id": False, **limits}), "guardrails.yaml")
    texts = []
    for policy in policies:
        file = f"{policy['home']}/{policy['policy']}.yaml"
        written = {name: value for name, value in policy.items() if name != "home"}
        texts.append(PolicyText(file, file, json.dumps(written).encode()))
    try:
        return compile_all(texts, world(guardrails), [], folders={".", *HOME})
    except ConfigError:
        return None


@pytest.mark.parametrize("block", range(4))
def test_one_guardrail_more_never_widens_in_any_folder(block: int) -> None:
    """Limits on folders, owners and lives, and the guardrails' own examples: whole files, as a broker loads them."""
    seen: Counter[str] = Counter()
    for seed in range(block, max(PAIRS // 2, 400), 4):
        rng = Random(seed)
        policies, limits = at_home(rng), some_guardrails(rng)
        more = one_more(rng, limits)
        old, new = in_folders(policies, limits), in_folders(policies, more)
        if new is None:
            seen["refused"] += old is not None
            continue
        assert old is not None, f"seed {seed}: a limit more lets a policy load that did not"
        difference = compare(old, new, world())
        assert difference.wider is Verdict.NONE, f"seed {seed}: {limits} {more}"
        assert not difference.looser, f"seed {seed}: {limits} {more}"
        seen["limited"] += bool(difference.limits)
        for name, (_, grant) in new.grants.items():
            assert grant.ttl <= old.grants[name][1].ttl
        for token in tokens(seed, 6):
            for name in new.grants:
                now, was = mints(new, token, name, None), mints(old, token, name, None)
                seen["minted"] += now is not None
                assert now is None or (was is not None and now.ttl <= was.ttl), f"seed {seed}"
    assert seen["refused"] > 10
    assert seen["limited"] > 10
    assert seen["minted"] > 10


def test_a_folders_longest_life_only_ever_shortens() -> None:
    """A folder that says more than the platform, or than the folder around it, gets no more."""
    for outer, middle, inner, asked in itertools.product(LIVES, LIVES, LIVES, LIVES):
        limits = {
            "longest_ttl": {"safe-kind": outer},
            "folders": {"a": {"longest_ttl": {"safe-kind": middle}}, "a/b": {"longest_ttl": {"safe-kind": inner}}},
        }
        guardrails = read_guardrails(json.dumps(limits), "guardrails.yaml")
        minutes = {
            folder: guardrails.longest("safe-kind", timedelta(minutes=a_life(asked)), folder) / timedelta(minutes=1)
            for folder in (".", "a", "a/b", "a/b/c", "ab", "c")
        }
        all_three = min(map(a_life, (outer, middle, inner, asked)))
        assert minutes == {
            ".": min(a_life(outer), a_life(asked)),
            "a": min(map(a_life, (outer, middle, asked))),
            "a/b": all_three,
            "a/b/c": all_three,
            "ab": minutes["."],
            "c": minutes["."],
        }
