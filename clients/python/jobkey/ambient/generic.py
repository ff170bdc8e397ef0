"""Any CI: the user says where the token is, in JOBKEY_SUBJECT_TOKEN or JOBKEY_SUBJECT_TOKEN_FILE (read each time)."""

from __future__ import annotations

from jobkey.ambient.seam import Ambient, from_file, from_variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Generic(Ambient):
    name = "generic"

    def token(self, env: Mapping[str, str], audience: str, timeout: float) -> str:  # noqa: ARG002 - the token is given
        path = env.get("JOBKEY_SUBJECT_TOKEN_FILE")
        if path and not env.get("JOBKEY_SUBJECT_TOKEN"):
            return from_file(path)
        return from_variable(env, ("JOBKEY_SUBJECT_TOKEN",), "Set JOBKEY_SUBJECT_TOKEN or JOBKEY_SUBJECT_TOKEN_FILE.")

    def job(self, env: Mapping[str, str]) -> str:
        """Without a job number, the token itself tells jobs apart (its hash goes into a file name, never the token)."""
        return env.get("JOBKEY_SUBJECT_TOKEN") or env.get("JOBKEY_SUBJECT_TOKEN_FILE") or ""


AMBIENT = Generic()
