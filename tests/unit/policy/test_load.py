"""Loading: every problem with its exact place, whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.backends import BACKENDS
from broker.errors import ConfigError
from broker.issuers import ISSUERS
from broker.model import GrantRequest
from broker.policy import Allowed, Guardrails, PolicySet, Target, decide, load_guardrails, load_policies
from broker.policy.examples import example_token
from broker.policy.load import PolicyText, compile_text
from tests.unit.policy.world import NOON, TARGETS, URLS, load, policy_text, world

Write = Callable[..., Path]
CONFIGS = Path(__file__).parents[3] / "configs"


def read(folder: Path, guardrails: Guardrails | None = None) -> PolicySet:
    return load_policies(
        folder, issuers=ISSUERS, issuer_urls=URLS, targets=TARGETS, guardrails=guardrails or Guardrails()
    )


def problems(text: str, guardrails: Guardrails | None = None) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load(text, guardrails=guardrails)
    return list(error.value.problems)


def test_the_shipped_policies_load_against_the_shipped_backends_and_guardrails() -> None:
    kinds = {"token": "identity-token", "ssh": "ssh-ca", "vault": "vault", "aws-prod": "aws-sts"}
    targets = {
        name: Target(
            backend=name,
            kind=kind,
            options=BACKENDS[kind].Options,
            params=BACKENDS[kind].Params,
            shortest=BACKENDS[kind].shortest,
            longest=BACKENDS[kind].longest,
        )
        for name, kind in kinds.items()
    }
    guardrails = load_guardrails(CONFIGS / "guardrails.yaml")
    found = load_policies(
        CONFIGS / "policies", issuers=ISSUERS, issuer_urls=URLS, targets=targets, guardrails=guardrails
    )
    assert set(found.policies) == {"payments", "storefront", "release-runners", "network"}
    assert found.policies["network"].observed
    tag = {
        **ISSUERS["gitlab"].examples["gitlab-tag"],
        "project_id": "20044",
        "job_project_id": "20044",
        "ref": "v1.0",
        "ref_path": "refs/tags/v1.0",
        "ref_protected": "true",
    }
    allowed = decide(
        found, example_token("gitlab", ISSUERS["gitlab"], tag), [GrantRequest(grant="storefront/registry")], now=NOON
    )
    assert isinstance(allowed, Allowed)
    assert allowed.grants[0].options.subject == f"storefront-{tag['pipeline_id']}"


GOOD = """\
policy: payments
owners: [team@acme.example]
trust:
  - issuer: github
    job: {project_id: "512345678", ref: refs/heads/main}
    claims:
      repository_owner: acme
grants:
  deploy: {backend: safe, ttl: 15m, with: {role: reader, hosts: ["1"]}}
examples:
  - {name: good, claims: {$like: github-branch}, expect: {allow: [deploy]}}
  - {name: bad, claims: {$like: github-pull-request}, expect: refuse}
