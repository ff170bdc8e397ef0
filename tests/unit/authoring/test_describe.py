"""Policies in plain words: every form has words, every output the same ones, and no two meanings read alike."""

import html as entities
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.authoring.describe.description import CLOSED, TRIAL, describe
from broker.authoring.describe.render import clean, grants_of, html, markdown, rows_of
from broker.authoring.describe.sentences import duration_words, said
from broker.authoring.describe.words import condition_words
from broker.backends import BACKENDS
from broker.backends.seam import Backend
from broker.documents import parse, validated
from broker.durations import parse as duration
from broker.issuers import ISSUERS
from broker.model import JOB_FIELDS
from broker.policy.conditions import compile_condition
from broker.policy.document import PolicyFile
from broker.policy.load import Checked, PolicyText, check_text
from broker.policy.policyset import Target
from broker.policy.world import World
from tests.unit.policy.world import URLS, policy_text, world

CONFIGS = Path(__file__).parents[3] / "configs"
EXAMPLES = int(os.environ.get("JOBKEY_DESCRIBE_EXAMPLES", "400"))


def real_world() -> World:
    """The shipped backends under the names that the shipped policies use."""
    names = {"token": "identity-token", "ssh": "ssh-ca", "vault": "vault", "aws-prod": "aws-sts"}
    targets = {
        name: Target(
            backend=name, kind=kind, options=BACKENDS[kind].Options, params=BACKENDS[kind].Params,
            shortest=BACKENDS[kind].shortest, longest=BACKENDS[kind].longest, describe=BACKENDS[kind].describe,
        )
        for name, kind in names.items()
    }  # fmt: skip
    return replace(world(), targets=targets, issuer_urls=URLS)


def checked(text: str, of: World | None = None) -> Checked:
    return check_text(PolicyText("payments.yaml", "payments.yaml", text.encode()), of or world())


def words_of(conditions: dict[str, Any], **more: Any) -> str:
    return said(issuer="github", kind=ISSUERS["github"], conditions=conditions.items(), **more).jobs()


def test_the_shipped_policy_reads_as_a_sentence() -> None:
    text = (CONFIGS / "policies/payments.yaml").read_text()
    found = describe(checked(text, real_world()).written, real_world(), file="payments.yaml")
    (sentence,) = found.sentences
    assert sentence.startswith(
        "Jobs of acme/payments (id 512345678) on GitHub Actions may have an identity token for the audience"
        " https://deploy.acme.example for at most 5 minutes and an SSH certificate for the principal deploy for at most"
        " 10 minutes, if they run from the protected branch main in the environment production and their claim"
    )
    assert [(row.grant, row.how_long) for row in found.rows] == [
        ("payments/identity", "5 minutes"), ("payments/shell", "10 minutes"),
    ]  # fmt: skip
    assert found.notes == (CLOSED,)


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        ({"job.project": "a/b", "job.project_id": "1"}, "jobs of a/b (id 1) on GitHub Actions"),
        ({"job.project_id": ["1", "2"]}, "jobs of the project with id 1 or 2 on GitHub Actions"),
        ({"job.owner_id": "9"}, "jobs of any project of the owner with id 9 on GitHub Actions"),
        ({"job.owner": "acme", "job.owner_id": "9"}, "jobs of any project of acme (owner id 9) on GitHub Actions"),
        ({"job.ref": "refs/heads/main"}, "if they run from the branch main"),
        ({"job.ref": ["refs/tags/q", "refs/tags/b"], "job.ref_protected": True}, "if they run from the protected tag q or b"),
        ({"job.ref": {"glob": "refs/tags/v*"}}, "if they run from any tag matching v*"),
        ({"job.ref": ["refs/tags/a", "refs/heads/b"]}, "if they run from the ref refs/tags/a or refs/heads/b"),
        ({"job.ref": {"not": "refs/heads/x"}}, "if their ref is anything but refs/heads/x"),
        ({"job.ref_protected": False}, "if their ref is unprotected"),
        ({"job.environment": "p", "job.environment_protected": True}, "if they run in the protected environment p"),
        ({"job.environment": {"absent": True}}, "if their environment is missing"),
        ({"job.environment": ["q", {"absent": True}]}, "if their environment is q or missing"),
        ({"job.trigger": ["push", "schedule"]}, "if they were started by the event push or schedule"),
        ({"job.workflow": {"regex": "a|b"}}, 'if their workflow matches the regular expression "a|b"'),
        ({"job.actor": {"not": ["q", {"glob": "b*"}]}}, "if their user is anything but (q or matching b*)"),
        ({"job.actor": "a"}, 'if they were started by the user "a"'),
        ({"claims.x": "1"}, 'if their claim x is "1"'),
        ({"claims.x": 1}, "if their claim x is 1"),
        ({"claims.x": True}, "if their claim x is true"),
        ({"claims.x": "true"}, 'if their claim x is "true"'),
        ({"claims.x": {"contains": "a b"}}, 'if their claim x is a list holding "a b"'),
        ({"job.fork": False}, "if their code is no fork's"),
    ],
)  # fmt: skip
def test_every_form_has_words(conditions: dict[str, Any], words: str) -> None:
    assert words_of(conditions).endswith(words)


