"""`aws-sts`: a session of an AWS role, narrowed by a session policy, tags and a source identity.

* The role is a literal of the policy. What a job's claims may fill is checked whole, so that no value can close a string,
  add a wildcard or name another segment of an ARN.
* The session's name is the lease's id unless the policy says otherwise, so CloudTrail leads to the ledger.
* STS cannot end one session: the lease says so. Its shortest life is 15 minutes.
* The broker's own way in: the ambient role, a role assumed with an identity token of its own, or keys by reference.
"""

import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final

from broker.backends.aws_options import AwsOptions, AwsSettings, WebIdentity, session_policy_text
from broker.backends.aws_powers import powers
from broker.backends.identity_token import default_subject
from broker.backends.options import listed, settled
from broker.backends.seam import (
    Backend,
    BackendError,
    Gone,
    Handle,
    Minted,
    Order,
    Power,
    Record,
    StillWorks,
    Surroundings,
)
from broker.backends.workers import Workers

if TYPE_CHECKING:
    from broker.backends.aws_api import StsApi

CHAINED: Final = timedelta(hours=1)  # AWS's limit where one role's session assumes another role
SHORTEST_NAME: Final = 2  # RoleSessionName, SourceIdentity
WEB_TOKEN: Final = timedelta(minutes=5)  # the identity token is used at once
# https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html: how a web identity carries tags
_TAGS_CLAIM: Final = "https://aws.amazon.com/tags"
_SOURCE_CLAIM: Final = "https://aws.amazon.com/source_identity"


