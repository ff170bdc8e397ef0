"""Build the client as one file that any Python runs: `python -I tools/pyz.py dist/jobkey.pyz`.

* The same sources give the same bytes: names sorted, times fixed, so that a published hash can be checked by anyone.
* The entry point is the one that clients/python/pyproject.toml declares for the `jobkey` command.
"""
# ruff: noqa: T201, INP001 - a script: it prints

import hashlib
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Final

CLIENT: Final = Path("clients/python")
FIRST_DAY: Final = (1980, 1, 1, 0, 0, 0)  # the earliest a zip file can say
MAIN: Final = """\
import sys

from {module} import {function}

if __name__ == "__main__":
    sys.exit({function}())
"""


def build(target: Path) -> None:
    """Write the archive, executable, with a `#!` line in front."""
    project = tomllib.loads((CLIENT / "pyproject.toml").read_text())["project"]
    module, _, function = project["scripts"]["jobkey"].partition(":")
    files = {path.relative_to(CLIENT).as_posix(): path.read_bytes() for path in (CLIENT / "jobkey").rglob("*.py")}
    files["__main__.py"] = MAIN.format(module=module, function=function).encode()
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as out:
        out.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in sorted(files):
                entry = zipfile.ZipInfo(name, FIRST_DAY)
                entry.external_attr = 0o644 << 16
                entry.create_system = 3  # Unix, whatever system builds it
                archive.writestr(entry, files[name], zipfile.ZIP_DEFLATED, 9)
    target.chmod(0o755)
    print(f"{hashlib.sha256(target.read_bytes()).hexdigest()}  {target}")


if __name__ == "__main__":
    if len(sys.argv) != 2:  # noqa: PLR2004 - the program's name and the target
        raise SystemExit("usage: python -I tools/pyz.py TARGET")
    build(Path(sys.argv[1]))
