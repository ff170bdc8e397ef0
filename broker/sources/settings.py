"""`policies:` in broker.yaml where it is a git repository that the broker follows."""

import re
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from broker.durations import Duration
from broker.references import SecretReference

SHORTEST_INTERVAL: Final = timedelta(seconds=5)
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST: Final = re.compile(
    r"[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?"
)  # never begins with -, which ssh takes for an option


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


def _url(text: str) -> str:
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("a URL is expected: https://, ssh:// or file:///")
    parts = urlsplit(text)
    if parts.scheme == "file":
        if parts.netloc or not parts.path.startswith("/"):
            raise ValueError("write file:///absolute/path")
        return text
    if parts.scheme not in {"https", "http", "ssh"} or not parts.hostname or not _HOST.fullmatch(parts.hostname):
        raise ValueError(
            "an address such as https://git.acme.example/platform/policies.git is expected, or ssh:// or file:///"
        )
    if parts.password is not None or (parts.username and parts.scheme != "ssh"):
        raise ValueError("no credentials in the URL; say `credentials:` with a reference")
    if parts.username and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", parts.username):
        raise ValueError("the user in the URL is not one that ssh would take")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ValueError("plain http is for loopback only; anybody on the way could write your policies")
    return text


def _ref(text: str) -> str:
    if not re.fullmatch(r"refs/(heads|tags)/[A-Za-z0-9_][A-Za-z0-9_./+-]*", text) or ".." in text or "//" in text:
        raise ValueError("write the ref in full, such as refs/heads/main")
    return text


def _inside(text: str) -> str:
    if text.startswith("/") or ".." in PurePosixPath(text).parts or not text.isprintable() or ":" in text:
        raise ValueError("a path inside the repository is expected, relative to its root")
    return text


def _interval(length: timedelta) -> timedelta:
    if length < SHORTEST_INTERVAL:
        raise ValueError("an interval is 5s or longer; a webhook makes changes arrive at once")
    return length


class Credentials(_Part):
    """For https: HTTP basic authentication (RFC 7617), which is how git servers take tokens."""

    username: Annotated[str, Field(pattern=r"^[!-9;-~]{1,255}$")] = "x-access-token"  # no colon, RFC 7617 section 2
    token: SecretReference


class Ssh(_Part):
    """For ssh: the broker's own deploy key, and the server's, which is never learned on the way."""

    key: str  # a file; relative to broker.yaml
    known_hosts: str


class Webhook(_Part):
    """The secret shared with the git server: GitHub's (X-Hub-Signature-256) or GitLab's (X-Gitlab-Token)."""

    secret: SecretReference


class Signed(_Part):
    """Whose signature the newest commit must carry: one of these files, relative to broker.yaml."""

    allowed_signers: str | None = None  # ssh-keygen(1), ALLOWED SIGNERS
    gpg_keyring: str | None = None  # public keys as `gpg --export` writes them

    @model_validator(mode="after")
    def _one(self) -> "Signed":
        if (self.allowed_signers is None) == (self.gpg_keyring is None):
            raise ValueError("say `allowed_signers:` or `gpg_keyring:`, one of them")
        return self


class GitPolicies(_Part):
    """A git repository, a ref and the folder in it."""

    git: Annotated[str, AfterValidator(_url)]
    ref: Annotated[str, AfterValidator(_ref)] = "refs/heads/main"
    path: Annotated[str, Field(min_length=1), AfterValidator(_inside)] = "policies"
    guardrails: Annotated[str, Field(min_length=1), AfterValidator(_inside)] | None = None  # in the repository, too
    interval: Annotated[Duration, AfterValidator(_interval)] = timedelta(minutes=1)
    rewrites: Literal["refuse", "take"] = "refuse"  # a commit that does not follow the one in force
    credentials: Credentials | None = None
    ssh: Ssh | None = None
    ca: str | None = None  # certificates that the server's must lead to, a PEM file; the system's otherwise
    webhook: Webhook | None = None
    signed: Signed | None = None

    @model_validator(mode="after")
    def _fits(self) -> "GitPolicies":
        scheme = self.git.partition(":")[0]
        if scheme == "ssh" and self.ssh is None:
            raise ValueError("an ssh:// repository needs `ssh: {key: FILE, known_hosts: FILE}`")
        if scheme != "ssh" and self.ssh is not None:
            raise ValueError("`ssh:` belongs to an ssh:// repository")
        if scheme not in {"https", "http"} and (self.credentials is not None or self.ca is not None):
            raise ValueError("`credentials:` and `ca:` belong to an https:// repository")
        return self

    @property
    def described(self) -> str:
        """For the ledger and for people; a URL here holds no credentials."""
        return f"{self.git} {self.ref} {self.path}"
