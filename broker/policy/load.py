"""A folder of trust policies becomes a PolicySet, whole or not at all.

* Every `*.yaml` below the folder is read, and every problem of every file is reported in one go.
* What would silently not be a policy is an error: another suffix, a link out of the folder, a name used twice.
* Hidden files and folders are left alone: Kubernetes mounts a ConfigMap through `..data`.
"""

import gc
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from broker.documents import LARGEST, Document, parse
from broker.errors import ConfigError
from broker.issuers.seam import IssuerKind
from broker.policy.compile import compile_policy
from broker.policy.document import PolicyFile
from broker.policy.examples import run_examples
from broker.policy.guardrail_examples import guardrail_problems
from broker.policy.guardrails import Guardrails
from broker.policy.policyset import Policy, PolicySet, Target
from broker.policy.trial import next_document
from broker.policy.world import Reporter, World

MOST_FILES: Final = 10_000
SUFFIX: Final = ".yaml"


@dataclass(frozen=True, slots=True)
class PolicyText:
    """One file's bytes, before anything was made of them."""

    name: str  # as problems name it
    file: str  # relative to the folder of policies, with /
    data: bytes

    @property
    def folder(self) -> str:
        """The folder it stands in, relative to the policies: what guardrails go by."""
        return self.file.rpartition("/")[0] or "."


@dataclass(frozen=True, slots=True)
class Checked:
    """One file with all that was made of it, for authors' tools. A broker keeps the policy only."""

    text: PolicyText
    document: Document
    written: PolicyFile
    policy: Policy
    next: "Checked | None" = None  # the version on trial, as a policy of its own


def load_policies(
    folder: Path,
    *,
    issuers: Mapping[str, IssuerKind],
    issuer_urls: Mapping[str, str],
    targets: Mapping[str, Target] | None,
    guardrails: Guardrails,
) -> PolicySet:
    """Read, compile and try every policy below `folder`. Raises ConfigError, one line a problem.

    `targets=None` checks everything that needs no backend; such a set is for showing, never for minting.
    """
    world = World(issuers=issuers, issuer_urls=issuer_urls, targets=targets, guardrails=guardrails)
    problems: list[str] = []
    texts = read_folder(folder, problems)
    return compile_all(texts, world, problems, folders=folders_of(texts))


def compile_all(
    texts: list[PolicyText], world: World, problems: list[str], *, folders: set[str] | None = None
) -> PolicySet:
    """The set of these texts. `problems` are those found before. Raises ConfigError. `folders` is None for loose files."""
    return Loader().load(texts, world, problems, folders=folders)


class Loader:
    """Loads again and again, and compiles only what changed.

    A file whose bytes, path and world are the same gives the policy that it gave before. What `load` returns is equal to
    what a fresh load returns. Not for two threads at once. A load that fails is remembered too, as far as it came.
    """

    def __init__(self, world: World | None = None, known: Iterable[Policy] = ()) -> None:
        """`known` are policies that were compiled in this world before."""
        self._world = world
        self._known = {policy.file: policy for policy in known}

    def load(
        self,
        texts: Iterable[PolicyText],
        world: World,
        problems: Sequence[str] = (),
        *,
        folders: set[str] | None = None,
    ) -> PolicySet:
        """As `compile_all`. Raises ConfigError."""
        with uncollected():
            return self._load(texts, world, problems, folders)

    def _load(
        self, texts: Iterable[PolicyText], world: World, problems: Sequence[str], folders: set[str] | None
    ) -> PolicySet:
        # Guardrails, issuers and backends are part of every verdict, the examples' too; any other one begins afresh.
        known = self._known if self._world == world else {}
        found = list(problems)
        found.extend(problems_of_limits(world, folders))
        compiled: dict[str, Policy] = {}
        policies: dict[str, Policy] = {}
        for text in texts:
            try:
                policy = _again(known.get(text.file), text) or compile_text(text, world)
            except ConfigError as error:
                found.extend(error.problems)
                continue
            compiled[text.file] = policy
            if policy.name in policies:
                other = policies[policy.name].file
                found.append(f"{text.name}:1:1: policy: the name {policy.name!r} is taken by {other}; rename one")
            policies.setdefault(policy.name, policy)
        self._world, self._known = world, compiled
        if found:
            raise ConfigError(*found)
        return PolicySet.of(policies.values(), world.guardrails)


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection: all that a load makes lives on, and looking through it again and again is a fifth of the time.

    For `with`, or before a `def`.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:  # where two loads overlap, the first one switches it on again
            gc.enable()


def _again(known: Policy | None, text: PolicyText) -> Policy | None:
    """The policy that stood in this file, where its bytes are the same. `version` is the digest of those bytes."""
    if known is None or known.version != f"sha256:{hashlib.sha256(text.data).hexdigest()}":
        return None
    return known


