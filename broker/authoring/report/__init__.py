"""What `policy check` found, in the shapes that people, code hosts and CI systems read. One file a format.

Pure: a Report in, text out. What comes from a file is data in every format: it can neither forge an annotation nor
move a cursor, and what XML cannot hold is replaced.
"""

from collections.abc import Callable, Mapping
from typing import Final

from broker.authoring.report import github, gitlab, json_, junit, sarif, text
from broker.authoring.report.model import Counts, Report, RuleInfo, kept

FORMATS: Final[Mapping[str, Callable[[Report], str]]] = {
    "text": text.render,
    "json": json_.render,
    "sarif": sarif.render,
    "github": github.render,
    "gitlab": gitlab.render,
    "junit": junit.render,
}

__all__ = ["FORMATS", "Counts", "Report", "RuleInfo", "kept"]
