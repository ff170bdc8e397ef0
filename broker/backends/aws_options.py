"""What a policy and an operator may say of `aws-sts`, checked by shape before AWS is asked.

Limits are those of the STS API reference (AssumeRole, AssumeRoleWithWebIdentity).
"""

import json
import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from broker.backends.identity_token import Audience
from broker.backends.options import ServiceUrl, whole
from broker.backends.seam import Strict, Templated
from broker.references import SecretReference

LONGEST_POLICY: Final = 2048  # characters of a session policy, without insignificant white space
ROLE_ARN: Final = re.compile(
    r"arn:aws(-[a-z]{2,10}){0,2}:iam::[0-9]{12}:role/([\x21-\x7e]{1,511}/)?[A-Za-z0-9_+=,.@-]{1,64}"
)
_POLICY_ARN: Final = re.compile(
    r"arn:aws(-[a-z]{2,10}){0,2}:iam::([0-9]{12}|aws):policy/([A-Za-z0-9_+=,.@/-]{1,512}/)?[A-Za-z0-9_+=,.@-]{1,128}"
)
# One value inside a policy's string: no quote, backslash, * ? $ or colon, and single dots and slashes between words, so it
# closes nothing, matches nothing else, is no policy variable and shifts no field of an ARN.
POLICY_VALUE: Final = r"[A-Za-z0-9_@=+-]+([./][A-Za-z0-9_@=+-]+)*"
_NAME_VALUE: Final = r"[A-Za-z0-9_+=,.@-]{1,64}"
_SESSION_NAME: Final = re.compile(r"[A-Za-z0-9_+=,.@-]{1,64}")
_TAG_KEY: Final = re.compile(r"[A-Za-z0-9 _.:/=+@-]{1,128}")
_TAG_VALUE: Final = re.compile(r"[A-Za-z0-9 _.:/=+@-]{0,256}")
_EXTERNAL_ID: Final = re.compile(r"[A-Za-z0-9_+=,.@:/-]{2,1224}")
_REGION: Final = re.compile(r"[a-z]{2,4}(-[a-z]{2,10}){1,3}-[0-9]{1,2}")
_WORD: Final = re.compile(r"[a-z0-9-]{1,64}")


def _matching(pattern: re.Pattern[str], says: str) -> AfterValidator:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(says)
        return text

    return AfterValidator(check)


def _template_matching(pattern: re.Pattern[str], says: str) -> AfterValidator:
    return AfterValidator(lambda text: whole(pattern, text, says))


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in the session policy")
    return found


PolicyText = Annotated[str, Templated(POLICY_VALUE)]
_Words = str | list[str]
_Texts = PolicyText | list[PolicyText]


class Statement(Strict):
    """One statement of a session policy, in IAM's own grammar; a session policy names no principal."""

    Sid: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{1,64}$")] | None = None
    Effect: Literal["Allow", "Deny"]
    Action: _Words | None = None
    NotAction: _Words | None = None
    Resource: _Texts | None = None
    NotResource: _Texts | None = None
    Condition: dict[str, dict[str, PolicyText | bool | int | list[PolicyText]]] | None = None

    @model_validator(mode="after")
    def _one_of_each(self) -> "Statement":
        if (self.Action is None) == (self.NotAction is None) or (self.Resource is None) == (self.NotResource is None):
            raise ValueError("a statement has one of Action and NotAction, and one of Resource and NotResource")
        return self


class SessionPolicy(Strict):
    """A session policy: what the session may do is what this and the role both allow."""

    Version: Literal["2012-10-17", "2008-10-17"] = "2012-10-17"
    Id: Annotated[str, Field(max_length=128)] | None = None
    Statement: Annotated[list[Statement], Field(min_length=1)] | Statement


def session_policy_text(policy: str | SessionPolicy) -> str:
    """The policy as compact JSON. Raises ValueError where it is no policy document, or longer than 2048 characters."""
    if isinstance(policy, str):
        try:
            json.loads(policy, object_pairs_hook=_no_repeats)  # the last of two keys would win in silence
            policy = SessionPolicy.model_validate_json(policy)
        except RecursionError:
            raise ValueError("the session policy is nested too deep") from None
        except ValueError:  # JSON's and the model's errors repeat the text
            raise ValueError(
                "the text is not the JSON of a session policy: Version and Statement, no key twice"
            ) from None
    text = policy.model_dump_json(exclude_none=True)
    if len(text) > LONGEST_POLICY:
        raise ValueError(f"a session policy has at most {LONGEST_POLICY} characters; use policy_arns")
    return text