class AwsSts(Backend):
    """Role sessions of AWS STS, or of a server that speaks its API."""

    kind = "aws-sts"
    trace = True
    Settings = AwsSettings
    Options = AwsOptions
    shortest = timedelta(minutes=15)  # AssumeRole's DurationSeconds
    longest = timedelta(hours=12)
    revocation: ClassVar[str] = (
        "AWS cannot end one session: it works until it expires, unless its role denies older sessions."
    )

    @classmethod
    def describe(cls, options: Mapping[str, Any]) -> str:
        """The role, and what narrows the session."""
        said = f"a session of the AWS role {options['role_arn']}"
        narrowed = []
        if options.get("session_policy"):
            narrowed.append("a session policy")
        if arns := options.get("policy_arns"):
            narrowed.append(listed(arns, "policy", "policies"))
        if narrowed:
            said += f" narrowed by {' and '.join(narrowed)}"
        if tags := options.get("tags"):
            said += f" with {listed([f'{key}={value}' for key, value in tags.items()], 'tag', 'tags')}"
        if source := options.get("source_identity"):
            said += f" as the source identity {source}"
        return said

    def __init__(self, name: str, settings: AwsSettings, around: Surroundings) -> None:
        self._name, self._settings, self._around = name, settings, around
        self._workers = Workers(name, threads=settings.threads)
        self._api: StsApi | None = None
        self._connecting = threading.Lock()

    @classmethod
    def writes(cls, options: Mapping[str, Any], settings: AwsSettings, url: str) -> Iterator[Power]:  # noqa: ARG003  the seam's signature
        """The role, and what a session policy names of IAM and of other resources."""
        own = settings.auth.web_identity if isinstance(settings.auth, WebIdentity) else None
        return powers(options, own)

    async def close(self) -> None:
        self._workers.close()

    def plan(self, order: Order) -> Handle:
        """Names the session. Raises BackendError where the options, filled in, are not what AWS takes."""
        options: AwsOptions = order.options
        settled(options.model_dump())
        if not self.shortest <= order.ttl <= self._longest(options):
            raise BackendError(
                f"a session of this role lasts {self.shortest} to {self._longest(options)}; change the grant's ttl",
                retry=False,
            )
        if self._settings.auth == "none" and options.via == "assume-role":
            raise BackendError(
                f"{self._name} has no way in of its own (auth: none); say via: web-identity", retry=False
            )
        name = _session_name(order)
        if len(name) < SHORTEST_NAME or len(options.source_identity or name) < SHORTEST_NAME:
            raise BackendError("a session name or source identity has at least 2 characters", retry=False)
        return {"role_arn": options.role_arn, "session_name": name}

    async def mint(self, order: Order, record: Record) -> Minted:  # noqa: ARG002  the seam's signature
        planned = self.plan(order)
        timeout = self._settings.timeout
        answer = await self._workers.run(self._assume, order, planned["session_name"], deadline=timeout + 1)
        keys = answer["Credentials"]
        values = {
            "access_key_id": keys["AccessKeyId"],
            "secret_access_key": keys["SecretAccessKey"],
            "session_token": keys["SessionToken"],
        }
        expires = keys["Expiration"].astimezone(UTC)
        assumed = answer.get("AssumedRoleUser") or {}
        facts = {**planned, "assumed_role_id": assumed.get("AssumedRoleId", "")}
        if order.options.source_identity:
            facts["source_identity"] = order.options.source_identity
        return Minted(
            type="aws",
            values=values,
            secrets=("secret_access_key", "session_token"),
            env={
                "AWS_ACCESS_KEY_ID": values["access_key_id"],
                "AWS_SECRET_ACCESS_KEY": values["secret_access_key"],
                "AWS_SESSION_TOKEN": values["session_token"],
                "AWS_REGION": self._settings.region,
                "AWS_CREDENTIAL_EXPIRATION": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
            },
            expires_at=expires,
            fingerprinted=values["secret_access_key"],
            handle={**planned, "expires_at": expires.isoformat()},
            facts={name: fact for name, fact in facts.items() if fact},
        )

    async def revoke(self, handle: Handle) -> Gone | StillWorks:
        """Honest both after a mint and after a crash in it, when nobody can say whether the session was made."""
        if ends := handle.get("expires_at"):
            return StillWorks(f"{self.revocation} It expires at {ends}.")
        return StillWorks(f"{self.revocation} The broker stopped while it was made, so its keys were given to nobody.")

    async def ping(self) -> None:
        """GetCallerIdentity needs no permission; with auth: none a refusal is answer enough."""
        await self._workers.run(lambda: self._connected().ping(), deadline=self._settings.timeout + 1)

    def _longest(self, options: AwsOptions) -> timedelta:
        chained = options.via == "assume-role" and isinstance(self._settings.auth, WebIdentity)
        return CHAINED if chained else self.longest

    # What follows runs in worker threads.

    def _connected(self) -> "StsApi":
        from broker.backends.aws_api import StsApi  # noqa: PLC0415  boto3 costs memory that other backends need not pay

        with self._connecting:
            if self._api is None:
                self._api = StsApi(self._name, self._settings, self._own_token)
            return self._api

    def _own_token(self, audience: str) -> str:
        return self._around.web_identity(f"broker:backend:{self._name}", audience, WEB_TOKEN, {})

    def _assume(self, order: Order, session_name: str) -> Mapping[str, Any]:
        options: AwsOptions = order.options
        asked: dict[str, Any] = {
            "RoleArn": options.role_arn,
            "RoleSessionName": session_name,
            "DurationSeconds": int(order.ttl.total_seconds()),
        }
        if options.session_policy is not None:
            asked["Policy"] = session_policy_text(options.session_policy)
        if options.policy_arns:
            asked["PolicyArns"] = [{"arn": arn} for arn in options.policy_arns]
        if options.via == "web-identity":
            asked["WebIdentityToken"] = self._job_token(order)
            return self._connected().assume_role_with_web_identity(asked)
        if options.tags:
            asked["Tags"] = [{"Key": key, "Value": value} for key, value in options.tags.items()]
        if options.transitive_tags:
            asked["TransitiveTagKeys"] = list(options.transitive_tags)
        if options.source_identity is not None:
            asked["SourceIdentity"] = options.source_identity
        if options.external_id is not None:
            asked["ExternalId"] = options.external_id
        return self._connected().assume_role(asked)

    def _job_token(self, order: Order) -> str:
        """The broker vouches for the job: same subject as an identity token's, so one trust policy reads both."""
        options: AwsOptions = order.options
        claims: dict[str, Any] = {"jobkey": {"issuance": order.issuance, "grant": order.grant, "lease": order.lease}}
        if options.tags:
            claims[_TAGS_CLAIM] = {
                "principal_tags": {key: [value] for key, value in options.tags.items()},
                "transitive_tag_keys": list(options.transitive_tags),
            }
        if options.source_identity is not None:
            claims[_SOURCE_CLAIM] = options.source_identity
        return self._around.web_identity(default_subject(order.grant, order.job), options.audience, WEB_TOKEN, claims)


def _session_name(order: Order) -> str:
    name: str | None = order.options.session_name
    return name if name is not None else order.lease
