"""What holds for the repository as a whole: locks that bind, arrows that point one way, files that a person can read."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system import require

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
VERBS = ("venv", "demo", "dev", "test", "check", "fmt", "bench", "image", "pyz", "clean")
MOST_LINES = 450  # most stay below 250

# Every part of broker/ and what of broker/ it may import. The arrows of the design: web -> exchange -> tokens | policy |
# backends | ledger -> model. A new part has to say here where it stands.
NOUNS = {"model", "ids", "errors", "durations", "values"}
CORE = NOUNS | {"keys", "references", "documents", "metrics"}
ARROWS: dict[str, set[str]] = {
    "values": set(),
    "model": {"values"},
    "turns": set(),
    "ids": set(),
    "durations": set(),
    "errors": {"model"},
    "metrics": NOUNS,
    "logs": NOUNS,
    "documents": NOUNS,
    "references": NOUNS,
    "keys": NOUNS,
    "issuers": NOUNS | {"documents"},
    "tokens": NOUNS | {"issuers", "metrics", "turns"},
    "policy": NOUNS | {"documents", "issuers", "backends.seam"},  # what an option is, not how it is minted
    "proof": NOUNS | {"documents", "issuers", "policy"},
    "authoring": NOUNS | {"documents", "issuers", "policy", "proof", "backends.seam"},
    "sources": CORE | {"policy"},
    "people": CORE | {"issuers", "tokens", "policy", "ledger"},  # roles are told by the same conditions as trust
    "ledger": NOUNS | {"keys", "metrics", "turns"},
    "backends": NOUNS | {"keys", "references"},
    "exchange": CORE | {"issuers", "tokens", "policy", "ledger", "backends", "turns", "sources", "people"},
    "settings": CORE | {"issuers", "tokens", "backends", "sources", "people"},
    "schemas": CORE | {"issuers", "policy", "backends", "settings"},
    "catalog": CORE | {"issuers", "policy", "backends", "settings", "sources"},
    "web": CORE | {"tokens", "policy", "ledger", "backends", "exchange", "people"},
    "app": CORE
    | {
        "issuers",
        "tokens",
        "policy",
        "ledger",
        "backends",
        "exchange",
        "settings",
        "catalog",
        "web",
        "logs",
        "sources",
        "people",
    },
    "serve": NOUNS | {"app", "logs", "settings"},
    "demo": {"anything"},
    "cli": {"anything"},
    "__main__": {"cli"},
}

# The parts that can be proved: the same inputs give the same answer.
PURE = (
    "policy/**/*.py",
    "proof/**/*.py",
    "authoring/**/*.py",
    "ledger/merkle.py",
    "ledger/checkpoint.py",
    "ledger/canonical.py",
    "model.py",
    "documents.py",
)
IMPURE_MODULES = {
    "asyncio",
    "socket",
    "ssl",
    "time",
    "random",
    "secrets",
    "threading",
    "subprocess",
    "aiohttp",
    "requests",
    "urllib.request",
}


def sources(folder: str, pattern: str = "**/*.py") -> list[Path]:
    return sorted(path for path in (ROOT / folder).glob(pattern) if "__pycache__" not in path.parts)


def imported(path: Path) -> Iterator[str]:
    """Every module a file imports, by its full name, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom(module="broker"):
                yield from (f"broker.{alias.name}" for alias in node.names if alias.name != "__version__")
            case ast.ImportFrom(module=str(module), level=0):
                yield module
            case ast.ImportFrom():
                pytest.fail(f"{path}: a relative import; name the module in full")
            case _:
                pass


def part_of(path: Path) -> str:
    return path.relative_to(ROOT / "broker").parts[0].removesuffix(".py")


