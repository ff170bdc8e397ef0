"""Shapes that every option shares, and where the policy engine may put a job's values."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import re2
from pydantic import BaseModel, TypeAdapter, ValidationError

from broker.backends import BACKENDS
from broker.backends.aws_options import POLICY_VALUE
from broker.backends.options import EnvName, ServiceUrl, settled
from broker.backends.seam import BackendError
from broker.backends.ssh_ca import PRINCIPAL
from broker.backends.vault_options import SEGMENT
from broker.model import JobIdentity, VerifiedToken
from broker.policy.template import Unfillable, compile_options

NOW = datetime(2026, 11, 21, 20, tzinfo=UTC)
ROLE = "arn:aws:iam::123456789012:role/Deploy"


@pytest.mark.parametrize("name", ["A", "TOKEN", "PGPASSWORD", "X_1", "JOBKEY_IDENTITY_TOKEN", "PATHS"])
def test_variables(name: str) -> None:
    assert TypeAdapter(EnvName).validate_python(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "a", "1A", "A-B", "A B", "A\n", "A=B", "\u0410", "PATH", "LD_PRELOAD", "LD_AUDIT", "DYLD_INSERT_LIBRARIES", "BASH_ENV",
     "BASH_FUNC_x", "GITHUB_TOKEN", "GITHUB_ENV", "ACTIONS_RUNTIME_TOKEN", "NODE_OPTIONS", "PYTHONPATH", "GIT_SSH_COMMAND", "A" * 65],
)  # fmt: skip
def test_variables_that_steer_programs(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(EnvName).validate_python(name)


@pytest.mark.parametrize(
    "url",
    ["https://bao.acme.example:8200", "https://bao/", "http://127.0.0.1:8200", "http://[::1]:1", "http://localhost:1"],
)
def test_urls(url: str) -> None:
    assert TypeAdapter(ServiceUrl).validate_python(url) == url.rstrip("/")


def test_a_ca_file_stands_beside_the_file_that_names_it() -> None:
    written = {"url": "https://bao", "auth": {"token": "env:T"}, "ca_file": "tls/ca.pem"}
    settings = BACKENDS["vault"].Settings.model_validate(written, context={"folder": Path("/etc/jobkey")})
    assert settings.model_dump()["ca_file"] == "/etc/jobkey/tls/ca.pem"
    assert BACKENDS["vault"].Settings.model_validate(written).model_dump()["ca_file"] == "tls/ca.pem"


# value -> may it stand in a path segment, a principal, a string of an AWS policy
VALUES = {
    "main": (True, True, True),
    "release-1.2": (True, True, True),
    "acme/payments": (False, False, True),
    "refs/heads/main": (False, False, True),
    "ada@acme.example": (False, True, True),
    "": (False, False, False),
    ".": (False, False, False),
    "..": (False, False, False),
    "a/../b": (False, False, False),
    "../b": (False, False, False),
    "/a": (False, False, False),
    "a/": (False, False, False),
    "a//b": (False, False, False),
    "a..b": (False, True, False),
    "*": (False, False, False),
    "a*": (False, False, False),
    "a?": (False, False, False),
    "${aws:username}": (False, False, False),
    'a"': (False, False, False),
    "a'": (False, False, False),
    "a\\": (False, False, False),
    "a:b": (False, False, False),
    "a,b": (False, False, False),
    "a b": (False, False, False),
    "-oX": (True, False, True),
    "a\n": (False, False, False),
    "a\0": (False, False, False),
    "%2e%2e": (False, False, False),
    "a#b": (False, False, False),
    "a?b=c": (False, False, False),
    "\u0430cme": (False, False, False),
    "\uff0e\uff0e": (False, False, False),
    "{{ job.ref }}": (False, False, False),
}


@pytest.mark.parametrize("value", VALUES)
def test_what_a_job_may_put_where(value: str) -> None:
    matched = tuple(re2.compile(pattern).fullmatch(value) is not None for pattern in (SEGMENT, PRINCIPAL, POLICY_VALUE))
    assert matched == VALUES[value]


def fill(kind: str, options: dict[str, Any], job: JobIdentity) -> BaseModel:
    """As a policy's grant becomes options: compiled once, filled for a job, validated whole."""
    problems: list[str] = []
    model = BACKENDS[kind].Options
    compiled = compile_options(options, model, lambda path, message: problems.append(f"{path}: {message}"))
    if problems or compiled is None:
        raise ValueError("; ".join(problems) or "nothing to fill in")
    token = VerifiedToken(
        issuer="github", kind="github", claims={}, job=job, unsafe_triggers=(), token_key=b"", issued_at=NOW,
        expires_at=NOW + timedelta(minutes=5),
    )  # fmt: skip
    return model.model_validate(compiled[0](token))


