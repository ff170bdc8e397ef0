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

from broker.documents import Document, parse, read_file, suggestion, validated
from broker.documents import Path as Key
from broker.errors import ConfigError
from broker.model import JOB_FIELDS
from broker.policy.conditions import compile_pattern, glob_to_re2, matches
from broker.policy.guardrails_file import FolderPart, GuardrailExamplePart, GuardrailsFile, ProtectsPart


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderLimits:
    """What policies below a folder may use, and who may own them; None is any."""

    issuers: frozenset[str] | None = None
    backends: frozenset[str] | None = None
    owners: tuple[str, ...] | None = None
    longest_ttl: Mapping[str, timedelta] = field(default_factory=dict)

    def admits_owner(self, owner: str) -> bool:
        """Whether somebody so named may own a policy here."""
        return _admits(self.owners, owner)


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
    examples: tuple[GuardrailExamplePart, ...] = field(default=(), repr=False)
    sha256: str = hashlib.sha256(b"").hexdigest()
    text: str = field(default="", repr=False, compare=False)  # as written, for the ledger
    document: Document | None = field(default=None, repr=False, compare=False)

    def limits(self, folder: str) -> Iterator[tuple[str, FolderLimits]]:
        """Every entry whose folder holds `folder` (relative to the policies, "." for their root)."""
        if not self.folders:
            return
        here = PurePosixPath(folder)
        for name, limits in self.folders.items():
            if here.is_relative_to(PurePosixPath(name)):
                yield name, limits

    def admits_owner(self, owner: str) -> bool:
        """Whether somebody so named may own a policy."""
        return _admits(self.owners, owner)

    def longest(self, kind: str, ttl: timedelta, folder: str = ".") -> timedelta:
        """`ttl`, shortened to what the platform allows of this backend kind, and of policies in this folder."""
        folders = (limits.longest_ttl.get(kind, ttl) for _, limits in self.limits(folder))
        return min(ttl, self.longest_ttl.get(kind, ttl), *folders)

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
            named += [(("folders", folder, "longest_ttl", name), name, set(kinds)) for name in allowed.longest_ttl]
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
    return read_guardrails(read_file(path), str(path))


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
        examples=tuple(file.examples),
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
    for name, part in file.folders.items():
        globs += [(("folders", name, "owners", number), glob) for number, glob in enumerate(part.owners or ())]
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

    return FolderLimits(
        issuers=given(part.issuers),
        backends=given(part.backends),
        owners=None if part.owners is None else tuple(part.owners),
        longest_ttl=dict(part.longest_ttl),
    )


def _admits(globs: tuple[str, ...] | None, owner: str) -> bool:
    return globs is None or any(matches(compile_pattern(glob_to_re2(glob)), owner) for glob in globs)


def _folder(name: str) -> str:
    return PurePosixPath(name).as_posix()


def _key(name: str) -> str:
    return name if name.startswith(("job.", "claims.")) else f"job.{name}"