"""


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("policy: payments", "policy: Payments", "p.yaml:1:1: policy: String should match pattern"),
        ("owners: [team@acme.example]", "owners: []", "p.yaml:2:1: owners: List should have at least 1 item"),
        ("owners:", "ownrs:", "p.yaml:2:1: ownrs: unknown key; did you mean 'owners'?"),
        ("issuer: github", "issuer: githib", "p.yaml:4:5: trust[0].issuer: no issuer 'githib' is configured; did you mean 'github'?"),
        ("ref: refs", "reff: refs", "p.yaml:5:36: trust[0].job.reff: a job has no 'reff'; did you mean 'ref'?"),
        ('"512345678"', "512345678", 'p.yaml:5:11: trust[0].job.project_id: this is text: write it in quotes, "512345678"'),
        ("refs/heads/main}", '{regex: "("}}', "p.yaml:5:42: trust[0].job.ref.regex: not an RE2 pattern: missing ): ("),
        ("repository_owner: acme", "repository_owner:", "p.yaml:7:7: trust[0].claims.repository_owner: nothing equals an empty value"),
        ("repository_owner: acme", "/a~2: x", "p.yaml:7:7: trust[0].claims./a~2: in a JSON pointer"),
        ("      repository_owner: acme", "      repository_owner: acme\n    when: clams.x", "p.yaml:8:5: trust[0].when: unknown name 'clams'"),
        ("      repository_owner: acme", "      repository_owner: acme\n    allow_triggers: [pull-request-traget]", "p.yaml:8:22: trust[0].allow_triggers[0]: GitHub Actions has no unsafe trigger"),
        ("backend: safe", "backend: saef", "p.yaml:9:12: grants.deploy.backend: no backend 'saef' is configured; did you mean 'safe'?"),
        ("ttl: 15m", "ttl: 15", "p.yaml:9:27: grants.deploy.ttl: write a length of time as text with a unit"),
        ("ttl: 15m", "ttl: 1s", "p.yaml:9:27: grants.deploy.ttl: safe-kind credentials live 30s or longer"),
        ("ttl: 15m", "ttl: 13h", "p.yaml:9:27: grants.deploy.ttl: safe-kind credentials live 12h at most"),
        ("ttl: 15m, with", "ttl: 15m, params: {sesion: a}, with", "p.yaml:9:46: grants.deploy.params.sesion: a job cannot send 'sesion' to safe-kind; did you mean 'session'?"),
        ("role: reader", "rol: reader", "p.yaml:9:44: grants.deploy.with.rol: unknown key; did you mean 'role'?"),
        ("role: reader", "level: high", "p.yaml:9:44: grants.deploy.with.level: Input should be a valid integer"),
        ('hosts: ["1"]', "hosts: [1]", "p.yaml:9:66: grants.deploy.with.hosts[0]: Input should be a valid string"),
        ("role: reader", 'fixed: "{{ job.ref }}"', "p.yaml:9:44: grants.deploy.with.fixed: this option takes no template"),
        ("role: reader", 'role: "{{ job.reff }}"', "p.yaml:9:44: grants.deploy.with.role: a job has no 'reff'; did you mean 'ref'?"),
        ("role: reader", 'role: "{{ job.ref | upper }}"', "p.yaml:9:44: grants.deploy.with.role: write a template as"),
        ("role: reader", 'role: "{{  job.ref }}"', "p.yaml:9:44: grants.deploy.with.role: write a template as"),
        ("role: reader", 'role: "{{ job.ref"', "p.yaml:9:44: grants.deploy.with.role: write a template as"),
        ("role: reader", 'role: "{{{{ job.ref }}}}"', "p.yaml:9:44: grants.deploy.with.role: write a template as"),
        ("role: reader", 'role: "{{ env.HOME }}"', "p.yaml:9:44: grants.deploy.with.role: 'env.HOME' is neither job.NAME nor claims.NAME"),
        ("role: reader", 'role: "{{ job.__class__ }}"', "p.yaml:9:44: grants.deploy.with.role: a job has no '__class__'"),
        ("role: reader", 'tags: {"{{ job.ref }}": a}', "p.yaml:9:51: grants.deploy.with.tags.{{ job.ref }}: a key takes no template"),
        ("expect: refuse", "expect: refused", "p.yaml:12:55: examples[1].expect: write `refuse`, or"),
        ("expect: refuse", "expect: {allow: []}", "p.yaml:12:55: examples[1].expect: write `refuse`, or"),
        ("expect: refuse", "expect: {allow: [deplay]}", "p.yaml:12:55: examples[1].expect: no grant 'deplay' here; did you mean 'deploy'?"),
        ("$like: github-branch", "$like: github-brnch", "p.yaml:11:27: examples[0].claims.$like: no example 'github-brnch' of GitHub Actions; did you mean 'github-branch'?"),
        ("{name: good", "{issuer: gitlub, name: good", "p.yaml:11:6: examples[0].issuer: no issuer 'gitlub' is configured; did you mean 'gitlab'?"),
        ("name: bad", "name: good", "p.yaml:12:6: examples[1].name: an example of this name stands above"),
        ("github-pull-request}", "github-tag, ref: refs/heads/main, ref_type: branch}", "p.yaml:12:86: examples[1].expect: 'bad': expected a refusal of deploy, but trust[0] allows it"),
        ("github-branch}", "github-branch, ref: refs/heads/x}", "p.yaml:11:69: examples[0].expect: 'good': expected deploy, but it is refused: trust[0] job.ref: expected refs/heads/main, got refs/heads/x"),
        ("  - {name: bad, claims: {$like: github-pull-request}, expect: refuse}\n", "", "p.yaml:10:1: examples: no example is refused"),
        ('{project_id: "512345678", ref: refs/heads/main}', "{project: acme/payments}", "p.yaml:4:5: trust[0]: a name can be registered again by somebody else"),
        ('{project_id: "512345678", ref: refs/heads/main}', '{project_id: {glob: "5*"}}', "p.yaml:4:5: trust[0]: a name can be registered again by somebody else"),
        ('{project_id: "512345678", ref: refs/heads/main}', '{run_id: "1"}', "p.yaml:4:5: trust[0]: a name can be registered again by somebody else"),
        ("policy: payments", "policy: payments\npolicy: other", "p.yaml:2:1: policy: the key stands twice in this mapping; keep one"),
    ],
)  # fmt: skip
def test_a_problem_has_its_exact_place(old: str, new: str, expected: str) -> None:
    assert old in GOOD
    found = problems_of(GOOD.replace(old, new, 1))
    assert [problem for problem in found if problem.startswith(expected)], found


def problems_of(text: str) -> list[str]:
    try:
        compile_text(PolicyText("p.yaml", "p.yaml", text.encode()), world())
    except ConfigError as error:
        return list(error.problems)
    return []


def test_the_good_one_is_good() -> None:
    assert problems_of(GOOD) == []
    raw = GOOD.replace('{project_id: "512345678", ref: refs/heads/main}', "{ref: refs/heads/main}").replace(
        "repository_owner: acme", 'repository_id: "512345678"'
    )
    assert problems_of(raw) == [], "the raw claim of an immutable id is one too"
    assert problems_of(raw.replace("repository_id", "run_attempt")) != [], "a number that everybody has is none"
    assert problems_of(GOOD.replace('"512345678"', '["512345678", "5"]')) == []


def test_all_problems_of_all_files_come_together(folder: Write) -> None:
    root = folder({
        "a.yaml": GOOD.replace("ttl: 15m", "ttl: 1s").replace("ref: refs", "reff: refs"),
        "b/b.yaml": "policy: [",
        "c.yml": GOOD,
        ".hidden.yaml": "never read: [",
        "..data/x.yaml": "never read: [",
        "notes.txt": "not a policy",
    })  # fmt: skip
    with pytest.raises(ConfigError) as error:
        read(root)
    text = str(error.value)
    for part in (
        "a.yaml:5:36: trust[0].job.reff",
        "a.yaml:9:27: grants.deploy.ttl",
        "b/b.yaml:2:1: not valid YAML",
        "c.yml:1:1: only *.yaml",
    ):
        assert part in text
    assert "never" not in text


def test_a_folder_is_read_whole(folder: Write) -> None:
    root = folder({"a.yaml": GOOD, "x/y/b.yaml": GOOD.replace("policy: payments", "policy: other")})
    assert set(read(root).grants) == {"payments/deploy", "other/deploy"}
    (root / "z.yaml").write_text(GOOD)
    with pytest.raises(ConfigError, match=r"z\.yaml:1:1: policy: the name 'payments' is taken by a\.yaml"):
        read(root)


def test_links(folder: Write, tmp_path: Path) -> None:
    root = folder({"..2026/a.yaml": GOOD})
    (root / "..data").symlink_to("..2026")
    (root / "a.yaml").symlink_to("..data/a.yaml")
    assert set(read(root).policies) == {"payments"}, "how Kubernetes mounts a ConfigMap"
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "b.yaml").write_text(GOOD.replace("payments", "evil"))
    for name, to, says in [
        ("b.yaml", outside / "b.yaml", "leads out of the folder"),
        ("c", outside, "a linked folder is not followed"),
        ("d.yaml", root / "nowhere", "cannot be read"),
        ("e.yaml", root / "e.yaml", "cannot be read"),
    ]:
        (root / name).symlink_to(to)
        with pytest.raises(ConfigError, match=says):
            read(root)
        (root / name).unlink()
    os.mkfifo(root / "f.yaml")
    with pytest.raises(ConfigError, match="not a regular file"):
        read(root)


def test_no_folder_is_an_error_and_an_empty_one_refuses_everybody(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        read(tmp_path / "none")
    assert read(tmp_path).policies == {}


def test_examples_try_params_too() -> None:
    restricted = policy_text(
        grant="params: {session: a}",
        examples="- {name: a, claims: {$like: github-branch}, params: {session: a}, expect: {allow: [deploy]}}\n"
        "- {name: b, claims: {$like: github-branch}, params: {session: b}, expect: refuse}\n"
        "- {name: c, claims: {$like: github-branch}, expect: {allow: [deploy]}}",
    )
    load(restricted)
    assert "got b" in str(
        problems(restricted.replace("{session: b}, expect: refuse", "{session: b}, expect: {allow: [deploy]}"))
    )
    assert "what it sends is wrong: session" in str(
        problems(restricted.replace("{session: b}, expect: refuse", "{session: 5}, expect: {allow: [deploy]}"))
    )


def test_an_example_takes_a_claim_away_with_null() -> None:
    load(
        policy_text(
            job="environment: production",
            examples="- {name: a, claims: {$like: github-environment, environment: null}, expect: refuse}",
        )
    )


def test_without_backends_everything_else_is_still_checked(folder: Write) -> None:
    root = folder(
        {"a.yaml": GOOD.replace("backend: safe", "backend: whatever").replace("role: reader", "anything: goes")}
    )
    found = load_policies(root, issuers=ISSUERS, issuer_urls=URLS, targets=None, guardrails=Guardrails())
    assert found.policies["payments"].grants["deploy"].kind == "unknown"


@settings(deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_arbitrary_bytes_only_ever_raise_config_errors(data: bytes) -> None:
    with pytest.raises(ConfigError):
        compile_text(PolicyText("p.yaml", "p.yaml", data), world())


@settings(deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 40), st.text(alphabet="{}[]:,\"'\n -&*!|>#$5aé\x00", max_size=6))
def test_a_damaged_policy_loads_or_raises_config_errors(place: int, gone: int, put: str) -> None:
    text = GOOD[:place] + put + GOOD[place + gone :]
    try:
        compile_text(PolicyText("p.yaml", "p.yaml", text.encode()), world())
    except ConfigError as error:
        problems = error.problems
    else:
        problems = ()
    assert all(problem.startswith("p.yaml:") for problem in problems)
