"""Everything that can go wrong on a request, on one screen.

BrokerError
  RequestRefused          the caller can act: problem details (RFC 9457), at /token the body of RFC 6749 section 5.2
    MalformedRequest        422  invalid_request         a body, parameter or TTL that no grant could take
    UnsupportedGrantType    400  unsupported_grant_type  at /token
    UnsupportedTokenType    400  invalid_request         at /token
    NothingToRevoke         400  unsupported_token_type  at /revoke, RFC 7009 section 2.2.1
    SubjectTokenRejected    401  invalid_request         RFC 8693 section 2.2.2
    SessionRejected         401  invalid_request         unknown, ended or expired session
    GrantRefused            403  invalid_target          the token is good and no policy grants this
    TokenReused             409  invalid_request         one subject token, one session
    UnknownLease            404  invalid_request         not this session's lease
    LeaseEnded              409  invalid_request         nothing left to renew
    NotRenewable            422  invalid_request
    TooManyRefusals         429  invalid_request         with Retry-After
    SignInNeeded            401  a person's call without a good token of the organisation's own issuer
    RoleNeeded              403  a person who is nobody here, or not this
    UnknownCase             404  no such case, or not for this person: the same words
    TooManyReads            429  with Retry-After
    TooManyChecks           429  of policies, with Retry-After
    WebhookRejected         401  a notice that the git server did not sign
  BrokerUnavailable       we must act; with Retry-After where trying again can help
    BackendFailed           502  temporarily_unavailable
    IssuerUnreachable       503  temporarily_unavailable  an issuer's keys cannot be had
    LedgerUnwritable        503  temporarily_unavailable  no record, no credential
ConfigError               a file of the operator's or of a policy author's: file, line, column, key, what to do
"""

from collections.abc import Mapping
from typing import Any, ClassVar


class BrokerError(Exception):
    """`detail` is for the caller and says what to do; `reason` is for the ledger and may name policies.

    `case` is the number under which the ledger holds the reason; `extra` is added to the problem document.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    oauth_error: ClassVar[str] = "server_error"
    retry_after: int | None = None
    challenge: str = 'Bearer realm="jobkey", error="invalid_token"'  # WWW-Authenticate, where the status is 401

    def __init__(
        self, detail: str, *, reason: str = "", case: str | None = None, extra: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.reason = reason or detail
        self.case = case
        self.extra = extra or {}


class RequestRefused(BrokerError):
    status, title, oauth_error = 400, "Request refused", "invalid_request"


class MalformedRequest(RequestRefused):
    status, title = 422, "The request is wrong"


class UnsupportedGrantType(RequestRefused):
    title, oauth_error = "Only token exchange is served here", "unsupported_grant_type"


class UnsupportedTokenType(RequestRefused):
    title = "This type of token is not served here"


class NothingToRevoke(RequestRefused):
    title, oauth_error = "This type of token cannot be revoked here", "unsupported_token_type"


class SubjectTokenRejected(RequestRefused):
    status, title = 401, "The subject token is not good"


class SessionRejected(RequestRefused):
    status, title = 401, "The session is not good"


class GrantRefused(RequestRefused):
    status, title, oauth_error = 403, "No policy grants this", "invalid_target"


class TokenReused(RequestRefused):
    status, title = 409, "The subject token was used before"


class UnknownLease(RequestRefused):
    status, title = 404, "No such lease in this session"


class LeaseEnded(RequestRefused):
    status, title = 409, "The lease has ended"


class NotRenewable(RequestRefused):
    status, title = 422, "This credential cannot be renewed"


class TooManyRefusals(RequestRefused):
    status, title = 429, "Too many refused requests"

    def __init__(self, detail: str, *, retry_after: int) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class SignInNeeded(RequestRefused):
    """`challenge` leads to how to sign in (RFC 9728 section 5.1)."""

    status, title = 401, "Sign in"

    def __init__(self, detail: str, *, challenge: str) -> None:
        super().__init__(detail)
        self.challenge = challenge


class RoleNeeded(RequestRefused):
    status, title = 403, "This is not for you"


class UnknownCase(RequestRefused):
    status, title = 404, "No such case"


class TooManyReads(RequestRefused):
    status, title = 429, "Too many cases at once"

    def __init__(self, detail: str, *, retry_after: int) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class TooManyChecks(RequestRefused):
    status, title, retry_after = 429, "Another check is under way", 5


class WebhookRejected(RequestRefused):
    status, title = 401, "The notice is not signed by the git server"
    challenge = 'Bearer realm="jobkey webhook"'


class BrokerUnavailable(BrokerError):
    status, title, oauth_error = 503, "The broker cannot answer now", "temporarily_unavailable"
    retry_after: int | None = 2


class BackendFailed(BrokerUnavailable):
    """`hopeless`: the target system said no, and will say so again; the client must not wait for another answer."""

    status, title = 502, "A backend failed"

    def __init__(self, detail: str, *, reason: str = "", case: str | None = None, hopeless: bool = False) -> None:
        super().__init__(detail, reason=reason, case=case, extra={"retryable": False} if hopeless else None)
        if hopeless:
            self.retry_after = None


class IssuerUnreachable(BrokerUnavailable):
    title = "The issuer's keys cannot be had"


class LedgerUnwritable(BrokerUnavailable):
    title = "The ledger cannot be written"


class ConfigError(Exception):
    """A file that does not say something sensible. Several problems are reported together.

    `str()` is one line a problem, `file:line:column: key: what is wrong and what to do`, ready for a terminal.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
