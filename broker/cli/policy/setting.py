"""What the commands of `jobkey-broker policy` judge by, and how they read what a person hands them.

* With `--config broker.yaml`, exactly what the broker would load: its issuers, backends and guardrails.
* Without, issuers are taken by the names of their kinds, and what depends on a backend is not checked; the output says so.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from broker.documents import LONGEST_KEY, read_file, short
from broker.errors import ConfigError
from broker.model import VerifiedToken
from broker.policy.examples import example_claims, example_token
from broker.policy.guardrails import load_guardrails
from broker.policy.load import PolicyText, read_folder, read_one
from broker.policy.policyset import PolicySet
from broker.policy.world import World

LARGEST_CLAIMS: Final = 1 << 20
UNCHECKED: Final = "not checked: backends and their options (`with`), for want of --config broker.yaml"

Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="The broker's own broker.yaml: its issuers, backends, guardrails.")
]


@dataclass(frozen=True, slots=True)
class Setting:
    """What to check against, and where the policies are when nobody says."""

    world: World
    policies: Path


def read_setting(config: Path | None, guardrails: Path | None) -> Setting:
    if config is not None:
        from broker.catalog import policy_inputs
        from broker.settings import load_settings

        settings = load_settings(config)
        issuers, urls, targets = policy_inputs(settings)
        path = guardrails or settings.guardrails
        if path is None and settings.repository is not None and settings.repository.guardrails is not None:
            path = Path(settings.repository.guardrails)  # of the working copy, as its policies are
        limits = load_guardrails(path)
        return Setting(World(issuers=issuers, issuer_urls=urls, targets=targets, guardrails=limits), settings.policies)
    from broker.issuers import ISSUERS

    public = {name: kind.url for name, kind in ISSUERS.items() if kind.url}
    world = World(issuers=ISSUERS, issuer_urls=public, targets=None, guardrails=load_guardrails(guardrails))
    return Setting(world, Path("policies"))


def read_texts(paths: list[Path], problems: list[str]) -> tuple[list[PolicyText], set[str] | None]:
    """The files to check. Folders of guardrails are known only where one whole folder of policies is given."""
    texts: list[PolicyText] = []
    for path in paths:
        if path.is_dir():
            texts.extend(read_folder(path, problems))
        elif (text := read_one(path, path.name, problems)) is not None:
            texts.append(text)
    if len(paths) == 1 and paths[0].is_dir():
        folders = {"."}
        for text in texts:
            parts = text.folder.split("/")
            folders |= {"/".join(parts[:length]) for length in range(1, len(parts) + 1)}
        return texts, folders
    return texts, None


def token_of(  # noqa: PLR0917  one caller
    given: dict[str, Any], path: Path, issuer: str | None, grant: str, policies: PolicySet, world: World
) -> VerifiedToken:
    """What the broker would make of these claims, their signature taken for granted. Raises ConfigError; `path` is named."""
    if issuer is None:
        by_url = [name for name, url in world.issuer_urls.items() if url == given.get("iss")]
        entry = policies.grants.get(grant)
        by_policy = sorted({statement.issuer for statement in entry[0].statements}) if entry else []
        candidates = by_url or by_policy
        if len(candidates) != 1:
            known = ", ".join(candidates or sorted(world.issuers))
            raise ConfigError(f"{path}:1:1: iss: no single issuer has this URL; say --issuer, one of {known}")
        issuer = candidates[0]
    kind = world.issuers.get(issuer)
    if kind is None:
        raise ConfigError(
            f"{path}:1:1: no issuer {issuer!r} is configured; there are: {', '.join(sorted(world.issuers))}"
        )
    like = given.pop("$like", None)
    if like is not None:
        base = example_claims(kind, str(like))
        if base is None:
            raise ConfigError(
                f"{path}:1:1: $like: {kind.title} has no example {like!r}; there are: {', '.join(kind.examples)}"
            )
        given = {**base, **given}
    try:
        return example_token(issuer, kind, given)
    except Exception as error:  # noqa: BLE001  claims of any shape, from a person
        raise ConfigError(
            f"{path}:1:1: {kind.title} could not have signed these claims ({type(error).__name__})"
        ) from None


def read_text(path: Path) -> str:
    """A file with claims or a token, or standard input for `-`; at most 1 MiB of it. Raises ConfigError."""
    try:
        if str(path) == "-":
            data = typer.get_binary_stream("stdin").read(LARGEST_CLAIMS + 1)
        elif path.is_relative_to("/dev"):  # what a shell makes of <(command), which is meant to be waited for
            with path.open("rb") as file:
                data = file.read(LARGEST_CLAIMS + 1)
        else:
            data = read_file(path)
        if len(data) > LARGEST_CLAIMS:
            raise ConfigError(f"{path}:1:1: larger than {LARGEST_CLAIMS >> 20} MiB; no token holds so much")
        return data.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}:1:1: cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None


def read_object(text: str, name: str) -> dict[str, Any]:
    """A JSON object as strictly as a token's is read: no name twice, no NaN, no text that is none. Raises ConfigError."""
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite)
        json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate is no text
    except json.JSONDecodeError as error:
        raise ConfigError(f"{name}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        said = "nested too deeply" if isinstance(error, RecursionError) else _said(error)
        raise ConfigError(f"{name}:1:1: not JSON that a token could hold: {said}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{name}:1:1: a JSON object is expected; decode the token's second part for it")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in pairs:
        if name in made:
            raise ValueError(f"{short(name, LONGEST_KEY)!r} stands twice in an object")
        made[name] = value
    return made


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _said(error: ValueError) -> str:
    if isinstance(error, UnicodeError):
        return "a lone surrogate"
    said = str(error)
    return "a number with too many digits" if "digits" in said and "limit" in said else said
