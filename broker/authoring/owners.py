"""A list of who there is, for the linter's `unresolved-owner`: one name a line, or a CODEOWNERS file.

CODEOWNERS as GitHub, GitLab, Gitea and Bitbucket write it: a pattern and then its owners; GitLab's `[Section][2] @owner`
has no pattern before them. Only whom it names is read, not for what.
"""

import re
from collections.abc import Iterator
from typing import Final

CODEOWNERS: Final = "CODEOWNERS"  # the file's name on every host
_SECTION: Final = re.compile(r"\^?\[[^\]]*\](?:\[[0-9]+\])?")
_PATTERN: Final = re.compile(r"(?:\\.|[^\s\\])+")  # `\ ` is a space in a file's name


def read_owners(text: str, *, codeowners: bool) -> frozenset[str]:
    """Everybody whom the text names, as it spells them. `#` begins a comment."""
    lines = (line.strip() for line in text.removeprefix("\ufeff").splitlines())
    written = [line for line in lines if line and not line.startswith("#")]
    if codeowners:
        return frozenset(name for line in written for name in _owners(line))
    return frozenset(name for line in written if (name := re.sub(r"\s+#.*", "", line)))


def _owners(line: str) -> Iterator[str]:
    before = _SECTION.match(line) or _PATTERN.match(line)
    for word in line[before.end() if before else 0 :].split():
        if word.startswith("#"):
            return
        if "@" in word:
            yield word
