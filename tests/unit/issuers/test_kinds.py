"""The finer points of reading claims: links nobody can bend, paths into claims, and jobs told by their URL."""

import pytest

from broker.issuers import ISSUERS, Trust, generic
from broker.issuers.words import flag, ident, page, ref_type, text


@pytest.mark.parametrize(
    ("origin", "segments", "link"),
    [
        ("https://github.com", ("acme/payments", "42"), "https://github.com/acme/payments/runs/42"),
        ("https://gitlab.acme.example/gitlab", ("a/b", "1"), "https://gitlab.acme.example/gitlab/a/b/runs/1"),
        ("https://github.com", ('a"><script>', "1"), "https://github.com/a%22%3E%3Cscript%3E/runs/1"),
        ("https://github.com", ("a?x=1#y", "1 2"), "https://github.com/a%3Fx%3D1%23y/runs/1%202"),
        ("https://github.com", ("{0}", "1"), "https://github.com/%7B0%7D/runs/1"),
        ("https://github.com", ("ünï", "1"), "https://github.com/%C3%BCn%C3%AF/runs/1"),
        ("https://github.com", ("../../evil", "1"), None),
        ("https://github.com", ("a//evil.example", "1"), None),
        ("https://github.com", ("a\n", "1"), None),
        ("https://github.com", ("a", None), None),
        ("http://github.com", ("a", "1"), None),
        ("javascript:alert(1)//https://", ("a", "1"), None),
        ("https://github.com@evil.example", ("a", "1"), None),
        ('https://x"onclick="', ("a", "1"), None),
        (None, ("a", "1"), None),
    ],
)
def test_links(origin: str | None, segments: tuple[str | None, ...], link: str | None) -> None:
    assert page(origin, "/{}/runs/{}", *segments) == link


@pytest.mark.parametrize(
    ("value", "as_text", "as_ident", "as_flag"),
    [
        ("main", "main", "main", None), ("", None, None, None), (None, None, None, None), (7, None, "7", None),
        (0, None, "0", None), (True, None, None, True), (False, None, None, False), ("true", "true", "true", True),
        ("false", "false", "false", False), ("True", "True", "True", None), (1, None, "1", None), (1.0, None, None, None),
        ([], None, None, None), (["true"], None, None, None), ({}, None, None, None),
    ],
)  # fmt: skip
def test_types_are_not_guessed(value: object, as_text: str | None, as_ident: str | None, as_flag: bool | None) -> None:
    claims = {"x": value}
    assert (text(claims, "x"), ident(claims, "x")) == (as_text, as_ident)
    assert flag(claims, "x") is as_flag


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("refs/heads/main", "branch"), ("refs/tags/v1", "tag"), ("refs/pull/1/merge", "pull-request"),
        ("refs/merge-requests/1/head", "pull-request"), ("refs/notes/x", None), ("main", None), ("Refs/heads/main", None), (None, None),
    ],
)  # fmt: skip
def test_ref_types(ref: str | None, expected: str | None) -> None:
    assert ref_type(ref) == expected


@pytest.mark.parametrize(
    ("expression", "steps"),
    [
        ("claims.repo", ("repo",)),
        ("claims.a.b-c", ("a", "b-c")),
        ('claims["kubernetes.io"].node.name', ("kubernetes.io", "node", "name")),
        ("claims['oidc.circleci.com/org-id']", ("oidc.circleci.com/org-id",)),
    ],
)
def test_paths(expression: str, steps: tuple[str, ...]) -> None:
    assert generic.path(expression) == steps


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "claims",
        "claims.",
        "repo",
        "claims.a.",
        "claims..a",
        'claims["a"',
        "claims[a]",
        "claims.a b",
        "xclaims.a",
        'claims[""]',
    ],
)
def test_no_paths(expression: str) -> None:
    with pytest.raises(ValueError, match="is not the path of a claim"):
        generic.path(expression)


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"p": "x", "u": "https://ci.example/1"}, "https://ci.example/1"),
        ({"p": "x", "u": "javascript:alert(1)"}, None),
        ({"p": "x", "u": 'https://ci.example/"onclick='}, None),
        ({"p": "x", "u": "https://user@ci.example/"}, None),
    ],
)
def test_a_mapped_link_is_a_link(claims: dict[str, str], expected: str | None) -> None:
    assert generic.build({"project": "claims.p", "run_url": "claims.u"}).identity(claims).run_url == expected


@pytest.mark.parametrize(
    ("claims", "triggers"),
    [
        ({}, ()),
        ({"t": "push"}, ()),
        ({"t": "pull_request_target"}, ("pull_request_target",)),
        ({"f": True}, ("fork",)),
        ({"f": "true", "t": "workflow_run"}, ("workflow_run", "fork")),
        ({"f": False}, ()),
        ({"r": "refs/pull/1/head"}, ("pull-request-ref",)),
    ],
)
def test_generic_triggers(claims: dict[str, object], triggers: tuple[str, ...]) -> None:
    kind = generic.build({"project": "claims.p", "trigger": "claims.t", "fork": "claims.f", "ref": "claims.r"})
    assert kind.unsafe_triggers(claims) == triggers


JOB = "https://jenkins.acme.example/job/release/job/payments/job/"


@pytest.mark.parametrize(
    ("sub", "project", "triggers"),
    [
        (JOB + "main/", "release/payments/main", ()),
        (JOB + "main", "release/payments/main", ()),
        ("https://host/jenkins/job/x/", "x", ()),
        (JOB + "PR-12/", "release/payments/PR-12", ("pull-request",)),
        (JOB + "pr-12-head/", "release/payments/pr-12-head", ("pull-request",)),
        (JOB + "MR-3/", "release/payments/MR-3", ("pull-request",)),
        (JOB + "feature%252Fx/", "release/payments/feature%2Fx", ()),
        (JOB, None, ("no-job",)),
        (JOB + "x%2Fmain/", None, ("no-job",)),  # no job name holds a slash; joined, it would pass for main in folder x
        ("https://jenkins.acme.example/", None, ("no-job",)),
        ("https://jenkins.acme.example/view/x/job/a/configure", None, ("no-job",)),
        (JOB + "main/?x=1", None, ("no-job",)),
        (JOB + "main/#x", None, ("no-job",)),
        ("https://[::1/job/x/", None, ("no-job",)),
        ("release/payments", None, ("no-job",)),
        ("", None, ("no-job",)),
    ],
)
def test_jenkins_jobs(sub: str, project: str | None, triggers: tuple[str, ...]) -> None:
    kind = ISSUERS["jenkins"]
    assert kind.identity({"sub": sub, "build_number": 3}).project == project
    assert kind.unsafe_triggers({"sub": sub}) == triggers


def test_trust_classes_with_a_prefix() -> None:
    kind = ISSUERS["github"]
    assert kind.trust("repository_id") is Trust.ID
    assert kind.trust("repo_property_team") is Trust.FACT
    assert kind.trust("brand_new") is None
    assert ISSUERS["jenkins"].trust("anything") is Trust.USER