def problems_of_limits(world: World, folders: set[str] | None) -> Iterator[str]:
    """What is wrong with the guardrails as this world sees them: their examples, and, where folders are known, their names."""
    yield from guardrail_problems(world)
    if folders is not None:
        yield from world.guardrails.unknown_names(
            kinds={target.kind for target in (world.targets or {}).values()},
            triggers={name for kind in world.issuers.values() for name in kind.trigger_names},
            issuers=world.issuers,
            backends=world.targets or (),
            folders=folders,
        )


def compile_text(text: PolicyText, world: World) -> Policy:
    """One policy, compiled and its examples run. Raises ConfigError."""
    return check_text(text, world).policy


def check_text(text: PolicyText, world: World) -> Checked:
    """The same, with what it was made from. Raises ConfigError."""
    document = parse(text.data, text.name)
    checked = _check(document, text, world)
    if checked.written.next is None:
        return checked
    following = _check(next_document(document), text, world)
    return replace(checked, policy=replace(checked.policy, next=following.policy), next=following)


def _check(document: Document, text: PolicyText, world: World) -> Checked:
    policy, written = compile_policy(document, text.data.decode(), folder=text.folder, file=text.file, world=world)
    report = Reporter(document, [])
    run_examples(policy, written, world, report)
    if report.problems:
        raise ConfigError(*report.problems)
    return Checked(text, document, written, policy)


class Reading(Protocol):
    """How one file is read; `read_one` is how. Paths are text here: ten thousand Path objects take longer than the rest."""

    def __call__(self, path: str, file: str, problems: list[str], within: Path) -> PolicyText | None: ...


def _read_one(path: str, file: str, problems: list[str], within: Path) -> PolicyText | None:
    return read_one(Path(path), file, problems, within=within)


def read_folder(folder: Path, problems: list[str], *, read: Reading = _read_one) -> list[PolicyText]:
    """The files below a folder, in order; what cannot be read, or is not what it seems, goes to `problems`.

    `read` is for who remembers files and reads only those that changed.
    """
    if not folder.is_dir():
        problems.append(
            f"{folder}:1:1: there is no such folder of policies; create it, or say `policies:` in broker.yaml"
        )
        return []
    root = folder.resolve()
    texts: list[PolicyText] = []
    for path, file in _walk(folder, problems):
        if len(texts) >= MOST_FILES:
            problems.append(f"{folder}:1:1: more than {MOST_FILES} files; split the policies over several brokers")
            break
        text = read(path, file, problems, root)
        if text is not None:
            texts.append(text)
    return texts


def _walk(folder: Path, problems: list[str]) -> Iterator[tuple[str, str]]:
    """Each policy's path, as problems name it, and relative to the folder."""

    def unreadable(error: OSError) -> None:
        problems.append(f"{error.filename}:1:1: cannot be read: {error.strerror}")

    for here, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in list(folders):
            if (Path(here) / name).is_symlink():
                problems.append(f"{Path(here) / name}:1:1: a linked folder is not followed; put the policies here")
                folders.remove(name)
        place, inside = str(Path(here)), Path(here).relative_to(folder).as_posix()
        before = "" if place == "." else f"{place.removesuffix('/')}/"
        below = "" if inside == "." else f"{inside}/"
        for name in sorted(name for name in files if not name.startswith(".")):
            if name.endswith(SUFFIX):
                yield before + name, below + name
            elif name.lower().endswith((".yml", ".yaml")):
                problems.append(
                    f"{before}{name}:1:1: only *{SUFFIX} files are policies; rename it, or it would silently not be one"
                )


def read_one(path: Path, file: str, problems: list[str], *, within: Path | None = None) -> PolicyText | None:
    """One file's bytes. A link that leads out of `within`, or what is no regular file, is a problem."""
    try:
        if within is not None and not path.resolve(strict=True).is_relative_to(within):
            problems.append(f"{path}:1:1: this link leads out of the folder of policies; put the file here")
            return None
        if not stat.S_ISREG(path.stat().st_mode):  # opening a FIFO would wait for ever
            problems.append(f"{path}:1:1: not a regular file")
            return None
        with path.open("rb") as opened:
            data = opened.read(LARGEST + 1)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        problems.append(f"{path}:1:1: cannot be read: {getattr(error, 'strerror', None) or 'a loop of links'}")
        return None
    return PolicyText(str(path), file, data)


def folders_of(texts: Iterable[PolicyText]) -> set[str]:
    """Every folder that some policy stands in or below, `.` included: what guardrails may name."""
    found = {"."}
    for text in texts:
        parts = text.folder.split("/")
        found |= {"/".join(parts[:length]) for length in range(1, len(parts) + 1)}
    return found
