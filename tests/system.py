"""Programs of the operating system that some tests need, and what happens where one is missing.

* On a developer's machine the test skips and names the program.
* With `JOBKEY_REQUIRE_SYSTEM=1`, as in CI, it fails: a green run cannot hide a skip.

`tests/system-packages.txt` lists the Debian packages these programs come from.
"""

import os
import shutil

import pytest

_ADMIN_FOLDERS = ("/usr/sbin", "/sbin")  # sshd lives here, and a plain user's PATH often leaves them out


def find(program: str) -> str | None:
    """The program's absolute path, or None."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_ADMIN_FOLDERS])
    return shutil.which(program, path=path)


def require(*programs: str) -> list[str]:
    """The programs' absolute paths, in the order asked. Skips the running test, or fails it, where one is missing."""
    found = {program: find(program) for program in programs}
    missing = [program for program, path in found.items() if path is None]
    if missing:
        said = f"needs {', '.join(missing)} (see tests/system-packages.txt)"
        if os.environ.get("JOBKEY_REQUIRE_SYSTEM") == "1":
            pytest.fail(f"{said}, and JOBKEY_REQUIRE_SYSTEM=1 forbids skipping", pytrace=False)
        pytest.skip(said)
    return [path for path in found.values() if path is not None]
