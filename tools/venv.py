"""Build or renew `.venv` from a hashed lock, by the standard library alone.

* What is installed is what the lock says, byte for byte: hashes required, wheels only, since building a source archive
  would fetch build tools that no hash covers.
* Nothing is done, and no network is asked, while the lock, the project files and the interpreter are those of the last time.
* The user's own packages and Python variables take no part; the user's proxy, certificates and pip.conf do.
* Two runs at once wait for one another.

Usage: `python -I tools/venv.py broker | dev`, from the top of the repository; tools/venv.sh chooses the interpreter.
"""
# ruff: noqa: T201, S603 - a script: it prints, and it runs the interpreter it has just made

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

VENV: Final = Path(".venv")
PYTHON: Final = VENV / "bin" / "python"
STATE: Final = VENV / "jobkey.json"
LOCKS: Final = {"broker": ("broker.lock", "build.lock"), "dev": ("dev.lock",)}
PROJECTS: Final = (Path(), Path("clients/python"))
NO_ENSUREPIP: Final = """\
This Python ({python}) has no ensurepip, so it cannot build an environment.
On Debian and Ubuntu: apt-get install python{version}-venv
Or name another: make PYTHON=/path/to/python3.12 ..."""


def main(wanted: str) -> int:
    """Make `.venv` hold the set `wanted`; the answer is an exit code."""
    Path("build").mkdir(exist_ok=True)
    with Path("build/venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            renew(wanted)
        except subprocess.CalledProcessError as failed:
            print(
                f"The environment could not be built: {Path(failed.cmd[0]).name} ended with {failed.returncode}.",
                file=sys.stderr,
            )
            print(
                "What it said is above. A proxy or another index is set as usual: HTTPS_PROXY, or pip.conf.",
                file=sys.stderr,
            )
            return 1
    return 0


def renew(wanted: str) -> None:
    """Install what changed since the state file was written."""
    state = read_state()
    now = {name: fingerprint(name) for name in LOCKS} | {"projects": projects_fingerprint(), "python": interpreter()}
    if state.get("python", now["python"]) != now["python"] or any(state.get(s, now[s]) != now[s] for s in LOCKS):
        say("the lock, the interpreter or the place changed: building the environment again")
        create()
        state = {}
    elif not runs(f"import sys; sys.exit(sys.version_info[:2] != {tuple(sys.version_info[:2])})"):
        create()  # none, or its interpreter is gone or another one
    if wanted not in state and not (wanted == "broker" and "dev" in state):  # the dev lock holds the broker's
        say(f"installing {' and '.join(LOCKS[wanted])} into {VENV}")
        for name in LOCKS[wanted]:
            pip("install", "--require-hashes", "--only-binary=:all:", "--requirement", f"requirements/{name}")
        state[wanted] = now[wanted]
    if state.get("projects") != now["projects"]:
        editable = [f"--editable={project}" for project in PROJECTS if (project / "pyproject.toml").exists()]
        if editable:
            pip("install", "--no-index", "--no-deps", "--no-build-isolation", *editable)
        state["projects"] = now["projects"]
    state["python"] = now["python"]
    text = json.dumps(state, indent=1)
    if not STATE.exists() or STATE.read_text() != text:
        STATE.write_text(text)


def create() -> None:
    """Make the environment with the interpreter below it, never with the environment's own."""
    base = getattr(sys, "_base_executable", sys.executable)
    if importlib.util.find_spec("ensurepip") is None:  # Debian splits it off
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise SystemExit(NO_ENSUREPIP.format(python=base, version=version))
    if VENV.exists():
        shutil.rmtree(VENV)
    run([base, "-I", "-m", "venv", str(VENV)])


def pip(*arguments: str) -> None:
    if not runs("import pip"):  # made by a tool that leaves it out
        run([str(PYTHON), "-I", "-m", "ensurepip", "--default-pip"])
    run([str(PYTHON), "-I", "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", *arguments])


def runs(code: str) -> bool:
    if not PYTHON.exists():
        return False
    return subprocess.run([str(PYTHON), "-I", "-c", code], capture_output=True, check=False).returncode == 0


def run(command: list[str]) -> None:
    """Run it without the variables that would lead packages in or out of the environment."""
    led_astray = {"PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER"}
    environment = {name: value for name, value in os.environ.items() if name not in led_astray}
    environment |= {"PYTHONNOUSERSITE": "1", "PIP_USER": "0"}  # a pip.conf may say user = true
    subprocess.run(command, check=True, env=environment)


def fingerprint(name: str) -> str:
    digest = hashlib.sha256()
    for lock in LOCKS[name]:
        digest.update(Path("requirements", lock).read_bytes())
    return digest.hexdigest()


def projects_fingerprint() -> str:
    """An entry point or a dependency that was declared since is not there until the project is installed again."""
    digest = hashlib.sha256()
    for project in PROJECTS:
        document = project / "pyproject.toml"
        if document.exists():
            digest.update(document.read_bytes())
    return digest.hexdigest()


def interpreter() -> str:
    """Where the environment lies counts too: its scripts name their interpreter in full, so it cannot be moved."""
    return f"{sys.implementation.name} {sys.version.split()[0]} in {VENV.absolute()}"


def read_state() -> dict[str, str]:
    """What the last run finished; nothing, where there was none or it was interrupted."""
    try:
        state = json.loads(STATE.read_text())
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in state.items()} if isinstance(state, dict) else {}


def say(message: str) -> None:
    print(f"venv: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in LOCKS:  # noqa: PLR2004 - the program's name and the set
        raise SystemExit("usage: python -I tools/venv.py broker | dev")
    raise SystemExit(main(sys.argv[1]))
