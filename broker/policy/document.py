"""The trust policy file, as it is written. Shapes only; what the words mean is compiled elsewhere.

Every model is strict and forbids unknown keys: a misspelt condition would otherwise be a condition less.
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

    issuer: Annotated[str, Field(min_length=1, max_length=63)]
    job: dict[Path, Condition] = Field(default_factory=dict, max_length=32)
    claims: dict[Path, Condition] = Field(default_factory=dict, max_length=64)
    when: Annotated[str, Field(min_length=1)] | None = None
    allow_triggers: list[Label] = Field(default_factory=list, max_length=32)


class GrantPart(Part):
    """What a trusted job may have: one backend's credential, narrowed by `with`."""

    backend: Annotated[str, Field(min_length=1, max_length=63)]
    ttl: Duration
    options: dict[str, Any] = Field(default_factory=dict, alias="with")
    params: dict[Path, Condition] = Field(default_factory=dict, max_length=32)


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

    name: Label
    issuer: str | None = None
    claims: dict[str, Any] = Field(min_length=1)  # `$like` names claims to begin with; null takes one away
    grant: Name | None = None  # only this one is asked for
    params: dict[str, Any] | None = None  # what the job sends; left out, trust alone is judged
    expect: Annotated[
        Expect,
        BeforeValidator(_expect),
        WithJsonSchema(
            {
                "anyOf": [
                    {"const": "refuse"},
                    {
                        "type": "object",
                        "required": ["allow"],
                        "additionalProperties": False,
                        "properties": {"allow": {"type": "array", "minItems": 1, "items": {"type": "string"}}},
                    },
                ]
            }
        ),
    ]


class PolicyFile(Part):
    """The whole file."""

    policy: Name
    description: Annotated[str, Field(max_length=1000)] = ""
    owners: list[Owner] = Field(min_length=1, max_length=32)
    mode: Literal["enforce", "observe"] = "enforce"
    trust: list[StatementPart] = Field(min_length=1, max_length=64)
    grants: dict[Name, GrantPart] = Field(min_length=1, max_length=64)
    examples: list[ExamplePart] = Field(min_length=1, max_length=200)
