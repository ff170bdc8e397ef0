"""A policy file replaced as a whole: a reader sees the old text or the new one, and an editor's own change is not lost."""

import os
import tempfile
from pathlib import Path


def rewrite(path: Path, before: bytes, after: bytes) -> str | None:
    """Put `after` where `before` stood, with the same mode. None where it is done; else why not, and the file is as it was."""
    real = path.resolve()  # a link stays one
    try:
        mode = real.stat().st_mode & 0o7777
        descriptor, temporary = tempfile.mkstemp(dir=real.parent, prefix=f".{real.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(after)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(mode)
            if real.read_bytes() != before:
                return "somebody changed the file in the meantime; try again"
            Path(temporary).replace(real)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        return f"cannot be written: {error.strerror}"
    return None
