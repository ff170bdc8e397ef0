"""The policies of one commit, read from git's object database: nothing is checked out, nothing of the repository runs.

The rules are those of a folder (broker.policy.load): `*.yaml` are policies, hidden names are left alone, `.yml`, links
and submodules are problems, and sizes and counts have the same limits.
"""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from broker.documents import LARGEST
from broker.errors import ConfigError
from broker.policy.load import MOST_FILES, SUFFIX, PolicyText
from broker.sources import SourceUnavailable
from broker.sources.command import Git, GitFailed, program

LONGEST_REVISION: Final = 256
MOST_LISTED: Final = 16 << 20  # bytes of a listing
MOST_BYTES: Final = 256 << 20  # of all policies of a commit
_SHORT: Final = 12  # digits of a commit, as problems name it
_FOLDER, _SUBMODULE, _LINK = "040000", "160000", "120000"  # modes of tree entries


@dataclass(frozen=True, slots=True)
class Revision:
    """What one commit says."""

    commit: str  # its full object name, hex
    texts: list[PolicyText] = field(repr=False)  # in order of their paths; `file` is relative to the folder asked for
    guardrails: bytes | None = field(default=None, repr=False)  # None where no path was given, or nothing is there


@dataclass(frozen=True, slots=True)
class _Entry:
    mode: str
    name: str  # object name
    size: int
    path: str  # relative to what was listed


def read_revision(repository: Path, revision: str, path: str, *, guardrails: str | None = None) -> Revision:
    """The policies below the folder `path` at `revision`, of the repository that holds the folder `repository`.

    `path` and `guardrails` are relative to the repository's root ("." for the root itself). Raises ConfigError, one line
    a problem. Problems name a file as `git show` takes it, COMMIT:PATH.
    """
    git = working(repository)
    commit = resolve(git, revision, str(repository))
    return read_commit(git, commit, path, guardrails=guardrails)


def working(folder: Path) -> Git:
    """Git at a person's own working folder. Raises ConfigError where it is none, or belongs to somebody else."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}:1:1: there is no such folder")
    git = Git(at=folder)
    try:
        git.run("rev-parse", "--git-dir")
    except GitFailed as error:
        if "dubious ownership" not in error.said:
            raise ConfigError(
                f"{folder}:1:1: not a git repository ({error.said}); name a folder, or run this inside a repository"
            ) from None
    else:
        return git
    # Somebody else's repository is read only where this user has said so in their own configuration; of that
    # configuration nothing but these names is taken.
    trusted = Git(at=folder, config=[("safe.directory", value) for value in _safe_directories()])
    try:
        trusted.run("rev-parse", "--git-dir")
    except GitFailed:
        pass
    else:
        return trusted
    raise ConfigError(
        f"{folder}:1:1: this repository belongs to another user; where you trust it, say so once: "
        f"git config --global --add safe.directory {folder.resolve()}"
    )


def _safe_directories() -> Iterator[str]:
    for scope in ("--system", "--global"):
        try:
            said = subprocess.run(  # noqa: S603  a fixed command
                [program("git"), "config", scope, "--includes", "--type=path", "-z", "--get-all", "safe.directory"],
                capture_output=True,
                cwd="/",
                timeout=10,
                check=False,
            ).stdout
        except (OSError, subprocess.SubprocessError):
            continue
        yield from (value for value in said.decode("utf-8", "replace").split("\0") if value)


def resolve(git: Git, revision: str, repository: str) -> str:
    """The commit that a branch, tag, object name or `main~2` names. Raises ConfigError."""
    if not revision or len(revision) > LONGEST_REVISION or not revision.isprintable() or revision.startswith("-"):
        raise ConfigError(f"{repository}:1:1: {revision!r} is no revision; name a branch, a tag or a commit")
    try:
        found = git.run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except GitFailed:
        raise ConfigError(
            f"{repository}:1:1: there is no commit {revision!r} here; a shallow clone may lack it: git fetch --unshallow"
        ) from None
    return found.decode("ascii").strip()


def read_commit(git: Git, commit: str, path: str, *, guardrails: str | None = None) -> Revision:
    """`read_revision` for a commit that is known to be there."""
    short, below = commit[:_SHORT], _inside(path)
    try:
        tree = _object(git, f"{commit}:{below}" if below else f"{commit}^{{tree}}", "tree")
        if tree is None:
            raise ConfigError(f"{short}:{below}:1:1: there is no such folder at this commit")
        prefix = f"{short}:{below}/" if below else f"{short}:"
        problems: list[str] = []
        listed = git.run("ls-tree", "-r", "-z", "-l", "--full-tree", "--end-of-options", tree, most=MOST_LISTED)
        wanted = list(_policies(_entries(listed), prefix, problems))
        if problems:
            raise ConfigError(*problems)
        texts = [
            PolicyText(prefix + entry.path, entry.path, data)
            for entry, data in zip(wanted, _contents(git, [entry.name for entry in wanted]), strict=True)
        ]
        limits = _guardrails(git, commit, guardrails) if guardrails is not None else None
    except GitFailed as error:
        kind = SourceUnavailable if error.cut_short else ConfigError
        raise kind(f"{short}:{below}:1:1: git could not read this commit: {error.said}") from None
    return Revision(commit, texts, limits)


def _inside(path: str) -> str:
    """`path`, as git names it from the root of a tree; "" for the root. Raises ConfigError."""
    parts = PurePosixPath(path).parts
    if path.startswith("/") or ".." in parts or not path.isprintable() or ":" in path:
        raise ConfigError(f"{path!r}:1:1: a path inside the repository is expected here, relative to its root")
    return "/".join(parts)


def _object(git: Git, expression: str, kind: str) -> str | None:
    """The object name, where something of this kind is there."""
    said = git.run("cat-file", "--batch-check", stdin=expression.encode() + b"\n").decode("ascii", "replace").split()
    return said[0] if len(said) == 3 and said[1] == kind else None  # noqa: PLR2004  name, kind, size


def _entries(listed: bytes) -> Iterator[_Entry]:
    """https://git-scm.com/docs/git-ls-tree, -z -l: `mode type name size TAB path NUL`."""
    for line in listed.split(b"\0"):
        if line:
            facts, _, path = line.partition(b"\t")
            mode, _, name, size = facts.decode("ascii").split()
            yield _Entry(mode, name, int(size) if size.isdigit() else 0, path.decode("utf-8", "surrogateescape"))


