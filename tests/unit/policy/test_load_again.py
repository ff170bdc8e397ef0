"""Loading again compiles only what changed, and gives exactly what a fresh load gives."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.errors import ConfigError
from broker.issuers import ISSUERS
from broker.issuers.seam import IssuerKind
from broker.model import GrantRequest
from broker.policy import Guardrails, PolicySet, decide
from broker.policy import load as loading
from broker.policy.guardrails import read_guardrails
from broker.policy.load import Loader, PolicyText, compile_all, folders_of
from broker.policy.world import World
from tests.unit.policy.world import NOON, TARGETS, URLS, job_token, policy_text, world

LIMITS = {
    "none": Guardrails(),
    "ttl": read_guardrails(b"longest_ttl: {safe-kind: 10m}\n", "guardrails.yaml"),
    "folder": read_guardrails(b"folders: {sub: {backends: [needy]}}\n", "guardrails.yaml"),
    "owners": read_guardrails(b"owners: ['*@acme.example']\n", "guardrails.yaml"),
}
CONTENTS: dict[str, Callable[[str], str]] = {
    "good": lambda name: policy_text().replace("policy: payments", f"policy: {name}"),
    "long": lambda name: policy_text().replace("policy: payments", f"policy: {name}").replace("15m", "20m"),
    "short": lambda name: policy_text().replace("policy: payments", f"policy: {name}").replace("15m", "5m"),
    "stolen name": lambda _: policy_text().replace("policy: payments", "policy: alpha"),
    "broken": lambda _: "[",
    "owned elsewhere": lambda name: (
        policy_text().replace("policy: payments", f"policy: {name}").replace("acme.example", "other.example")
    ),
}
FILES = {"alpha.yaml": "alpha", "beta.yaml": "beta", "sub/gamma.yaml": "gamma", "sub/deep/delta.yaml": "delta"}


def text(file: str, content: str) -> PolicyText:
    return PolicyText(file, file, CONTENTS[content](FILES[file]).encode())


def outcome(load: Callable[[], PolicySet]) -> Any:
    """All that one can see of a set, or its problems."""
    try:
        found = load()
    except ConfigError as error:
        return error.problems
    tokens = [
        job_token(),
        job_token(repository_id="512345678"),
        job_token("github-pull-request", repository_id="512345678"),
    ]
    return (
        found.version,
        [(policy.name, policy.file, policy.version, policy.owners, policy.text) for policy in found.policies.values()],
        {name: (policy.name, grant.ttl) for name, (policy, grant) in found.grants.items()},
        [found.names(token) for token in tokens],
        [decide(found, token, [GrantRequest(grant=name)], now=NOON) for token in tokens for name in found.grants],
    )


def issued(**issuers: IssuerKind) -> World:
    return World(issuers=issuers, issuer_urls=URLS, targets=TARGETS, guardrails=Guardrails())


edits = st.one_of(
    st.tuples(st.sampled_from(sorted(FILES)), st.sampled_from([*sorted(CONTENTS), None])),
    st.tuples(st.just("guardrails"), st.sampled_from(sorted(LIMITS))),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(edits, min_size=1, max_size=3), min_size=1, max_size=8))
def test_after_any_edits_it_is_as_a_fresh_load(rounds: list[list[tuple[str, str | None]]]) -> None:
    loader, files, limits = Loader(), dict.fromkeys(FILES, "good"), LIMITS["none"]
    for changes in rounds:
        for what, content in changes:
            if what == "guardrails":
                assert content is not None
                limits = LIMITS[content]
            elif content is None:
                files.pop(what, None)
            else:
                files[what] = content
        texts = [text(file, content) for file, content in sorted(files.items())]
        folders = folders_of(texts)
        again = outcome(lambda: loader.load(texts, world(limits), folders=folders))  # noqa: B023  called at once
        fresh = outcome(lambda: compile_all(texts, world(limits), [], folders=folders))  # noqa: B023
        assert again == fresh


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were compiled, as it happens."""
    files: list[str] = []
    true = loading.compile_text

    def counting(text: PolicyText, within: World) -> Any:
        files.append(text.file)
        return true(text, within)

    monkeypatch.setattr(loading, "compile_text", counting)
    return files