def _session_policy(policy: str | SessionPolicy) -> str | SessionPolicy:
    session_policy_text(policy)
    return policy


RoleArn = Annotated[
    str, _matching(ROLE_ARN, "a role's ARN is expected, arn:aws:iam::<12 digits>:role/<name>, without a template")
]
TagKey = Annotated[str, _matching(_TAG_KEY, "a tag's key has letters, digits, spaces and _ . : / = + @ -")]
TagValue = Annotated[
    str,
    Templated(r"[A-Za-z0-9_.:/=+@-]{1,256}"),
    _template_matching(_TAG_VALUE, "a tag's value has at most 256 letters, digits, spaces and _ . : / = + @ -"),
]
SessionName = Annotated[
    str, Templated(_NAME_VALUE), _template_matching(_SESSION_NAME, "2 to 64 letters, digits and _ + = , . @ -")
]


class StaticKeys(Strict):
    """An IAM user's keys, by reference: for servers that offer nothing better."""

    access_key_id: Annotated[SecretReference, Field(description="by reference")]
    secret_access_key: Annotated[SecretReference, Field(description="by reference")]


class WebIdentity(Strict):
    """A role of the broker's own, assumed with an identity token that the broker signs; sessions from it last an hour at most."""

    web_identity: Annotated[RoleArn, Field(description="the role to assume with a token that the broker signs")]
    audience: Annotated[Audience, Field(description="of that token")] = "sts.amazonaws.com"


class AwsSettings(Strict):
    """The account's door."""

    region: Annotated[
        str,
        _matching(_REGION, "a region such as eu-central-1 is expected"),
        Field(description="whose STS is asked", examples=["eu-central-1"]),
    ]
    endpoint_url: Annotated[ServiceUrl | None, Field(description="a compatible server in the place of AWS")] = None
    auth: Annotated[
        Literal["ambient", "none"] | StaticKeys | WebIdentity,
        Field(description="how the broker itself signs in; with none, every grant says via: web-identity"),
    ] = "ambient"
    timeout: Annotated[
        float, Field(gt=0, le=120, strict=False, description="seconds that one mint may take, retries included")
    ] = 10.0
    threads: Annotated[int, Field(ge=1, le=64, description="calls to AWS at the same time")] = 8


class AwsOptions(Strict):
    """What a policy says of the session."""

    role_arn: Annotated[
        RoleArn,
        Field(description="the role that the session has", examples=["arn:aws:iam::111122223333:role/payments-deploy"]),
    ]
    via: Annotated[
        Literal["assume-role", "web-identity"],
        Field(
            description="assumed by the broker's own role, or with an identity token that the broker signs for the job"
        ),
    ] = "assume-role"
    audience: Annotated[Audience, Field(description="of the identity token, with via: web-identity")] = (
        "sts.amazonaws.com"
    )
    session_policy: Annotated[
        Annotated[SessionPolicy, AfterValidator(_session_policy)]
        | Annotated[str, Templated(POLICY_VALUE), AfterValidator(_session_policy)]
        | None,
        Field(description="an IAM policy: the session may do what this and the role both allow"),
    ] = None
    policy_arns: Annotated[
        list[Annotated[str, _matching(_POLICY_ARN, "a policy's ARN is expected")]],
        Field(max_length=10, description="managed policies that narrow the session in the same way"),
    ] = Field(default_factory=list)
    tags: Annotated[dict[TagKey, TagValue], Field(max_length=50, description="session tags, for conditions in IAM")] = (
        Field(default_factory=dict)
    )
    transitive_tags: Annotated[
        list[TagKey], Field(max_length=50, description="tags that stay when the session assumes another role")
    ] = Field(default_factory=list)
    source_identity: Annotated[
        SessionName | None, Field(description="who it is for, in CloudTrail and through every further role")
    ] = None
    session_name: Annotated[SessionName | None, Field(description="the session's name; the lease's id if left out")] = (
        None
    )
    external_id: Annotated[
        Annotated[str, _matching(_EXTERNAL_ID, "an external id has letters, digits and _ + = , . @ : / -")] | None,
        Field(description="what the role's trust policy asks for as sts:ExternalId"),
    ] = None

    @model_validator(mode="after")
    def _together(self) -> "AwsOptions":
        if missing := set(self.transitive_tags) - set(self.tags):
            raise ValueError(f"transitive_tags names tags that are not set: {', '.join(sorted(missing))}")
        if len({key.lower() for key in self.tags}) != len(self.tags):
            raise ValueError("two tags differ in case only; AWS takes them for one")
        if self.via == "web-identity" and self.external_id is not None:
            raise ValueError("external_id goes with via: assume-role only")
        return self