def _policies(entries: Iterator[_Entry], prefix: str, problems: list[str]) -> Iterator[_Entry]:
    """The entries that are policies; what is not what it seems goes to `problems`."""
    count = total = 0
    for entry in entries:
        if any(part.startswith(".") for part in entry.path.split("/")):
            continue
        place = f"{prefix}{entry.path if entry.path.isprintable() else ascii(entry.path)}:1:1"
        suffix = PurePosixPath(entry.path).suffix
        if entry.mode == _SUBMODULE:
            problems.append(f"{place}: a submodule is not followed; put the policies here")
        elif suffix.lower() not in {".yml", ".yaml"}:
            if entry.mode == _LINK and not suffix:
                problems.append(f"{place}: a link is not followed in a repository; put the policies here")
        elif not entry.path.isprintable():
            problems.append(f"{place}: a file's name is printable UTF-8 text; rename it")
        elif entry.mode == _LINK:
            problems.append(f"{place}: a link is not followed in a repository; put the file here")
        elif suffix != SUFFIX:
            problems.append(f"{place}: only *{SUFFIX} files are policies; rename it, or it would silently not be one")
        elif entry.size > LARGEST:
            problems.append(f"{place}: the file is larger than {LARGEST >> 20} MiB; split it")
        else:
            count, total = count + 1, total + entry.size
            if count > MOST_FILES or total > MOST_BYTES:
                problems.append(
                    f"{prefix}:1:1: more than {MOST_FILES} files or {MOST_BYTES >> 20} MiB; "
                    "split the policies over several brokers"
                )
                return
            yield entry


def _contents(git: Git, names: list[str]) -> Iterator[bytes]:
    """The bytes of blobs, in order. https://git-scm.com/docs/git-cat-file: `name blob size LF bytes LF` each."""
    if not names:
        return
    data = git.run("cat-file", "--batch", stdin="".join(f"{name}\n" for name in names).encode(), most=2 * MOST_BYTES)
    place = 0
    for name in names:
        end = data.index(b"\n", place)
        told = data[place:end].decode("ascii", "replace").split()
        if len(told) != 3 or told[:2] != [name, "blob"]:  # noqa: PLR2004
            raise GitFailed(f"the object {name} is missing from the repository; a partial clone lacks it")
        start, size = end + 1, int(told[2])
        yield data[start : start + size]
        place = start + size + 1


def _guardrails(git: Git, commit: str, path: str) -> bytes | None:
    below = _inside(path)
    listed = git.run("ls-tree", "-z", "-l", "--full-tree", "--end-of-options", commit, below, most=MOST_LISTED)
    entry = next(_entries(listed), None)
    if entry is None:
        return None
    place = f"{commit[:_SHORT]}:{below}:1:1"
    if entry.mode in {_LINK, _SUBMODULE, _FOLDER}:
        raise ConfigError(f"{place}: not a regular file; a link is not followed in a repository")
    if entry.size > LARGEST:
        raise ConfigError(f"{place}: the file is larger than {LARGEST >> 20} MiB")
    return next(_contents(git, [entry.name]))