@pytest.mark.parametrize(
    "path",
    [path for path in sources("broker") if part_of(path) != "__init__"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_arrows_point_one_way(path: Path) -> None:
    part = part_of(path)
    assert part in ARROWS, f"{part} is new: say in ARROWS what it may import"
    if "anything" in ARROWS[part]:
        return
    ours = {tuple(name.split(".")[1:3]) for name in imported(path) if name.startswith("broker.")}
    assert not {".".join(name) for name in ours if name[0] != part and not {name[0], ".".join(name)} & ARROWS[part]}


def test_the_arrows_table_has_no_cycle_and_nothing_that_is_gone() -> None:
    done: set[str] = set()
    while left := {
        part for part in ARROWS if part not in done and "anything" not in ARROWS[part] and part != "__main__"
    }:
        ready = {part for part in left if {name.split(".")[0] for name in ARROWS[part]} <= done}
        assert ready, f"a cycle among {sorted(left)}"
        done |= ready
    there = {part_of(path) for path in sources("broker")}
    assert set(ARROWS) <= there


@pytest.mark.parametrize(
    "path",
    [path for pattern in PURE for path in sources("broker", pattern)],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_what_is_pure_knows_no_clock_socket_or_event_loop(path: Path) -> None:
    assert not set(imported(path)) & IMPURE_MODULES
    calls = {
        node.func.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert not calls & {"now", "utcnow", "today", "urandom"}


def test_only_the_shell_starts_threads_of_its_own() -> None:
    """A thread in the core would make an order of events that no test can choose."""
    guilty = {
        str(path.relative_to(ROOT))
        for part in ("policy", "issuers", "tokens")
        for path in sources(f"broker/{part}")
        if "threading" in set(imported(path))
    }
    assert not guilty


@pytest.mark.parametrize("path", sources("broker"), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_can_be_read_at_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MOST_LINES


def entries(lock: Path) -> dict[str, tuple[str, list[str]]]:
    """name -> (pinned requirement, hashes)"""
    logical = lock.read_text().replace("\\\n", " ").splitlines()
    found = {}
    for line in filter(None, (line.strip() for line in logical)):
        requirement, *hashes = line.split(" --hash=")
        found[requirement.partition("==")[0]] = (requirement.strip(), [digest.strip() for digest in hashes])
    return found


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_binds_every_package_by_hash_and_names_no_address(lock: Path) -> None:
    assert entries(lock)
    for requirement, hashes in entries(lock).values():
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*==[A-Za-z0-9.+!]+( ; .+)?", requirement)
        assert hashes
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in hashes)
    assert not re.search(r"://|--(index|extra-index|find-links|trusted-host)|@", lock.read_text())


def test_production_runs_the_versions_that_were_tested_and_no_tools() -> None:
    dev, product, build = (entries(ROOT / "requirements" / f"{name}.lock") for name in ("dev", "broker", "build"))
    assert product.items() <= dev.items()
    assert build.items() <= dev.items()
    assert not {"hatchling", "editables", "pytest", "mypy", "ruff"} & set(product)


def tracked() -> list[Path]:
    (git,) = require("git")
    listed = subprocess.run([git, "-C", str(ROOT), "ls-files", "-z"], capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


def test_no_file_names_a_folder_of_the_machine_it_was_written_on() -> None:
    pattern = re.compile(rb"(?<![\w.~-])/(work/[\w.]|root/[.a-z]+/[.a-z]|home/[a-z]+/(src|git|code|dev)/)")
    guilty = [
        str(path.relative_to(ROOT))
        for path in tracked()
        if path != Path(__file__) and pattern.search(path.read_bytes())
    ]
    assert not guilty


def test_no_private_key_lies_in_the_repository() -> None:
    header = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE " + rb"KEY-----\s+[A-Za-z0-9+/]{40}")
    assert not [str(path.relative_to(ROOT)) for path in tracked() if header.search(path.read_bytes())]


def test_make_alone_lists_its_verbs() -> None:
    (make,) = require("make")
    said = subprocess.run(
        [make, "--no-print-directory"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    listed = {words[1]: words[2:] for line in said.stdout.splitlines() if len(words := line.split()) > 1}
    assert set(VERBS) <= set(listed)
    assert all(len(listed[verb]) > 2 for verb in VERBS)


def test_every_system_program_named_by_a_test_has_its_package() -> None:
    lines = (ROOT / "tests/system-packages.txt").read_text().splitlines()
    listed = {line.split()[0] for line in lines if line.strip() and not line.startswith("#")} | {"make"}
    asked = {
        argument.value
        for path in sources("tests")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute)
        if (node.func.id if isinstance(node.func, ast.Name) else node.func.attr) == "require"
        for argument in node.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }
    assert asked <= listed


# ---- tools/venv.sh: which interpreter is chosen


@pytest.fixture
def chooser(tmp_path: Path) -> Path:
    """A checkout with the real tools/venv.sh, and a tools/venv.py that only says who runs it."""
    (tmp_path / "repo/tools").mkdir(parents=True)
    shutil.copy(ROOT / "tools/venv.sh", tmp_path / "repo/tools/venv.sh")
    (tmp_path / "repo/tools/venv.py").write_text("import sys; print(sys.argv[1], sys.executable)\n")
    (tmp_path / "bin").mkdir()
    for tool in ("sh", "dirname"):
        (tmp_path / "bin" / tool).symlink_to(require(tool)[0])
    return tmp_path


def choose(place: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": str(place / "bin"), **variables}
    return subprocess.run([place / "repo/tools/venv.sh", "dev"], env=env, capture_output=True, text=True, check=False)


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_an_interpreter_that_answers_but_does_not_run_is_passed_over(chooser: Path) -> None:
    program(chooser / "bin/python3.14", "echo 'shim: no such version' >&2; exit 127")
    program(chooser / "bin/python3.13", "exit 1")  # too old, or broken
    program(chooser / "bin/python3", f'exec "{sys.executable}" "$@"')
    ran = choose(chooser)
    assert (ran.returncode, ran.stdout.split()[0], ran.stderr) == (0, "dev", "")


def test_no_interpreter_says_what_to_do(chooser: Path) -> None:
    program(chooser / "bin/python3", "exit 1")
    ran = choose(chooser)
    assert ran.returncode == 1
    assert "3.11 or newer" in ran.stderr
    assert "PYTHON=" in ran.stderr


def test_a_chosen_interpreter_that_does_not_run_is_an_error(chooser: Path) -> None:
    program(chooser / "bin/python3", f'exec "{sys.executable}" "$@"')
    ran = choose(chooser, PYTHON="/nonexistent/python3.12")
    assert ran.returncode == 1
    assert "/nonexistent/python3.12" in ran.stderr
