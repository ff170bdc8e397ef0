"""The service's own file, `broker.yaml` (design section 5): strict, with the place of every problem.

Relative paths are relative to the file. Secrets never stand in it; a backend's settings take references to them.
"""

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from broker.backends import BACKENDS
from broker.documents import Document, parse, read_file, validated
from broker.durations import Duration
from broker.errors import ConfigError
from broker.issuers.settings import IssuerSettings, trusted_issuer
from broker.issuers.trusted import TrustedIssuer
from broker.people.settings import People, PeopleSettings, people
from broker.sources.settings import GitPolicies

NAME: Final = r"^[a-z0-9][a-z0-9-]{0,62}$"
Name = Annotated[str, Field(pattern=NAME)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Tls(_Part):
    """The server's own certificate; both files are read again on SIGHUP."""

    certificate: str = Field(description="PEM, with the chain; relative to this file", examples=["tls/broker.pem"])
    key: str = Field(description="PEM; relative to this file", examples=["tls/broker.key"])


class Log(_Part):
    """What of the Merkle log anyone may read: signed checkpoints and hashes, the entries too, or nothing."""

    public: Literal["checkpoint", "everything", "nothing"] = Field(
        default="checkpoint",
        description="what anyone may read of the log: signed heads and hashes, entries too, or nothing",
    )


class BackendEntry(BaseModel):
    """One entry of `backends:`; everything but `kind` belongs to the backend's own settings."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    kind: str = Field(description="what it is: identity-token, ssh-ca, vault, aws-sts, ...")

    @model_validator(mode="after")
    def _known(self) -> "BackendEntry":
        if self.kind not in BACKENDS:
            raise ValueError(f"no backend kind {self.kind!r}; there are: {', '.join(sorted(BACKENDS))}")
        return self


def loopback(host: str) -> bool:
    """Whether a host names this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _public_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"https", "http"} or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError("an https URL such as https://broker.acme.example is expected")
    if parts.scheme == "http" and not loopback(parts.hostname):
        raise ValueError("plain http is for loopback only; jobs would send their tokens in clear")
    return url.rstrip("/")