def good() -> list[PolicyText]:
    return [text(file, "good") for file in FILES]


def test_only_what_changed_is_compiled(compiled: list[str]) -> None:
    loader = Loader()
    first = loader.load(good(), world())
    assert compiled == list(FILES)
    compiled.clear()
    second = loader.load([text("alpha.yaml", "long"), *good()[1:]], world())
    assert compiled == ["alpha.yaml"]
    assert second.policies["beta"] is first.policies["beta"]
    assert second.grants["alpha/deploy"][1].ttl > first.grants["alpha/deploy"][1].ttl
    compiled.clear()
    assert set(loader.load(good()[:2], world()).policies) == {"alpha", "beta"}
    assert compiled == ["alpha.yaml"]


def test_a_file_that_moves_is_judged_where_it_now_stands(compiled: list[str]) -> None:
    loader = Loader()
    loader.load([text("alpha.yaml", "good")], world(LIMITS["folder"]))
    moved = replace(text("alpha.yaml", "good"), name="sub/alpha.yaml", file="sub/alpha.yaml")
    with pytest.raises(ConfigError, match="do not let policies in 'sub'"):
        loader.load([moved], world(LIMITS["folder"]))
    assert compiled == ["alpha.yaml", "sub/alpha.yaml"]


def test_after_a_failure_only_the_broken_file_is_compiled_again(compiled: list[str]) -> None:
    loader = Loader()
    for _ in range(3):
        with pytest.raises(ConfigError):
            loader.load([text("alpha.yaml", "broken"), *good()[1:]], world())
    assert compiled == [*FILES, "alpha.yaml", "alpha.yaml"]


@pytest.mark.parametrize(
    "other",
    [
        world(LIMITS["ttl"]),
        world(LIMITS["owners"]),
        issued(github=ISSUERS["github"]),
        issued(**{**ISSUERS, "github": replace(ISSUERS["github"], title="another")}),
        World(issuers=ISSUERS, issuer_urls={**URLS, "github": "https://x"}, targets=TARGETS, guardrails=Guardrails()),
        World(issuers=ISSUERS, issuer_urls=URLS, targets=None, guardrails=Guardrails()),
        World(
            issuers=ISSUERS,
            issuer_urls=URLS,
            targets={**TARGETS, "safe": replace(TARGETS["safe"], kind="x")},
            guardrails=Guardrails(),
        ),
    ],
    ids=["ttl", "owners", "issuers", "kind", "url", "no targets", "target"],
)
def test_another_world_compiles_everything_anew(other: World, compiled: list[str]) -> None:
    loader = Loader()
    loader.load(good(), world())
    compiled.clear()
    texts = [replace(one, data=one.data.replace(b"15m", b"5m")) for one in good()]
    loader.load(texts, other)
    assert compiled == list(FILES)


def test_an_equal_world_that_was_made_anew_is_the_same(compiled: list[str]) -> None:
    loader = Loader()
    loader.load(good(), world(read_guardrails(b"longest_ttl: {safe-kind: 1h}\n", "guardrails.yaml")))
    compiled.clear()
    loader.load(good(), world(read_guardrails(b"longest_ttl: {safe-kind: 1h}\n", "guardrails.yaml")))
    assert compiled == []


def test_a_name_taken_by_a_file_that_did_not_change_is_still_taken() -> None:
    loader = Loader()
    loader.load(good(), world())
    with pytest.raises(ConfigError, match=r"beta.yaml:1:1: policy: the name 'alpha' is taken by alpha.yaml"):
        loader.load([text("alpha.yaml", "good"), text("beta.yaml", "stolen name")], world())
