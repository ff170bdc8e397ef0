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

    username: str = Field(
        default="x-access-token",
        pattern=r"^[!-9;-~]{1,255}$",  # no colon, RFC 7617 section 2
        description="what the server wants beside the token; GitHub takes the default, GitLab any name",
    )
    token: SecretReference = Field(description="a read-only token: env:NAME or file:PATH, read at each fetch")


class Ssh(_Part):
    """For ssh: the broker's own deploy key, and the server's, which is never learned on the way."""

    key: str = Field(description="the file of the private key, mode 0600; relative to broker.yaml")
    known_hosts: str = Field(
        description="the file of the server's public keys, as ssh-keyscan writes it, checked by you"
    )


class Webhook(_Part):
    """The secret shared with the git server: GitHub's (X-Hub-Signature-256) or GitLab's (X-Gitlab-Token)."""

    secret: SecretReference = Field(description="env:NAME or file:PATH; the same text as at the git server")


class Signed(_Part):
    """Whose signature the newest commit must carry: one of these files, relative to broker.yaml."""

    allowed_signers: str | None = Field(
        default=None, description="SSH keys: the ALLOWED SIGNERS format of ssh-keygen(1)", examples=["./signers"]
    )
    gpg_keyring: str | None = Field(
        default=None,
        description="OpenPGP keys: what `gpg --export` writes, without --armor",
        examples=["./signers.gpg"],
    )

    @model_validator(mode="after")
    def _one(self) -> "Signed":
        if (self.allowed_signers is None) == (self.gpg_keyring is None):
            raise ValueError("say `allowed_signers:` or `gpg_keyring:`, one of them")
        return self


class GitPolicies(_Part):
    """A git repository, a ref and the folder in it, which the broker follows by itself."""

    git: Annotated[str, AfterValidator(_url)] = Field(
        description="the repository: https://, ssh:// or file:///, without credentials",
        examples=["https://git.acme.example/platform/policies.git"],
    )
    ref: Annotated[str, AfterValidator(_ref)] = Field(
        default="refs/heads/main", description="the branch or tag whose newest commit is in force, in full"
    )
    path: Annotated[str, AfterValidator(_inside)] = Field(
        default="policies", min_length=1, description="the folder of policies in the repository; . for its root"
    )
    guardrails: Annotated[str, AfterValidator(_inside)] | None = Field(
        default=None,
        description="guardrails.yaml in the repository, where the broker has none of its own",
        examples=["guardrails.yaml"],
    )
    interval: Annotated[Duration, AfterValidator(_interval)] = Field(
        default_factory=lambda: timedelta(minutes=1), description="how often to fetch, give or take a tenth"
    )
    stale_after: Duration | None = Field(
        default=None,
        description="how long the repository may be out of reach before `/readyz` is 503; left out, it stays 200",
        examples=["1h"],
    )
    rewrites: Literal["refuse", "take"] = Field(
        default="refuse", description="what to do with a commit that does not follow the one in force"
    )
    credentials: Credentials | None = Field(default=None, description="for https: what the git server wants to see")
    ssh: Ssh | None = Field(default=None, description="for ssh: the broker's deploy key, and the server's keys")
    ca: str | None = Field(
        default=None, description="for https: a PEM file of the authorities to trust instead of the system's"
    )
    webhook: Webhook | None = Field(
        default=None, description="lets the git server say that there is something new: POST /v1/policies/webhook"
    )
    signed: Signed | None = Field(default=None, description="whose signature the newest commit must carry")

    @model_validator(mode="after")
    def _fits(self) -> "GitPolicies":
        if self.stale_after is not None and self.stale_after < 2 * self.interval:
            raise ValueError("`stale_after:` is at least twice the interval, or one fetch that fails would be too many")
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
