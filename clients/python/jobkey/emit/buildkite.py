"""Buildkite: `buildkite-agent redactor add`, by its standard input: arguments would stand in the process list."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def register(texts: list[str], env: Mapping[str, str]) -> bool:
    import subprocess

    document = json.dumps({f"JOBKEY_SECRET_{n}": text for n, text in enumerate(texts)})
    try:
        done = subprocess.run(  # a fixed program and fixed arguments, no shell
            ["buildkite-agent", "redactor", "add", "--format", "json"],
            env=dict(env),
            input=document.encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
