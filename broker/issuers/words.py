"""Reading claims into a JobIdentity's words: what is absent, null, empty or of another type is None, never a guess."""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

Claims = Mapping[str, Any]

_REF_TYPES: Final = (
    ("refs/heads/", "branch"),
    ("refs/tags/", "tag"),
    ("refs/pull/", "pull-request"),  # GitHub, Forgejo, Azure, CircleCI, Semaphore
    ("refs/pull-requests/", "pull-request"),  # Bitbucket
    ("refs/merge-requests/", "pull-request"),  # GitLab
)
_ORIGIN: Final = re.compile(r"https://[A-Za-z0-9._~:/%+-]+")  # no user name before an @, no quotes, no spaces


def text(claims: Claims, name: str) -> str | None:
    """A claim that is a non-empty string."""
    value = claims.get(name)
    return value if type(value) is str and value else None


def ident(claims: Claims, name: str) -> str | None:
    """An id: a non-empty string, or a whole number written as one. `true` is not the number 1."""
    value = claims.get(name)
    if type(value) is str:
        return value or None
    return str(value) if type(value) is int else None


def flag(claims: Claims, name: str) -> bool | None:
    """A boolean, or the text that GitHub, GitLab and Forgejo sign in its place. `"True"` and `1` are neither."""
    value = claims.get(name)
    if value is True or value == "true":  # 1 == True, but `is` and text comparison let no number through
        return True
    if value is False or value == "false":
        return False
    return None


def inner(claims: Claims, *names: str) -> Claims:
    """The object nested under these names; an empty one where any step is missing or no object."""
    value: Any = claims
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def full_ref(ref: str | None) -> str | None:
    """A ref that is fully qualified, or nothing: `main` may be a branch or a tag, so it is neither."""
    return ref if ref is not None and ref.startswith("refs/") else None


def ref_type(ref: str | None) -> str | None:
    """`branch`, `tag` or `pull-request`, by the ref itself: a CI's own word calls `refs/pull/7/merge` a branch."""
    if ref is not None:
        for prefix, name in _REF_TYPES:
            if ref.startswith(prefix):
                return name
    return None


def page(origin: str | None, path: str, *segments: str | None) -> str | None:
    """A link for people: `page("https://github.com", "/{}/actions/runs/{}", "acme/payments", "42")`.

    Each value is percent-encoded (a slash stays), and one that could climb or leave the origin gives no link at all: the
    values are chosen by whoever runs the job, and an auditor clicks on the result.
    """
    if origin is None or _ORIGIN.fullmatch(origin) is None or ".." in origin:
        return None
    encoded = []
    for segment in segments:
        if segment is None or not segment.isprintable() or ".." in segment or "//" in segment:
            return None
        encoded.append(segment if segment.isascii() and segment.isalnum() else quote(segment, safe="/-_.~"))
    return origin + path.format(*encoded)
