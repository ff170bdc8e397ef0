"""The platform's own limits, `guardrails.yaml`: what no policy may exceed, whoever wrote it.

* Every limit only takes away. Adding one never widens anything; where several apply, all of them do.
* A policy over a limit does not load. The limits that can be asked of a request are asked again when it is decided.
* Without the file the defaults hold: every statement pins an immutable id.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import Field

from broker.documents import Document, parse, suggestion, validated
from broker.documents import Path as Key
from broker.durations import Duration
from broker.errors import ConfigError
from broker.model import JOB_FIELDS
from broker.policy.conditions import compile_pattern, glob_to_re2, matches
from broker.policy.document import Part


class FolderPart(Part):
    """What the policies below one folder may use; a key left out limits nothing."""

    issuers: list[str] | None = Field(
        default=None, description="names of issuers in broker.yaml", examples=[["github"]]
    )
    backends: list[str] | None = Field(default=None, description="names of backends in broker.yaml", examples=[["ssh"]])


Object = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*:[!-~]+$", max_length=512)]


class ProtectsPart(Part):
    """What the platform's own safety rests on, as objects that a credential may reach: `<system>:<name>`, a glob.

    The systems are those that backends speak of (`ssh:<principal>`, `vault:<path>`, `vault-policy:<name>`, `aws:<arn>`,
    `identity:<audience>`), and the names of issuer kinds for projects (`github:<owner>/<repository>`).
    """

    policies: list[Object] = Field(
        default_factory=list,
        description="where the trust policies and guardrails are changed",
        examples=[["github:acme/policies"]],
    )
    broker: list[Object] = Field(
        default_factory=list,
        description="where the broker runs, and what holds its keys and its own identity",
        examples=[["ssh:broker-admin", "aws:arn:aws:iam::111122223333:role/jobkey*"]],
    )
    workflows: list[Object] = Field(
        default_factory=list,
        description="where shared workflows and pipeline templates are changed; those that policies trust are known already",
        examples=[["github:acme/ci"]],
    )
    identities: list[Object] = Field(
        default_factory=list,
        description="what hands out other identities: a directory, an identity provider, another broker",
        examples=[["vault:sys/**", "identity:https://sso.acme.example/**"]],
    )


class GuardrailsFile(Part):
    """`guardrails.yaml` as it is written."""

    longest_ttl: dict[str, Duration] = Field(
        default_factory=dict,
        description="the longest life of a credential, by backend kind (not by backend name)",
        examples=[{"aws-sts": "1h", "ssh-ca": "30m"}],
    )
    advised_ttl: dict[str, Duration] = Field(
        default_factory=dict,
        description="the life of a credential that is usually enough, by backend kind: a longer one loads, and the linter says so",
        examples=[{"aws-sts": "15m", "ssh-ca": "5m"}],
    )
    require_immutable_id: bool = Field(
        default=True, description="whether every statement writes out an id that nobody can register again"
    )
    no_wildcards: list[str] = Field(
        default_factory=list,
        description="fields to be written out, without glob, regex or not: words of a job, or claims.NAME",
        examples=[["project", "owner", "claims.repository"]],
    )
    triggers_never_allowed: list[str] = Field(
        default_factory=list,
        description="triggers that no `allow_triggers` may name",
        examples=[["pull_request_target", "workflow_run"]],
    )
    owners: list[Annotated[str, Field(min_length=1)]] | None = Field(
        default=None, min_length=1, description="who may own a policy: globs", examples=[["*@acme.example"]]
    )
    protects: ProtectsPart = Field(
        default_factory=ProtectsPart,
        description="what controls the broker and its policies; the linter shows every grant that reaches it",
    )
    folders: dict[str, FolderPart] = Field(
        default_factory=dict,
        description="what the policies below a folder may use; every entry whose folder holds a policy applies, `.` is all",
        examples=[{"payments": {"issuers": ["github"], "backends": ["aws-prod"]}}],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderLimits:
    """The issuers and backends that policies below a folder may use; None is any."""

    issuers: frozenset[str] | None = None
    backends: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Guardrails:
    """The limits as one frozen value. `Guardrails()` is what holds without a file."""

    longest_ttl: Mapping[str, timedelta] = field(default_factory=dict)
    advised_ttl: Mapping[str, timedelta] = field(default_factory=dict)  # advice only: nothing is refused for it
    require_immutable_id: bool = True
    no_wildcards: frozenset[str] = frozenset()  # "job.project", "claims.repository"
    triggers_never_allowed: frozenset[str] = frozenset()
    owners: tuple[str, ...] | None = None
    folders: Mapping[str, FolderLimits] = field(default_factory=dict)
    protects: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # "policies" -> globs of objects; for the linter
    sha256: str = hashlib.sha256(b"").hexdigest()
    text: str = field(default="", repr=False, compare=False)  # as written, for the ledger
    document: Document | None = field(default=None, repr=False, compare=False)

    def limits(self, folder: str) -> Iterator[tuple[str, FolderLimits]]:
        """Every entry whose folder holds `folder` (relative to the policies, "." for their root)."""
        here = PurePosixPath(folder)
        for name, limits in self.folders.items():
            if here.is_relative_to(PurePosixPath(name)):
                yield name, limits

    def admits_owner(self, owner: str) -> bool:
        """Whether somebody so named may own a policy."""
        return self.owners is None or any(matches(compile_pattern(glob_to_re2(glob)), owner) for glob in self.owners)

    def longest(self, kind: str, ttl: timedelta) -> timedelta:
        """`ttl`, shortened to what the platform allows of this backend kind."""
        return min(ttl, self.longest_ttl.get(kind, ttl))

    def unknown_names(
        self,
        *,
        kinds: Iterable[str],
        triggers: Iterable[str],
        issuers: Iterable[str],
        backends: Iterable[str],
        folders: Iterable[str],
    ) -> Iterator[str]:
        """Problems: names so near to a known one that they are typing errors, and folders that are not there.

        A limit on something that is not configured is fine, since one file may serve several brokers; a misspelt one
        would silently limit nothing.
        """
        if self.document is None:
            return
        here = self.document.problem
        limits = (("longest_ttl", self.longest_ttl), ("advised_ttl", self.advised_ttl))
        named: list[tuple[Key, str, set[str]]] = [
            ((key, name), name, set(kinds)) for key, names in limits for name in names
        ]
        listed = self.document.value.get("triggers_never_allowed") or []
        named += [(("triggers_never_allowed", i), name, set(triggers)) for i, name in enumerate(listed)]
        for folder, allowed in self.folders.items():
            if folder not in {".", *folders}:
                yield here(
                    ("folders", folder),
                    "there is no such folder of policies, so this limits nothing; create or remove it",
                )
            for key, names, known in (
                ("issuers", allowed.issuers, set(issuers)),
                ("backends", allowed.backends, set(backends)),
            ):
                named += [(("folders", folder, key), name, known) for name in names or ()]
        for path, name, known in named:
            near = "" if name in known else suggestion(name, known)
            if "did you mean" in near:
                yield here(path, f"{name!r} is not configured here{near}")


def load_guardrails(path: Path | None) -> Guardrails:
    """Read `guardrails.yaml`. None gives the defaults. Raises ConfigError, every problem with its place."""
    if path is None:
        return Guardrails()
    try:
        with path.open("rb") as file:
            text = file.read((1 << 20) + 1)
    except OSError as error:
        raise ConfigError(f"{path}:1:1: cannot be read: {error.strerror}") from None
    return read_guardrails(text, str(path))


def read_guardrails(text: str | bytes, name: str) -> Guardrails:
    """The same from text. An empty file is a mistake: it would look like limits and be none."""
    document = parse(text, name)
    file = validated(GuardrailsFile, document)
    problems = list(_problems(file, document))
    if problems:
        raise ConfigError(*problems)
    return Guardrails(
        longest_ttl=dict(file.longest_ttl),
        advised_ttl=dict(file.advised_ttl),
        require_immutable_id=file.require_immutable_id,
        no_wildcards=frozenset(_key(name) for name in file.no_wildcards),
        triggers_never_allowed=frozenset(file.triggers_never_allowed),
        owners=None if file.owners is None else tuple(file.owners),
        protects={name: tuple(getattr(file.protects, name)) for name in ProtectsPart.model_fields},
        folders={_folder(name): _limits(part) for name, part in file.folders.items()},
        sha256=hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest(),
        text=text if isinstance(text, str) else text.decode(),  # UTF-8: it was parsed
        document=document,
    )


def _problems(file: GuardrailsFile, document: Document) -> Iterator[str]:
    for number, name in enumerate(file.no_wildcards):
        where, _, claim = _key(name).partition(".")
        if (where == "job" and claim not in JOB_FIELDS) or (where == "claims" and not claim):
            yield document.problem(
                ("no_wildcards", number),
                f"a job has no {claim!r}{suggestion(claim, JOB_FIELDS)}; a raw claim is written claims.NAME",
            )
    globs: list[tuple[Key, str]] = [(("owners", number), glob) for number, glob in enumerate(file.owners or ())]
    for name in ProtectsPart.model_fields:
        globs += [(("protects", name, number), glob) for number, glob in enumerate(getattr(file.protects, name))]
    for path, glob in globs:
        try:
            compile_pattern(glob_to_re2(glob))
        except ValueError as error:
            yield document.problem(path, str(error))
    folders = [_folder(name) for name in file.folders]
    for name in file.folders:
        if ".." in PurePosixPath(name).parts or name.startswith("/") or not name:
            yield document.problem(
                ("folders", name),
                "a folder is written relative to the policies, such as `payments`; `.` is all of them",
            )
        elif folders.count(_folder(name)) > 1:
            yield document.problem(("folders", name), "the same folder stands here twice; keep one")


def _limits(part: FolderPart) -> FolderLimits:
    def given(names: list[str] | None) -> frozenset[str] | None:
        return None if names is None else frozenset(names)

    return FolderLimits(issuers=given(part.issuers), backends=given(part.backends))


def _folder(name: str) -> str:
    return PurePosixPath(name).as_posix()


def _key(name: str) -> str:
    return name if name.startswith(("job.", "claims.")) else f"job.{name}"