JOB = JobIdentity(
    project="acme/payments", project_id="5123", environment="prod", actor="ada", run_id="77", ref="refs/heads/main"
)
PLACES = {
    "ssh principal": ("ssh-ca", {"principals": ["ci-{{ job.environment }}", "deploy"]}, ("principals", 0), "ci-prod"),
    "token subject": ("identity-token", {"audience": "a", "subject": "p:{{ job.project }}"}, None, None),
    "token claim": ("identity-token", {"audience": "a", "claims": {"who": "{{ job.actor }}"}}, ("claims", "who"), "ada"),
    "token claims": ("identity-token", {"audience": "a", "claims": {"g": ["x", "{{ job.actor }}"]}}, ("claims", "g", 1), "ada"),
    "vault path": ("vault", {"path": "database/creds/{{ job.environment }}", "policies": ["p"]}, ("path",), "database/creds/prod"),
    "vault data": (
        "vault", {"path": "pki/issue/x", "policies": ["p"], "method": "write", "data": {"cn": "{{ job.run_id }}.ci"}}, ("data", "cn"), "77.ci",
    ),
    "aws tag": ("aws-sts", {"role_arn": ROLE, "tags": {"project": "{{ job.project }}"}}, ("tags", "project"), "acme/payments"),
    "aws session": ("aws-sts", {"role_arn": ROLE, "session_name": "run-{{ job.run_id }}"}, ("session_name",), "run-77"),
    "aws source": ("aws-sts", {"role_arn": ROLE, "source_identity": "{{ job.actor }}"}, ("source_identity",), "ada"),
    "aws policy resource": (
        "aws-sts",
        {"role_arn": ROLE, "session_policy": {"Statement": [
            {"Effect": "Allow", "Action": "s3:GetObject", "Resource": ["arn:aws:s3:::a/{{ job.project }}/*"]}]}},
        ("session_policy", "Statement", 0, "Resource", 0), "arn:aws:s3:::a/acme/payments/*",
    ),
    "aws policy condition": (
        "aws-sts",
        {"role_arn": ROLE, "session_policy": {"Statement": [
            {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*",
             "Condition": {"StringLike": {"s3:prefix": "{{ job.project_id }}/*"}}}]}},
        ("session_policy", "Statement", 0, "Condition", "StringLike", "s3:prefix"), "5123/*",
    ),
    "aws policy text": (
        "aws-sts",
        {"role_arn": ROLE, "session_policy": '{"Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "x/{{ job.project }}"}}'},
        None, None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_a_jobs_value_reaches_the_place_it_was_meant_for(place: str) -> None:
    kind, options, path, expected = PLACES[place]
    filled = fill(kind, options, JOB)
    settled(filled.model_dump())
    assert "{{" not in filled.model_dump_json()
    value: Any = filled.model_dump()
    for part in path or ():
        value = value[part]
    assert path is None or value == expected


HOSTILE_JOB = JobIdentity(**dict.fromkeys(("project", "project_id", "environment", "actor", "run_id"), 'x"\n,*/../y'))


@pytest.mark.parametrize("place", PLACES)
def test_a_hostile_value_is_refused_in_every_place(place: str) -> None:
    kind, options, _, _ = PLACES[place]
    with pytest.raises(Unfillable):
        fill(kind, options, HOSTILE_JOB)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("aws-sts", {"role_arn": "arn:aws:iam::123456789012:role/{{ job.actor }}"}),
        ("aws-sts", {"role_arn": ROLE, "external_id": "{{ job.actor }}"}),
        ("aws-sts", {"role_arn": ROLE, "session_policy": {"Statement": [{"Effect": "Allow", "Action": "{{ job.actor }}", "Resource": "*"}]}}),
        ("aws-sts", {"role_arn": ROLE, "tags": {"{{ job.actor }}": "x"}}),
        ("ssh-ca", {"principals": ["x"], "force_command": "{{ job.actor }}"}),
        ("ssh-ca", {"principals": ["x"], "source_addresses": ["{{ job.actor }}"]}),
        ("identity-token", {"audience": "{{ job.actor }}"}),
        ("vault", {"path": "a/b", "policies": ["{{ job.actor }}"]}),
        ("vault", {"path": "a/b", "policies": ["p"], "env": {"X": "{{ job.actor }}"}}),
    ],
)  # fmt: skip
def test_no_template_where_a_value_would_choose_the_power(kind: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="takes no template"):
        fill(kind, options, JOB)


def test_a_template_left_over_is_a_fault_and_stops_here() -> None:
    with pytest.raises(BackendError, match="template") as refused:
        settled("fine", {"a": [1, {"b": ("{{ job.actor }}",)}]})
    assert not refused.value.retry
    settled("fine", {"a": [1, None, {"b": ("{ x }",)}]})
