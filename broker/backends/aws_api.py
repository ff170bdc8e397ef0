"""AWS STS, asked through boto3. Blocking: runs in worker threads.

* Errors carry AWS's code and never its message: a signature mismatch's message repeats the session token.
* Throttling and broken connections are tried again by botocore's standard mode, within the backend's time-out.
* Endpoint, keys and retries are ours; of the environment only the ambient chain reads, and only when it is asked for.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import boto3
import botocore
from botocore.config import Config
from botocore.credentials import AssumeRoleWithWebIdentityCredentialFetcher, DeferredRefreshableCredentials
from botocore.exceptions import (
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)
from botocore.session import get_session

from broker.backends.aws_options import AwsSettings, StaticKeys, WebIdentity
from broker.backends.seam import BackendError
from broker.references import BrokenReference

TRIES: Final = 4
for _chatty in ("botocore", "boto3"):
    logging.getLogger(_chatty).setLevel(logging.INFO)  # at DEBUG they write answers, with the keys in them
_PASSING: Final = frozenset({
    "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException", "SlowDown", "IDPCommunicationError",
    "ServiceUnavailable", "InternalFailure", "InternalError", "RequestTimeout", "RequestExpired",
})  # fmt: skip
_HINTS: Final = {
    "AccessDenied": "the role's trust policy or the broker's own permissions do not allow it",
    "PackedPolicyTooLarge": "shorten the session policy or the tags",
    "MalformedPolicyDocument": "the session policy is not one that AWS takes",
    "ValidationError": "an option or the duration is more than the role allows",
    "RegionDisabledException": "STS is off in this region",
    "InvalidIdentityToken": "AWS does not trust the broker's issuer; compare its identity provider with the broker's url",
    "ExpiredTokenException": "compare the broker's clock",
    "IDPRejectedClaim": "the identity provider's audience is another",
    "InvalidClientTokenId": "the broker's own access key is not good",
    "SignatureDoesNotMatch": "the broker's own secret key is not good",
}


class StsApi:
    """Clients of one account's STS. Keys by reference are read anew for each call, so a rotated file needs no restart."""

    def __init__(self, name: str, settings: AwsSettings, own_token: Callable[[str], str]) -> None:
        """`own_token(audience)` signs an identity token of the broker's own."""
        self._name, self._settings = name, settings
        self._config = Config(
            connect_timeout=settings.timeout / 2,
            read_timeout=settings.timeout,
            retries={"mode": "standard", "total_max_attempts": TRIES},
            max_pool_connections=settings.threads,
            ignore_configured_endpoint_urls=True,  # type: ignore[call-arg]  # the stubs are behind
        )
        session = get_session()
        if isinstance(settings.auth, WebIdentity):
            self._use_web_identity(session, settings.auth, own_token)
        self._session = boto3.Session(botocore_session=session)
        self._unsigned = self._client(signature_version=botocore.UNSIGNED)
        # Signing with static keys needs a client for each value of the references
        self._signed = None if isinstance(settings.auth, StaticKeys) else self._client()
        self._keyed: tuple[tuple[str, str], Any] | None = None
        self._keying = threading.Lock()  # a session makes one client at a time

    def assume_role(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        return _session(self._ask("assuming the role", lambda: self._own_client().assume_role(**asked)))

    def assume_role_with_web_identity(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        return _session(self._ask("assuming the role", lambda: self._unsigned.assume_role_with_web_identity(**asked)))

    def ping(self) -> None:
        if self._settings.auth == "none":
            self._ask("reaching STS", self._knock)
            return
        self._ask("asking who the broker is", lambda: self._own_client().get_caller_identity())

    def _knock(self) -> Mapping[str, Any]:
        """Without a signature STS can only refuse, which shows that it is there."""
        try:
            answer: Mapping[str, Any] = self._unsigned.get_caller_identity()
        except ClientError as error:
            if not 400 <= _status(error) < 500:  # noqa: PLR2004
                raise
            return {}
        return answer

    def _client(self, *, signature_version: Any = None, **keys: str) -> Any:
        config = self._config
        if signature_version is not None:
            config = config.merge(Config(signature_version=signature_version))
        return self._session.client(
            "sts", region_name=self._settings.region, endpoint_url=self._settings.endpoint_url, config=config, **keys
        )  # type: ignore[call-overload]

    def _own_client(self) -> Any:
        if self._signed is not None:
            return self._signed
        auth = self._settings.auth
        assert isinstance(auth, StaticKeys)
        keys = (auth.access_key_id.resolve().reveal(), auth.secret_access_key.resolve().reveal())
        with self._keying:
            if self._keyed is None or self._keyed[0] != keys:
                self._keyed = (keys, self._client(aws_access_key_id=keys[0], aws_secret_access_key=keys[1]))
            return self._keyed[1]

    def _use_web_identity(self, session: Any, auth: WebIdentity, own_token: Callable[[str], str]) -> None:
        fetcher = AssumeRoleWithWebIdentityCredentialFetcher(
            client_creator=lambda _service, **_: self._unsigned,
            web_identity_token_loader=lambda: own_token(auth.audience),
            role_arn=auth.web_identity,
            extra_args={"RoleSessionName": "jobkey-broker"},
        )
        session._credentials = DeferredRefreshableCredentials(  # noqa: SLF001  botocore offers no other door for them
            refresh_using=fetcher.fetch_credentials, method="assume-role-with-web-identity"
        )

    def _ask(self, step: str, call: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        try:
            answer = call()
        except ClientError as error:
            raise self._refused(step, error) from None  # the error holds the request, and the request may hold a token
        except (ParamValidationError, NoCredentialsError, PartialCredentialsError) as error:
            raise BackendError(f"{self._name}: {step}: {type(error).__name__}", retry=False) from None
        except BrokenReference as error:
            raise BackendError(f"{self._name}: {error}") from None
        except Exception as error:  # noqa: BLE001  a parser's error repeats the answer, and the answer holds the keys
            raise BackendError(f"{self._name}: {step}: no good answer ({type(error).__name__})") from None
        return answer

    def _refused(self, step: str, error: ClientError) -> BackendError:
        response: Mapping[str, Any] = error.response  # a server that is not AWS may leave parts of it out
        code = str(response.get("Error", {}).get("Code") or "Unknown")
        status = _status(error)
        code = code if code.isascii() and code.isalnum() and len(code) <= 64 else "Unknown"  # noqa: PLR2004
        hint = f"; {_HINTS[code]}" if code in _HINTS else ""
        passing = code in _PASSING or status == 429 or status >= 500  # noqa: PLR2004
        return BackendError(f"{self._name}: {step}: AWS answered {code} ({status}){hint}", retry=passing)


def _status(error: ClientError) -> int:
    response: Mapping[str, Any] = error.response
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)


def _session(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The answer, where it is whole: a session whose end is not known is not given to anybody."""
    keys = answer.get("Credentials") or {}
    if not all(keys.get(name) for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")):
        raise BackendError("AWS's answer holds no session")
    if not isinstance(keys.get("Expiration"), datetime):
        raise BackendError("AWS's answer does not say when the session ends")
    return answer
