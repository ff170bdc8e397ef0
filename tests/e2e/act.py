"""A GitHub Actions workflow that really runs: `act` on this host, without containers."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import system

CLIENTS = Path(__file__).parents[2] / "clients"
ACT = Path(sys.executable).with_name("act")


def run_workflow(
    folder: Path, steps: list[dict[str, Any]], given: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    """One job of these steps, with `given` in its environment. `act` mints no ID token: the test's own service does."""
    system.require("git", "node", "bash")
    if not ACT.exists():
        pytest.fail("act is not installed beside Python: it comes with the development lock")
    repository, home = folder / "repository", folder / "home"
    (repository / ".github" / "workflows").mkdir(parents=True)
    for name in ("github-action", "python"):  # as in a clone: the action runs the client that lies beside it
        shutil.copytree(CLIENTS / name, repository / "clients" / name, ignore=shutil.ignore_patterns("__pycache__"))
    home.mkdir()
    steps = [{"uses": "actions/checkout@v4"}, *steps]  # which act does itself, by a copy of the tree
    document = {"on": "push", "jobs": {"deploy": {"runs-on": "ubuntu-latest", "steps": steps}}}
    (repository / ".github" / "workflows" / "ci.yml").write_text(yaml.safe_dump(document, sort_keys=False))
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_NAME": "t",
        "GIT_AUTHOR_EMAIL": "t@acme.example",
        "GIT_COMMITTER_NAME": "t",
        "GIT_COMMITTER_EMAIL": "t@acme.example",
    }
    for argv in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "x", "--allow-empty"]):
        subprocess.run(["git", "-C", str(repository), *argv], check=True, env=env)
    argv = [str(ACT), "push", "-P", "ubuntu-latest=-self-hosted", "--pull=false"]
    for name, value in given.items():
        argv += ["--env", f"{name}={value}"]
    return subprocess.run(argv, cwd=repository, env=env, capture_output=True, text=True, timeout=120, check=False)
