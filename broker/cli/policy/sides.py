"""The two sides of `policy diff`: a folder, or a git revision of the repository around it.

* A revision's policies and guardrails are read from git's object database; nothing is checked out.
* Issuers and backends are today's broker.yaml's for both sides: they are the platform's, not the change's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from broker.documents import read_file
from broker.errors import ConfigError
from broker.policy import PolicySet
from broker.policy.guardrails import Guardrails, load_guardrails, read_guardrails
from broker.policy.load import PolicyText, compile_all, read_folder
from broker.policy.world import World

DEFAULT: Final = "policies"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What both sides are judged by, and what broker.yaml says of where things are."""

    world: World  # its guardrails are each side's own
    policies: Path | None  # broker.yaml's; None without one; relative where the broker follows a repository
    guardrails: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side, before anything was made of its files."""

    name: str  # as it was asked for
    commit: str | None  # None for a folder
    texts: list[PolicyText] = field(repr=False)
    guardrails: tuple[str, bytes] | None = field(repr=False)  # the file's name and text; None for the defaults
    switched: bool = False  # as if its versions on trial decided

    @property
    def sources(self) -> Mapping[str, bytes]:
        """The text of each file by the name that problems give it."""
        named = {text.name: text.data for text in self.texts}
        return named if self.guardrails is None else {**named, self.guardrails[0]: self.guardrails[1]}


class Broken(Exception):
    """A side that does not load: what would be a broker's problems with it."""

    def __init__(self, side: str, problems: tuple[str, ...], sources: Mapping[str, bytes]) -> None:
        super().__init__(side)
        self.side, self.problems, self.sources = side, problems, sources


def ground(config: Path | None) -> Ground:
    """As in `policy check`: what the broker would judge by, or the kinds' own names. Raises ConfigError."""
    if config is not None:
        from broker.catalog import policy_inputs
        from broker.settings import load_settings

        settings = load_settings(config)
        issuers, urls, targets = policy_inputs(settings)
        world = World(issuers=issuers, issuer_urls=urls, targets=targets, guardrails=Guardrails())
        limits = settings.guardrails
        if limits is None and settings.repository is not None and settings.repository.guardrails is not None:
            limits = Path(settings.repository.guardrails)
        return Ground(world=world, policies=settings.policies, guardrails=limits)
    from broker.issuers import ISSUERS

    public = {name: kind.url for name, kind in ISSUERS.items() if kind.url}
    world = World(issuers=ISSUERS, issuer_urls=public, targets=None, guardrails=Guardrails())
    return Ground(world=world, policies=None, guardrails=None)


def read_sides(
    old: str, new: str, *, policies: Path | None, guardrails: Path | None, old_guardrails: Path | None, config: Ground
) -> tuple[Side, Side]:
    """Both, from wherever they are. Raises ConfigError."""
    folders = [Path(name) if Path(name).is_dir() else None for name in (old, new)]
    here = next((folder for folder in folders if folder is not None), Path())
    if None in folders:  # what a followed repository's paths are relative to
        top = _root(here)
        config = replace(
            config,
            policies=config.policies and top / config.policies,
            guardrails=config.guardrails and top / config.guardrails,
        )
    limits = guardrails or config.guardrails
    if None not in folders:
        below: list[Path] = [folder / policies if policies else folder for folder in folders if folder is not None]
    else:
        below = [_below(here, policies, config.policies)] * 2
    sides = [
        _folder(name, path, limits) if folder is not None else _revision(name, here, path, limits)
        for name, folder, path in zip((old, new), folders, below, strict=True)
    ]
    if old_guardrails is not None:  # a file that was named for one side is that file, whatever a revision holds
        sides[0] = replace(sides[0], guardrails=_file(old_guardrails))
    return sides[0], sides[1]


def _below(folder: Path, asked: Path | None, configured: Path | None) -> Path:
    """Where the policies are in a checkout of which `folder` is a part: as asked, as broker.yaml says, or by custom."""
    if asked is not None:
        return folder / asked
    if configured is not None and (folder == Path() or configured.is_relative_to(folder.resolve())):
        return configured
    custom = folder / DEFAULT
    return custom if custom.is_dir() or folder == Path() else folder


def _folder(name: str, path: Path, limits: Path | None) -> Side:
    problems: list[str] = []
    texts = read_folder(path, problems)
    if problems:
        raise ConfigError(*problems)
    return Side(name=name, commit=None, texts=texts, guardrails=_file(limits))


def _revision(name: str, here: Path, path: Path, limits: Path | None) -> Side:
    from broker.sources.git import read_revision

    root = _root(here)
    inside = _relative(path, root)
    if inside is None:
        raise ConfigError(
            f"{path}:1:1: outside the repository {root}; say which folder of it holds the policies, -p DIR"
        )
    limited = None if limits is None else _relative(limits, root)
    found = read_revision(here, name, inside, guardrails=limited)
    if limited is None:
        return Side(name=name, commit=found.commit, texts=found.texts, guardrails=_file(limits))
    named = None if found.guardrails is None else (f"{found.commit[:12]}:{limited}", found.guardrails)
    return Side(name=name, commit=found.commit, texts=found.texts, guardrails=named)


def _root(here: Path) -> Path:
    """The top of the checkout around a folder. Raises ConfigError."""
    from broker.sources.command import GitFailed
    from broker.sources.git import working

    try:
        said = working(here).run("rev-parse", "--show-toplevel")
    except GitFailed as error:
        raise ConfigError(f"{here}:1:1: not a checkout ({error.said})") from None
    return Path(said.decode("utf-8", "surrogateescape").removesuffix("\n"))


def _relative(path: Path, root: Path) -> str | None:
    """As git names it from the root; None for what is outside. Links on the way are followed first."""
    whole, top = path.resolve(), root.resolve()
    return whole.relative_to(top).as_posix() if whole.is_relative_to(top) else None


def _file(path: Path | None) -> tuple[str, bytes] | None:
    if path is None:
        return None
    load_guardrails(path)  # says what is wrong with it, or with the file
    return str(path), read_file(path)


def load_side(side: Side, world: World) -> PolicySet:
    """The set that a broker would load. Raises Broken."""
    try:
        limits = Guardrails() if side.guardrails is None else read_guardrails(side.guardrails[1], side.guardrails[0])
        return compile_all(side.texts, replace(world, guardrails=limits), [], folders=_folders(side.texts))
    except ConfigError as error:
        raise Broken(side.name, error.problems, side.sources) from None


def _folders(texts: list[PolicyText]) -> set[str]:
    found = {"."}
    for text in texts:
        parts = text.folder.split("/")
        found |= {"/".join(parts[:length]) for length in range(1, len(parts) + 1)}
    return found