def _listen(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:  # noqa: PLR2004
        raise ValueError("HOST:PORT is expected, for example 127.0.0.1:8400")
    return text


def _where(value: Any) -> str:
    return "git" if isinstance(value, dict | GitPolicies) else "folder"


class BrokerFile(_Part):
    """`broker.yaml` as it is written."""

    url: Annotated[str, AfterValidator(_public_url)] = Field(
        description="its public address: the default audience of tokens, the issuer of identity tokens, the log's origin",
        examples=["https://broker.acme.example"],
    )
    listen: Annotated[str, AfterValidator(_listen)] = Field(
        default="127.0.0.1:8400",
        description="HOST:PORT; plain http on loopback only, unless `tls` or `behind_proxy` is set",
    )
    data: str = Field(default="./data", description="keys and ledger; relative to this file, on a local disk")
    ledger: str = Field(default="sqlite", description="where events and leases are kept")
    policies: Annotated[Annotated[str, Tag("folder")] | Annotated[GitPolicies, Tag("git")], Discriminator(_where)] = (
        Field(
            default="./policies",
            description="the folder of trust policies, relative to this file; or the git repository that holds them",
            examples=["./policies", {"git": "https://git.acme.example/platform/policies.git", "path": "policies"}],
        )
    )
    guardrails: str | None = Field(
        default=None, description="the platform's own limits; relative to this file", examples=["./guardrails.yaml"]
    )
    issuers: dict[Name, IssuerSettings] = Field(
        min_length=1,
        description="the CIs whose tokens count, by a name of your choice",
        examples=[{"github": {"kind": "github"}}],
    )
    backends: dict[Name, BackendEntry] = Field(
        min_length=1,
        description="where credentials come from, by a name of your choice",
        examples=[{"ssh": {"kind": "ssh-ca"}}],
    )
    people: PeopleSettings | None = Field(
        default=None,
        description="who signs in to read cases and the ledger: the organisation's OpenID issuer, and its roles",
    )
    tls: Tls | None = Field(default=None, description="the server's own certificate; read again on SIGHUP")
    behind_proxy: bool = Field(default=False, description="whether a proxy on this host or in this network ends TLS")
    log: Log = Field(default=Log(), description="the public face of the Merkle log")
    shutdown_grace: Duration = Field(
        default_factory=lambda: _seconds(10), description="how long SIGTERM waits for requests on their way"
    )


def _seconds(n: int) -> Any:
    from datetime import timedelta  # noqa: PLC0415  only for a default

    return timedelta(seconds=n)


class Settings:
    """`broker.yaml`, checked: paths resolved, issuers and backend settings built. Never changes."""

    def __init__(self, file: BrokerFile, document: Document, folder: Path) -> None:
        """Raises ConfigError, every problem with its place."""
        self.file = file
        self.url = file.url
        host, _, port = file.listen.rpartition(":")
        self.host, self.port = host.strip("[]"), int(port)
        self.data = (folder / file.data).resolve()
        self.folder = folder.resolve()  # what relative paths are relative to
        self.repository = file.policies if isinstance(file.policies, GitPolicies) else None
        # With a repository, where its policies lie in a working copy: what authors' commands take when nobody says.
        inside = file.policies.path if isinstance(file.policies, GitPolicies) else folder / file.policies
        hook = self.repository.webhook if self.repository is not None else None
        self.webhook = hook.secret if hook is not None else None
        self.policies = Path(inside) if self.repository is not None else Path(inside).resolve()
        self.guardrails = (folder / file.guardrails).resolve() if file.guardrails else None
        self.log_public = file.log.public
        self.certificate = (folder / file.tls.certificate, folder / file.tls.key) if file.tls else None
        problems: list[str] = []
        if file.tls is None and not file.behind_proxy and not loopback(self.host):
            problems.append(
                document.problem(
                    ("listen",),
                    "plain http is served to loopback only; give `tls:` a certificate and key, or say `behind_proxy: true` where a proxy ends TLS",
                )
            )
        if self.repository is not None and self.repository.guardrails is not None and self.guardrails is not None:
            problems.append(
                document.problem(
                    ("guardrails",), "the guardrails are named twice, here and under `policies:`; keep one of them"
                )
            )
        if file.ledger != "sqlite":
            problems.append(document.problem(("ledger",), "only `sqlite` is served by this version"))
        self.issuers: dict[str, TrustedIssuer] = {}
        urls: dict[str, str] = {}
        for name, entry in file.issuers.items():
            try:
                issuer = trusted_issuer(name, entry, audience=file.url)
            except ValueError as error:
                problems.append(document.problem(("issuers", name), str(error)))
                continue
            if issuer.url in urls:
                problems.append(
                    document.problem(
                        ("issuers", name),
                        f"the issuer {issuer.url} is configured twice, as {urls[issuer.url]!r} too; keep one",
                    )
                )
            urls[issuer.url] = name
            self.issuers[name] = issuer
        self.people: People | None = None
        if file.people is not None:
            self.people = people(
                file.people,
                jobs=urls,
                own=file.url,
                report=lambda path, message: problems.append(document.problem(("people", *path), message)),
            )
        self.backends: dict[str, tuple[str, Any]] = {}
        for name, backend in file.backends.items():
            kind = BACKENDS[backend.kind]
            part = Document(
                document.name,
                {key: value for key, value in document.value["backends"][name].items() if key != "kind"},
                {path[2:]: mark for path, mark in document.marks.items() if path[:2] == ("backends", name)},
            )
            try:
                self.backends[name] = (backend.kind, validated(kind.Settings, part, context={"folder": folder}))
            except ConfigError as error:
                problems.extend(error.problems)
        if problems:
            raise ConfigError(*problems)

    @property
    def database(self) -> Path:
        """Where the embedded ledger lives."""
        return self.data / "ledger.db"

    @property
    def origin(self) -> str:
        """The log's origin line: the URL without its scheme (C2SP tlog-checkpoint)."""
        return self.url.partition("://")[2]


def load_settings(path: Path) -> Settings:
    """Read and check `broker.yaml`. Raises ConfigError."""
    document = parse(read_file(path), str(path))
    folder = path.resolve().parent
    file = validated(BrokerFile, document, context={"folder": folder})
    try:
        return Settings(file, document, folder)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        raise ConfigError(f"{path}:1:1: a path that it names cannot be followed: {error}") from None
