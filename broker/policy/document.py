"""The trust policy file, as it is written. Shapes only; what the words mean is compiled elsewhere.

Every model is strict and forbids unknown keys: a misspelt condition would otherwise be a condition less. Descriptions
and examples are what an editor shows on hover and offers while typing (broker.schemas).
"""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from broker.durations import Duration

NAME: Final = r"^[a-z0-9](-?[a-z0-9]){0,62}$"
Name = Annotated[str, Field(pattern=NAME, max_length=63)]
Owner = Annotated[str, Field(pattern=r"^[!-~]{1,254}$")]
Label = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Path = Annotated[str, Field(min_length=1, max_length=200)]
_SCALAR: Final = {"type": ["string", "number", "boolean"]}
Condition = Annotated[
    Any,
    WithJsonSchema(
        {
            "title": "Condition",
            "description": "a value (equals), a list (any of), or one of glob, regex, not, absent, contains",
            "anyOf": [
                _SCALAR,
                {"type": "array", "minItems": 1, "items": {"anyOf": [_SCALAR, {"type": "object"}]}},
                {
                    "type": "object",
                    "minProperties": 1,
                    "maxProperties": 1,
                    "additionalProperties": False,
                    "properties": {
                        "glob": {"type": "string", "description": "* and ? stay inside one / segment, ** crosses"},
                        "regex": {"type": "string", "description": "RE2, the whole value"},
                        "not": {},
                        "absent": {"const": True},
                        "contains": {"description": "some item of a list"},
                    },
                },
            ],
        }
    ),
]


class Part(BaseModel):
    """The base of everything in the file."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class StatementPart(Part):
    """Whom the policy trusts: a job of this issuer for which every condition holds."""

    issuer: Annotated[str, Field(min_length=1, max_length=63)] = Field(
        description="the issuer whose tokens count, by its name in broker.yaml", examples=["github", "gitlab"]
    )
    job: dict[Path, Condition] = Field(
        default_factory=dict,
        max_length=32,
        description="conditions in the words that are the same for every CI; every one has to hold",
        examples=[{"project_id": "512345678", "ref": "refs/heads/main", "ref_protected": True}],
    )
    claims: dict[Path, Condition] = Field(
        default_factory=dict,
        max_length=64,
        description="conditions on raw claims, by their exact name or a JSON pointer such as /kubernetes.io/namespace",
        examples=[{"job_workflow_ref": {"glob": "acme/ci/.github/workflows/deploy.yml@refs/tags/v*"}}],
    )
    when: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="a CEL expression over `job` and `claims`; anything but true, an error included, is a refusal",
        examples=["int(claims.run_attempt) < 4"],
    )
    allow_triggers: list[Label] = Field(
        default_factory=list,
        max_length=32,
        description="triggers that can run other people's code and are trusted all the same; without this they are refused",
        examples=[["pull_request"]],
    )


class GrantPart(Part):
    """What a trusted job may have: one backend's credential, narrowed by `with`."""

    backend: Annotated[str, Field(min_length=1, max_length=63)] = Field(
        description="where the credential comes from, by its name in broker.yaml", examples=["aws-prod", "ssh"]
    )
    ttl: Duration = Field(description="the longest a job may have it for; a job may ask for less", examples=["15m"])
    options: dict[str, Any] = Field(
        default_factory=dict,
        alias="with",
        description="what narrows the credential; which keys there are depends on the backend's kind",
        examples=[{"principals": ["deploy"]}],
    )
    params: dict[Path, Condition] = Field(
        default_factory=dict,
        max_length=32,
        description="conditions on what the job itself may send; a parameter without one is limited by the backend only",
    )


class Expect(Part):
    """The grants that an example gets; none is a refusal."""

    allow: list[Name] = Field(max_length=64)


def _expect(value: Any) -> Any:
    if value == "refuse":
        return {"allow": []}
    if not isinstance(value, dict) or value.get("allow") in ([], None):
        raise ValueError("write `refuse`, or `{allow: [grant, ...]}`")
    return value


class ExamplePart(Part):
    """A job, made up or real, and what has to become of it."""

    name: Label = Field(description="what this job is, in a few words", examples=["a push to main deploys"])
    issuer: str | None = Field(default=None, description="whose token it is, where the policy trusts several issuers")
    claims: dict[str, Any] = Field(
        min_length=1,
        description="the token's claims; `$like` names some to begin with, what stands beside it replaces them, null takes one away",
        examples=[{"$like": "github-branch", "repository_id": "512345678"}],
    )
    grant: Name | None = Field(default=None, description="only this grant is asked for; left out, every one in turn")
    params: dict[str, Any] | None = Field(
        default=None, description="what the job sends; left out, trust alone is judged"
    )
    expect: Annotated[
        Expect,
        Field(description="`refuse`, or the grants that it gets", examples=["refuse", {"allow": ["deploy"]}]),
        BeforeValidator(_expect),
        WithJsonSchema(
            {
                "anyOf": [
                    {"const": "refuse"},
                    {
                        "type": "object",
                        "required": ["allow"],
                        "additionalProperties": False,
                        "properties": {
                            "allow": {
                                "type": "array",
                                "minItems": 1,
                                "items": {"type": "string"},
                                "description": "the grants that it gets, by their short names",
                            }
                        },
                    },
                ]
            }
        ),
    ]


class NextPart(Part):
    """The policy's next version: judged beside the one that decides, recorded where they differ, never minted from."""

    trust: list[StatementPart] = Field(
        min_length=1, max_length=64, description="whom the next version trusts, in the place of today's statements"
    )
    grants: dict[Name, GrantPart] | None = Field(
        default=None, min_length=1, max_length=64, description="what it grants; today's grants if left out"
    )
    examples: list[ExamplePart] = Field(
        min_length=1, max_length=200, description="what the next version has to do; one at least has to be refused"
    )


class PolicyFile(Part):
    """The whole file."""

    policy: Name = Field(
        description="its name, the first half of every grant's: payments/deploy", examples=["payments"]
    )
    description: Annotated[str, Field(max_length=1000)] = Field(
        default="", description="what it is for, in a sentence an auditor understands"
    )
    owners: list[Owner] = Field(
        min_length=1,
        max_length=32,
        description="who answers for it, and sees why a job was refused by it",
        examples=[["team-payments@acme.example"]],
    )
    mode: Literal["enforce", "observe"] = Field(
        default="enforce", description="enforce: it decides; observe: judged and recorded, nothing is minted"
    )
    trust: list[StatementPart] = Field(
        min_length=1, max_length=64, description="whom it trusts: a job for which any one of these statements holds"
    )
    grants: dict[Name, GrantPart] = Field(
        min_length=1, max_length=64, description="what a trusted job may have, by the second half of the grant's name"
    )
    examples: list[ExamplePart] = Field(
        min_length=1,
        max_length=200,
        description="jobs and what has to become of them, run at every load; one at least has to be refused",
    )
    next: NextPart | None = Field(
        default=None,
        description="a version on trial: judged beside this one, so that `policy rollout` can say when to switch",
    )
