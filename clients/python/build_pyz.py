"""Build `jobkey.pyz`: the client as one file, the same bytes from the same source on any machine.

`python build_pyz.py [TARGET]`. Entries are sorted, carry one fixed time and mode, and are stored without compression
(whose output depends on the zlib at hand). `python3 jobkey.pyz` and, where `/usr/bin/env` is, `./jobkey.pyz` run it.
"""

import hashlib
import io
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
EPOCH = (1980, 1, 1, 0, 0, 0)  # the first that a zip can tell
MAIN = "from jobkey.cli import entry\n\nentry()\n"


def build() -> bytes:
    files = {path.relative_to(HERE).as_posix(): path.read_bytes() for path in (HERE / "jobkey").rglob("*.py")}
    files["__main__.py"] = MAIN.encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system = 3  # Unix, wherever it is built
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, files[name])
    return b"#!/usr/bin/env python3\n" + buffer.getvalue()


def main() -> None:
    target = Path(sys.argv[1] if len(sys.argv) > 1 else HERE / "dist" / "jobkey.pyz")
    data = build()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    target.chmod(0o755)
    print(f"{hashlib.sha256(data).hexdigest()}  {target}")


if __name__ == "__main__":
    main()
