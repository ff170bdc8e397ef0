"""`guardrails.yaml` as it is written. Shapes only; broker.policy.guardrails makes limits of it."""

from typing import Annotated, Literal

from pydantic import Field

from broker.durations import Duration
from broker.policy.document import GrantPart, Label, Name, Owner, Part, StatementPart

Glob = Annotated[str, Field(min_length=1)]


class FolderPart(Part):
    """What the policies below one folder may use; a key left out limits nothing."""

    issuers: list[str] | None = Field(
        default=None, description="names of issuers in broker.yaml", examples=[["github"]]
    )
    backends: list[str] | None = Field(default=None, description="names of backends in broker.yaml", examples=[["ssh"]])
    owners: list[Glob] | None = Field(
        default=None,
        min_length=1,
        description="who may own a policy here: globs",
        examples=[["team-payments@acme.example"]],
    )
    longest_ttl: dict[str, Duration] = Field(
        default_factory=dict,
        description="the longest life of a credential here, by backend kind",
        examples=[{"aws-sts": "15m"}],
    )


Object = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*:[!-~]+$", max_length=512)]


class ProtectsPart(Part):
    """What the platform's own safety rests on, as objects that a credential may reach: `<system>:<name>`, a glob.

    The systems are those that backends speak of (`ssh:<principal>`, `vault:<path>`, `vault-policy:<name>`, `aws:<arn>`,
    `identity:<audience>`), and the names of issuer kinds for projects (`github:<owner>/<repository>`).
    """

    policies: list[Object] = Field(
        default_factory=list,
        description="where the trust policies and guardrails are changed",
        examples=[["github:acme/policies"]],
    )
    broker: list[Object] = Field(
        default_factory=list,
        description="where the broker runs, and what holds its keys and its own identity",
        examples=[["ssh:broker-admin", "aws:arn:aws:iam::111122223333:role/jobkey*"]],
    )
    workflows: list[Object] = Field(
        default_factory=list,
        description="where shared workflows and pipeline templates are changed; those that policies trust are known already",
        examples=[["github:acme/ci"]],
    )
    identities: list[Object] = Field(
        default_factory=list,
        description="what hands out other identities: a directory, an identity provider, another broker",
        examples=[["vault:sys/**", "identity:https://sso.acme.example/**"]],
    )


class ExamplePolicyPart(Part):
    """What matters of a policy to the limits."""

    owners: list[Owner] = Field(min_length=1, max_length=32, description="as in a policy")
    trust: list[StatementPart] = Field(min_length=1, max_length=64, description="as in a policy")
    grants: dict[Name, GrantPart] = Field(min_length=1, max_length=64, description="as in a policy")


class GuardrailExamplePart(Part):
    """A policy that a team might write, and what these limits make of it."""

    name: Label = Field(description="what it tries, in a few words", examples=["a name alone is not enough"])
    folder: str = Field(default=".", description="the folder of policies that it stands in", examples=["payments"])
    policy: ExamplePolicyPart = Field(description="its owners, trust and grants")
    expect: Literal["load", "refuse"] = Field(description="load: within the limits; refuse: sound, but for the limits")


class GuardrailsFile(Part):
    """`guardrails.yaml` as it is written."""

    longest_ttl: dict[str, Duration] = Field(
        default_factory=dict,
        description="the longest life of a credential, by backend kind (not by backend name)",
        examples=[{"aws-sts": "1h", "ssh-ca": "30m"}],
    )
    advised_ttl: dict[str, Duration] = Field(
        default_factory=dict,
        description="the life of a credential that is usually enough, by backend kind: a longer one loads, and the linter says so",
        examples=[{"aws-sts": "15m", "ssh-ca": "5m"}],
    )
    require_immutable_id: bool = Field(
        default=True, description="whether every statement writes out an id that nobody can register again"
    )
    no_wildcards: list[str] = Field(
        default_factory=list,
        description="fields to be written out, without glob, regex or not: words of a job, or claims.NAME",
        examples=[["project", "owner", "claims.repository"]],
    )
    triggers_never_allowed: list[str] = Field(
        default_factory=list,
        description="triggers that no `allow_triggers` may name",
        examples=[["pull_request_target", "workflow_run"]],
    )
    owners: list[Glob] | None = Field(
        default=None, min_length=1, description="who may own a policy: globs", examples=[["*@acme.example"]]
    )
    protects: ProtectsPart = Field(
        default_factory=ProtectsPart,
        description="what controls the broker and its policies; the linter shows every grant that reaches it",
    )
    folders: dict[str, FolderPart] = Field(
        default_factory=dict,
        description="what the policies below a folder may use; every entry whose folder holds a policy applies, `.` is all",
        examples=[{"payments": {"issuers": ["github"], "backends": ["aws-prod"]}}],
    )
    examples: list[GuardrailExamplePart] = Field(
        default_factory=list,
        max_length=200,
        description="policies and whether these limits let them through, tried at every load",
    )
