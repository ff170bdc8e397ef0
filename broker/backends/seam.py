"""What a credential backend is: one file beside this one, and one line in the table of `broker.backends`.

* A backend that leaves **no trace** signs in memory; its record is committed once, after the signature.
* A backend that leaves a **trace** is called between two commits: `plan` names what will be made (no input or output),
  the ledger commits that as a pending lease, `mint` makes it, the ledger commits it as active. Where making it takes
  two steps, `record` makes what the first one learned durable before the second begins.
* `handle` is what revoking takes, as JSON-able data. The ledger seals it; nothing else ever stores a credential.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict

from broker.keys import KeyStore
from broker.model import JobIdentity
from broker.values import value

Handle = Mapping[str, Any]
Record = Callable[[Handle], Awaitable[None]]


class Strict(BaseModel):
    """The base of every model that people write by hand: strict types, no unknown keys, frozen."""

    # hide_input_in_errors: what was written in the wrong place may be a secret
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """What a credential lets its holder do outside the broker, as far as the grant's options tell. For authors' tools.

    `object` is `<system>:<name>`, such as `ssh:deploy`, `vault:database/creds/ro` or `aws:arn:aws:iam::...:role/x`; in it
    `*` stands for anything within a `/` segment and `**` for anything: what a template or a wildcard leaves open.
    """

    object: str
    deed: str  # what the holder may do with it, as a verb: "log in as", "read"
    controls: str | None = None  # where the backend itself knows that this is a way to the broker: what it is


def opened(text: str) -> str:
    """An option's text as a Power's object: each template stands for anything inside its segment."""
    return re.sub(r"\*{3,}", "**", re.sub(r"\{\{[^{}]*\}\}", "*", text))


class NoParams(Strict):
    """A backend from which the job may choose nothing."""


@dataclass(frozen=True, slots=True)
class Templated:
    """Marks an option that may hold `{{ job.x }}`, and the whole shape that a value put there must have.

    Use it as `Annotated[str, Templated(r"[a-z0-9-]{1,64}")]`. The pattern is RE2, matched against each inserted value,
    and must admit nothing that the target would have to escape. An option without this mark takes no template.
    """

    pattern: str


@value(frozen=True, slots=True, kw_only=True)
class Order:
    """One credential to mint: decided, narrowed, and named in the ledger."""

    lease: str
    issuance: str
    session: str
    grant: str  # policy/grant
    issuer: str
    job: JobIdentity
    options: Any  # an instance of the backend's `Options`, templates filled in
    params: Any  # an instance of the backend's `Params`
    ttl: timedelta
    now: datetime

    @property
    def expires_at(self) -> datetime:
        return self.now + self.ttl


@value(frozen=True, slots=True, kw_only=True)
class Minted:
    """A fresh credential. It exists in memory only, and leaves the broker once its record is durable."""

    type: str  # the shape of `values`: aws, ssh-certificate, jwt, vault
    values: Mapping[str, Any] = field(repr=False)
    secrets: tuple[str, ...]  # the keys of `values` that a client has to mask
    env: Mapping[str, str] = field(repr=False)
    expires_at: datetime  # what the target system really enforces
    fingerprinted: str = field(repr=False)  # the text whose keyed HMAC the ledger keeps
    handle: Handle = field(default_factory=dict, repr=False)  # what revoking and renewing take
    facts: Mapping[str, str] = field(
        default_factory=dict
    )  # for the event: serial, key id, session name. Nothing secret
    renewable: bool = False


@dataclass(frozen=True, slots=True)
class Gone:
    """Revoked: it no longer works."""


@dataclass(frozen=True, slots=True)
class StillWorks:
    """It cannot be taken back; the lease becomes `irrevocable` with this reason, which ends by its expiry."""

    why: str


class BackendError(Exception):
    """The target system said no or nothing. The text must hold no credential; `retry` says whether trying again may help."""

    def __init__(self, message: str, *, retry: bool = True) -> None:
        super().__init__(message)
        self.retry = retry


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a backend may need of the broker that runs it. Built once by broker.app."""

    url: str  # the broker's public URL: the `iss` of identity tokens
    keys: KeyStore
    web_identity: Callable[
        [str, str, timedelta, Mapping[str, Any]], str
    ]  # (subject, audience, ttl, claims) -> a JWT signed by the broker


class Backend(ABC):
    """One configured backend. Subclasses say the class variables and the coroutines; broker.backends tells the rest."""

    kind: ClassVar[str]
    trace: ClassVar[bool]
    Settings: ClassVar[type[Strict]]  # its entry in broker.yaml, without `kind`
    Options: ClassVar[type[Strict]]  # a grant's `with:`
    Params: ClassVar[type[Strict]] = NoParams  # what the job may send
    shortest: ClassVar[timedelta] = timedelta(seconds=30)
    longest: ClassVar[timedelta] = timedelta(hours=12)
    renewable: ClassVar[bool] = False
    revocation: ClassVar[str]  # one sentence for the docs and for the lease: how and how fast it ends early
    params_help: ClassVar[Mapping[str, str]] = {}  # param -> what a client that lacks it should make: "ssh-public-key"

    @classmethod
    def describe(cls, options: Mapping[str, Any]) -> str:  # noqa: ARG003  the seam's signature
        """What a grant with these options gives, in words that follow "may have": "an SSH certificate for the principal deploy".

        `options` is a grant's `with:` as it is written (JSON values, defaults left out), each template already replaced by
        words such as `<environment>`. Total: never raises for options that the model takes.
        """
        return f"a credential of the kind {cls.kind}"

    @abstractmethod
    def __init__(self, name: str, settings: Any, around: Surroundings) -> None:
        """`settings` is an instance of `Settings`. Opens nothing; `start` may."""

    @classmethod
    def writes(cls, options: Mapping[str, Any], settings: Any, url: str) -> Iterable[Power]:  # noqa: ARG003  the seam's signature
        """What a credential with these options can be used for; pure, for the linter's question who could change the broker.

        `options` is a grant's `with:` as it is written, templates and all, known to be valid; `settings` an instance of
        `Settings`; `url` the broker's own. What the target system itself says of the credential is not known here.
        """
        return ()

    async def start(self) -> None:  # noqa: B027  a hook; most backends need none
        """Open what is long-lived. Must not fail because the target is down."""

    async def close(self) -> None:  # noqa: B027  a hook, as above
        """Let go of it again."""

    def plan(self, order: Order) -> Handle:  # noqa: ARG002  the seam's signature
        """Name what `mint` will make, without input or output: enough for `revoke` to find it after a crash."""
        return {}

    @abstractmethod
    async def mint(self, order: Order, record: Record) -> Minted:
        """Make the credential. Raises BackendError; what was half made is then undone by `revoke` of the last handle."""

    async def renew(self, handle: Handle, until: datetime) -> datetime:  # noqa: ARG002  the seam's signature
        """Lengthen it; the answer is the new end that the target enforces. Raises BackendError."""
        raise BackendError(f"{self.kind} credentials cannot be renewed", retry=False)

    @abstractmethod
    async def revoke(self, handle: Handle) -> Gone | StillWorks:
        """End it now; idempotent, and good for a `plan` whose mint never happened. Raises BackendError to be tried again."""

    async def ping(self) -> None:  # noqa: B027  what only signs is always well
        """One cheap call that must work, for /readyz. Raises BackendError."""


MOST_GRANTS: Final = 16  # in one request