def test_expressions_and_triggers_have_words() -> None:
    told = words_of({}, when='claims.a == "b"', triggers=["issues", "pull_request"])
    assert told == (
        'jobs of any project on GitHub Actions, if the expression "claims.a == \\"b\\"" is true and the unsafe trigger'
        " issues or pull_request may have started them"
    )


def test_an_issuer_of_another_name_is_named() -> None:
    assert said(issuer="ghe", kind=ISSUERS["github"], conditions=[]).who == "of any project on GitHub Actions (ghe)"


@pytest.mark.parametrize(
    ("text", "words"),
    [("30s", "30 seconds"), ("90s", "90 seconds"), ("60s", "1 minute"), ("10m", "10 minutes"), ("1h", "1 hour"), ("1d", "1 day"), ("36h", "36 hours")],
)  # fmt: skip
def test_lengths_of_time(text: str, words: str) -> None:
    assert duration_words(duration(text)) == words


def test_what_is_on_trial_and_what_the_job_sends_is_said() -> None:
    text = policy_text(
        top="mode: observe", grant='params: {session: {glob: "a*"}}\nwith: {role: "x-{{ job.ref_type }}"}'
    )
    (found, *_) = [describe(checked(text).written, world(), file="payments.yaml")]
    assert TRIAL in found.notes
    assert "would have" in found.sentences[0]
    assert "(where what the job sends as session is matching a*)" in found.sentences[0]
    assert found.grants[0].options == (("role", '"x-{{ job.ref_type }}"'),)


def test_the_version_on_trial_is_described_beside_the_one_that_decides() -> None:
    text = policy_text() + (
        "next:\n  trust:\n    - {issuer: github, job: {project_id: '512345678', ref: refs/heads/x}}\n"
        "  examples:\n    - {name: no, claims: {$like: github-branch}, expect: refuse}\n"
    )
    one = checked(text)
    assert one.next is not None
    following = describe(one.next.written, world(), file="payments.yaml")
    found = describe(one.written, world(), file="payments.yaml", following=following)
    for out in (html([found]), markdown([found])):
        assert "the branch x" in out
        assert "on trial beside it" in out


# ---- the same words everywhere, harmless in each

HOSTILE = policy_text(
    top="description: '<script>alert(1)</script> | `x` [l](u) \\u202e'".replace("'", '"'),
    job='environment: "a|b <b>*x*"\nactor: "\\u202eevil"',
    grant='with: {fixed: "<img src=x onerror=y> | {{ job.run_id"}'.replace("{{ job.run_id", "&amp;"),
)


def plain_markdown(text: str) -> str:
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)


@pytest.mark.parametrize("text", [policy_text(), HOSTILE], ids=["plain", "hostile"])
def test_every_output_has_the_same_words(text: str) -> None:
    found = describe(checked(text).written, world(), file="payments.yaml")
    cells = [cell for row in (*rows_of(found), *grants_of(found)) for cell in row]
    marked, page = markdown([found]), html([found])
    for words in [*cells, *map(clean, found.sentences), *found.notes]:
        assert words in plain_markdown(marked)
        assert words in entities.unescape(page)
    assert all(char.isprintable() or char == "\n" for char in marked + page)


def test_nothing_in_a_policy_becomes_markup() -> None:
    found = describe(checked(HOSTILE).written, world(), file="payments.yaml")
    page, marked = html([found]), markdown([found])
    assert "<script" not in page
    assert "<img" not in page
    assert re.search(r"(?<!\\)<", marked) is None
    rows = [line for line in marked.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} <= {5, 6}


def test_the_page_stands_alone_and_its_tables_can_be_read_aloud() -> None:
    page = html([describe(checked(policy_text()).written, world(), file="payments.yaml")])
    assert page.startswith("<!DOCTYPE html>\n")
    assert "<script" not in page
    assert not re.findall(r"(?:src|href)=", page)
    assert page.count("<table>") == page.count("<caption>") == 2
    assert '<th scope="col">Who</th>' in page
    assert '<th scope="row">jobs of' in page
    assert 'lang="en"' in page


