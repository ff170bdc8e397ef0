"""A credential as text, in shapes that a parser will read: JSON, shell, dotenv, GitHub's environment file.

The values are chosen by a remote server. Each writer either quotes so that any value is data, or refuses the value;
none repairs it.
"""

from __future__ import annotations

import os

from jobkey.environment import merged
from jobkey.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobkey.exchange import Credential

FORMATS = ("json", "env", "dotenv", "github-env", "file")
PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./+=:@%,-")


def render(shape: str, credentials: list[Credential], *, prefix: bool = False, field: str = "") -> str:
    """The text in one of FORMATS, ending in a newline (but for `file`, which is the value alone)."""
    if shape == "json":
        return as_json(credentials)
    if shape == "file":
        return as_value(credentials, field)
    variables = merged(credentials, prefix=prefix)
    return {"env": as_shell, "dotenv": as_dotenv, "github-env": as_github}[shape](variables)


def as_json(credentials: list[Credential]) -> str:
    import json

    documents = [
        {
            "grant": one.grant,
            "lease": one.lease,
            "type": one.type,
            "expires_at": one.expires_at,
            "values": one.values,
            "env": one.env,
        }
        for one in credentials
    ]
    return json.dumps(documents[0] if len(documents) == 1 else documents, indent=2) + "\n"


def as_shell(variables: Mapping[str, str]) -> str:
    """For `.` or `eval` of a POSIX shell: within single quotes nothing but the single quote itself means anything."""
    return "".join("export {}='{}'\n".format(name, value.replace("'", "'\\''")) for name, value in variables.items())


def as_dotenv(variables: Mapping[str, str]) -> str:
    """Dialects agree on plain words and on single quotes around text without quote, backslash and line end; no further."""
    lines = []
    for name, value in variables.items():
        if not PLAIN.issuperset(value):
            if not value.isprintable() or "'" in value or "\\" in value:
                raise UsageError(
                    f"the value of {name} has characters that dotenv readers understand differently",
                    "Use --format json or --format env.",
                )
            value = f"'{value}'"  # noqa: PLW2901 - the quoted form of the same value
        lines.append(f"{name}={value}\n")
    return "".join(lines)


def as_github(variables: Mapping[str, str]) -> str:
    """GITHUB_ENV: a here-document each, its end a fresh random word (CVE-2022-35954 was a fixed one)."""
    text = ""
    for name, value in variables.items():
        end = f"jobkey_{os.urandom(16).hex()}"
        if end in value or "\r" in value:
            raise UsageError(
                f"the value of {name} cannot be written to GITHUB_ENV", "Use --format file or jobkey exec."
            )
        text += f"{name}<<{end}\n{value}\n{end}\n"
    return text


def as_value(credentials: list[Credential], field: str) -> str:
    """One value alone: the one named, or the only secret there is."""
    if len(credentials) != 1:
        raise UsageError("--format file takes one grant")
    one = credentials[0]
    name = field or (one.secrets[0] if len(one.secrets) == 1 else "")
    value = one.values.get(name) if name else None
    if not isinstance(value, str):
        raise UsageError(
            f"{one.grant} has no single value {name}".rstrip(), "Choose with --field: " + ", ".join(sorted(one.values))
        )
    return value
