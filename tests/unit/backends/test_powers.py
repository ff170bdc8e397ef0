"""What each backend says that a credential can be used for: options as they are written, templates and all."""

from typing import Any

import pytest

from broker.backends import BACKENDS
from broker.backends.aws_options import AwsSettings
from broker.backends.identity_token import TokenSettings
from broker.backends.seam import Power
from broker.backends.ssh_ca import SshSettings
from broker.backends.vault_options import VaultSettings

URL = "https://broker.acme.example"
ROLE = "arn:aws:iam::111122223333:role/payments"
SETTINGS = {
    "identity-token": TokenSettings(),
    "ssh-ca": SshSettings(),
    "vault": VaultSettings.model_validate({"url": "https://vault.acme.example", "auth": {"token": "env:VAULT_TOKEN"}}),
    "aws-sts": AwsSettings.model_validate({
        "region": "eu-central-1", "auth": {"web_identity": "arn:aws:iam::111122223333:role/jobkey"},
    }),
}  # fmt: skip


def powers(kind: str, options: dict[str, Any]) -> list[Power]:
    return list(BACKENDS[kind].writes(options, SETTINGS[kind], URL))


def objects(kind: str, options: dict[str, Any]) -> list[str]:
    return [power.object for power in powers(kind, options)]


def allow(action: Any, resource: Any = "*", **more: Any) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": action, "Resource": resource, **more}
    return {"role_arn": ROLE, "session_policy": {"Statement": [statement]}}


def test_every_kind_says_something_of_its_options() -> None:
    assert set(SETTINGS) == set(BACKENDS)


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("identity-token", {"audience": "https://a.example"}, ["identity:https://a.example"]),
        (
            "identity-token",
            {"audience": ["https://a.example"], "subject": "app-{{ job.project }}"},
            ["identity:https://a.example", "subject:https://a.example app-**"],
        ),
        ("ssh-ca", {"principals": ["deploy", "db-{{ job.environment }}"]}, ["ssh:deploy", "ssh:db-*"]),
        (
            "vault",
            {"path": "database/creds/{{ job.owner }}", "policies": ["ro"]},
            ["vault:database/creds/*", "vault-policy:ro"],
        ),
        ("aws-sts", {"role_arn": ROLE}, [f"aws:{ROLE}"]),
        ("aws-sts", allow("s3:PutObject", "arn:aws:s3:::b/*"), [f"aws:{ROLE}", "aws:arn:aws:s3:::b/**"]),
        ("aws-sts", allow(["s3:GetObject", "ec2:DescribeImages", "s3:ListBucket"]), [f"aws:{ROLE}"]),
        (
            "aws-sts",
            {
                "role_arn": ROLE,
                "session_policy": '{"Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::b"}}',
            },
            [f"aws:{ROLE}", "aws:arn:aws:s3:::b"],
        ),
        (
            "aws-sts",
            {
                "role_arn": ROLE,
                "session_policy": {"Statement": {"Effect": "Deny", "Action": "iam:*", "Resource": "*"}},
            },
            [f"aws:{ROLE}"],
        ),
    ],
)
def test_objects(kind: str, options: dict[str, Any], expected: list[str]) -> None:
    assert objects(kind, options) == expected


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("identity-token", {"audience": URL}),
        ("identity-token", {"audience": ["https://a.example", URL + "/token"]}),
        ("identity-token", {"audience": URL + "#S256.x"}),
        ("vault", {"path": "team/sys/policies/acl/x", "policies": ["a"], "method": "write"}),
        ("vault", {"path": "team/auth/token/create", "policies": ["a"]}),
        ("aws-sts", {"role_arn": "arn:aws:iam::111122223333:role/jobkey"}),
        ("aws-sts", {"role_arn": ROLE, "policy_arns": ["arn:aws:iam::aws:policy/AdministratorAccess"]}),
        ("aws-sts", allow("iam:*")),
        ("aws-sts", allow("*")),
        ("aws-sts", allow(["s3:GetObject", "iam:PutRolePolicy"])),
        ("aws-sts", allow("iam:Put*")),
        ("aws-sts", {"role_arn": ROLE, "session_policy": {"Statement": [{"Effect": "Allow", "NotAction": "s3:*", "Resource": "*"}]}}),
    ],
)  # fmt: skip
def test_a_way_to_the_broker_is_known_without_a_declaration(kind: str, options: dict[str, Any]) -> None:
    assert any(power.controls for power in powers(kind, options))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("identity-token", {"audience": URL + ".evil.example"}),
        ("vault", {"path": "kv/data/sys-tools", "policies": ["a"]}),
        ("vault", {"path": "authors/creds/x", "policies": ["auth"]}),
        ("aws-sts", {"role_arn": ROLE, "policy_arns": ["arn:aws:iam::aws:policy/ReadOnlyAccess"]}),
        ("aws-sts", allow("iam:GetRole")),
        ("aws-sts", allow("iam:*", "arn:aws:iam::111122223333:role/payments-*")),
        ("aws-sts", allow("s3:*")),
        ("aws-sts", {"role_arn": ROLE}),
    ],
)
def test_what_is_no_way_to_the_broker_is_not_called_one(kind: str, options: dict[str, Any]) -> None:
    assert not any(power.controls for power in powers(kind, options))