# ---- backends describe themselves

OPTIONS = {
    "ssh-ca": (
        {"principals": ["a", "b"], "extensions": ["permit-pty"], "source_addresses": ["192.0.2.0/24"], "force_command": "ls"},
        'an SSH certificate for the principals a and b with permit-pty from the network 192.0.2.0/24 only that runs the command "ls" only',
    ),
    "identity-token": (
        {"audience": ["https://a", "https://b"], "subject": "s", "claims": {"x": "y", "z": True}},
        "an identity token for the audiences https://a and https://b with the subject s and the claims x=y and z=true",
    ),
    "vault": (
        {"path": "database/creds/ro", "policies": ["p"], "fields": ["username"]},
        "the fields username of the secret at database/creds/ro by the Vault policy p",
    ),
    "aws-sts": (
        {"role_arn": "arn:aws:iam::111122223333:role/r", "tags": {"k": "v"}, "source_identity": "me"},
        "a session of the AWS role arn:aws:iam::111122223333:role/r with the tag k=v as the source identity me",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(OPTIONS))
def test_a_backend_says_what_its_options_give(kind: str) -> None:
    options, words = OPTIONS[kind]
    BACKENDS[kind].Options.model_validate_json(json.dumps(options))
    assert BACKENDS[kind].describe(options) == words


def test_every_backend_describes_its_options_in_words_of_its_own() -> None:
    assert all(BACKENDS[kind].describe is not Backend.describe for kind in OPTIONS)
    assert set(OPTIONS) <= set(BACKENDS)


# ---- no two meanings read alike

TRICKY = st.sampled_from([
    "main", "or", "missing", "any", "a or b", "main in the environment production", '"main"', "matching main", "1", "true",
    "x, their ref is protected", "refs/heads/main", "refs/tags/main", "refs/heads/or", "refs/heads/a b", "a (id 1)", "(a)",
    "the", "anything but a", 'x"', "\\", "and", "refs/heads/", "number", "é", "\u00a0",
])  # fmt: skip
GLOBS = st.builds(lambda text: {"glob": text}, TRICKY)
REGEXES = st.builds(lambda text: {"regex": text}, st.sampled_from(["main", "a|b", '"', "refs/heads/main", "main or x"]))
SCALARS = st.one_of(TRICKY, st.booleans(), st.integers(0, 2))
FLAT = st.one_of(SCALARS, GLOBS, REGEXES, st.just({"absent": True}))
LISTED = st.lists(st.one_of(FLAT, st.builds(lambda one: {"not": one}, FLAT)), min_size=1, max_size=3)
SPECS = st.one_of(
    FLAT, LISTED,
    st.builds(lambda one: {"not": one}, st.one_of(FLAT, LISTED, st.builds(lambda x: {"not": x}, FLAT))),
    st.builds(lambda one: {"contains": one}, st.one_of(FLAT, LISTED)),
)  # fmt: skip
KEYS = st.sampled_from(
    [*(f"job.{name}" for name in JOB_FIELDS), "claims.a", "claims.or", "claims.their ref is", "claims.b"]
)


def loads(key: str, spec: Any) -> bool:
    only = {"job": bool if key.endswith(("protected", "fork")) else str}.get(key.partition(".")[0])
    return compile_condition(spec, lambda *_: None, only=only) is not None


CONDITIONS = st.dictionaries(KEYS, SPECS, max_size=4).map(
    lambda found: {key: spec for key, spec in found.items() if loads(key, spec)}
)


def canonical(spec: Any) -> Any:
    """A list of one means that one and may read like it; nothing else may."""
    if isinstance(spec, list):
        return canonical(spec[0]) if len(spec) == 1 else [canonical(item) for item in spec]
    if isinstance(spec, dict):
        return {form: canonical(inner) for form, inner in spec.items()}
    return [type(spec).__name__, spec]


def meaning(conditions: dict[str, Any]) -> str:
    return json.dumps({key: canonical(spec) for key, spec in conditions.items()}, sort_keys=True)


@settings(max_examples=EXAMPLES, deadline=None)
@given(one=CONDITIONS, other=CONDITIONS, changes=st.lists(st.tuples(KEYS, SPECS), max_size=2))
def test_conditions_that_differ_read_differently(
    one: dict[str, Any], other: dict[str, Any], changes: list[tuple[str, Any]]
) -> None:
    near = {**one, **{key: spec for key, spec in changes if loads(key, spec)}}
    for second in (other, near):
        if words_of(one) == words_of(second):
            assert meaning(one) == meaning(second)


@settings(max_examples=EXAMPLES, deadline=None)
@given(key=KEYS, one=SPECS, other=SPECS)
def test_one_condition_that_differs_reads_differently(key: str, one: Any, other: Any) -> None:
    if loads(key, one) and loads(key, other) and words_of({key: one}) == words_of({key: other}):
        assert meaning({key: one}) == meaning({key: other})


def imitations(spec: Any) -> list[Any]:
    """Conditions whose values are the words of another one: what somebody would write who wanted to be misread."""
    words = condition_words(spec)
    bare = words.replace('"', "")
    texts = {words, bare, words.strip("()"), *words.split(" or "), *bare.split(" or ")}
    made: list[Any] = [
        *texts,
        words.split(" or "),
        bare.split(" or "),
        bare.strip("()").split(" or "),
        {"absent": True},
    ]
    for form, lead in (
        ("glob", "matching "), ("regex", "matching the regular expression "), ("not", "anything but "), ("contains", "a list holding "),
    ):  # fmt: skip
        made += [{form: text.removeprefix(lead).strip("()")} for text in texts]
    made += [int(text) for text in texts if text.isascii() and text.isdigit()]
    return made + [{"true": True, "false": False}[text] for text in texts if text in {"true", "false"}]


@settings(max_examples=EXAMPLES, deadline=None)
@given(key=KEYS, spec=SPECS)
def test_no_value_imitates_another_condition(key: str, spec: Any) -> None:
    if not loads(key, spec):
        return
    for other in imitations(spec):
        if loads(key, other) and words_of({key: spec}) == words_of({key: other}):
            assert meaning({key: spec}) == meaning({key: other})


@settings(max_examples=EXAMPLES, deadline=None)
@given(conditions=CONDITIONS)
def test_no_value_imitates_the_rest_of_the_sentence(conditions: dict[str, Any]) -> None:
    whole = words_of(conditions)
    for key in conditions:
        before, _, after = words_of({key: "zz"}).partition("zz")
        if not whole.startswith(before) or not loads(key, whole):
            continue
        for value in (whole[len(before) :], whole[len(before) :].removesuffix(after)):
            if loads(key, value) and words_of({key: value}) == whole:
                assert meaning({key: value}) == meaning(conditions)


@settings(max_examples=EXAMPLES // 4, deadline=None)
@given(
    one=st.sets(st.sampled_from(["issues", "pull_request", "issues or x"])), other=st.sets(st.sampled_from(["issues", "pull_request", "issues or x"])),
    first=st.sampled_from([None, "true", "a", 'b" is true']), second=st.sampled_from([None, "true", "a", 'b" is true']),
)  # fmt: skip
def test_triggers_and_expressions_that_differ_read_differently(
    one: set[str], other: set[str], first: str | None, second: str | None
) -> None:
    alike = words_of({}, triggers=one, when=first) == words_of({}, triggers=other, when=second)
    assert alike is ((one, first) == (other, second))


OPTION = st.sampled_from(["a", "b", "a.b", "a[0]", "", '"a"', "a = 1; b", "{}", "1", "true"])
TREES = st.recursive(
    st.one_of(OPTION, st.booleans(), st.integers(0, 2)),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(OPTION, inner, max_size=2)),
    max_leaves=5,
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(one=st.dictionaries(OPTION, TREES, max_size=3), other=st.dictionaries(OPTION, TREES, max_size=3))
def test_options_that_differ_read_differently(one: dict[str, Any], other: dict[str, Any]) -> None:
    def shown(options: dict[str, Any]) -> str:
        text = policy_text(grant=f"with: {json.dumps(options)}")
        written = validated(PolicyFile, parse(text, "payments.yaml"))
        nobody = replace(world(), targets=None)
        return grants_of(describe(written, nobody, file="payments.yaml"))[0][3]

    if shown(one) == shown(other):
        assert json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@pytest.mark.parametrize(
    ("one", "other"),
    [({"a.b": 1}, {"a": {"b": 1}}), ({"a": ["x"]}, {"a[0]": "x"}), ({"a": "1"}, {"a": 1}), ({"a": {}}, {"a": "{}"}), ({"a": []}, {"a": {}})],
)  # fmt: skip
def test_options_that_nearly_read_alike(one: dict[str, Any], other: dict[str, Any]) -> None:
    test_options_that_differ_read_differently.hypothesis.inner_test(one, other)
