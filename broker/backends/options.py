"""What the backends' option models share: whole matches, templates not filled in yet, safe variable names, safe URLs.

A policy is checked when it loads, with `{{ job.x }}` still in it, and again with the job's values in place. So each
shape is asked of the text with every template taken for one letter (`whole`), and at mint nothing may be left (`settled`).
"""

import ipaddress
import re
from collections.abc import Sequence
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, ValidationInfo

from broker.backends.seam import BackendError

TEMPLATE: Final = re.compile(r"\{\{[^{}]*\}\}")
_ENV: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
# Variables that make the next program run somebody's code, or that the CI itself reads.
_ENV_TAKEN: Final = frozenset({
    "BASH_ENV", "CDPATH", "ENV", "GCONV_PATH", "HOME", "IFS", "JAVA_TOOL_OPTIONS", "LOCPATH", "NODE_OPTIONS", "PATH",
    "PERL5LIB", "PERL5OPT", "PROMPT_COMMAND", "PS4", "PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "RUBYLIB", "RUBYOPT",
    "SHELL", "SHELLOPTS", "TMPDIR",
})  # fmt: skip
_ENV_TAKEN_PREFIX: Final = ("ACTIONS_", "BASH_FUNC", "CI_", "DYLD_", "GIT_", "GITHUB_", "GITLAB_", "LD_", "RUNNER_")


def whole(pattern: re.Pattern[str], text: str, says: str) -> str:
    """`text`, where all of it matches once each template stands for one letter. Raises ValueError without the text."""
    if not pattern.fullmatch(TEMPLATE.sub("x", text)):
        raise ValueError(says)
    return text


def settled(*values: Any) -> None:
    """Raises BackendError where a template is left in one of the values: none ever reaches a target.

    Shapes need no second look: options without a template in them were validated as they stand.
    """
    if _has_template(values):
        raise BackendError("an option still holds a template; this is a fault of the broker", retry=False)


def _has_template(value: Any) -> bool:
    if isinstance(value, str):
        return "{{" in value
    if isinstance(value, dict):
        return any(_has_template(item) for pair in value.items() for item in pair)
    return isinstance(value, list | tuple) and any(_has_template(item) for item in value)


def listed(items: Sequence[str], one: str, many: str) -> str:
    """`the principal deploy`, `the principals a and b`: for what `describe` says."""
    if len(items) == 1:
        return f"the {one} {items[0]}"
    return f"the {many} {', '.join(items[:-1])} and {items[-1]}"


def _env_name(name: str) -> str:
    if not _ENV.fullmatch(name):
        raise ValueError("a variable is named with A-Z, 0-9 and _, at most 64 of them")
    if name in _ENV_TAKEN or name.startswith(_ENV_TAKEN_PREFIX):
        raise ValueError(f"{name} steers the programs that a job runs; choose another variable")
    return name


EnvName = Annotated[str, AfterValidator(_env_name)]


def service_url(url: str) -> str:
    """https, or http to this very machine; no user, query or fragment. Raises ValueError."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("this is not a URL") from None
    if not host or parts.username is not None or parts.query or parts.fragment or not url.isascii():
        raise ValueError("a URL with a host and without user, query or fragment is expected")
    if parts.scheme == "http" and _is_loopback(host):
        return url.rstrip("/")
    if parts.scheme != "https":
        raise ValueError("https is needed; plain http is for loopback only")
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


ServiceUrl = Annotated[str, AfterValidator(service_url)]


def _beside(path: str, info: ValidationInfo) -> str:
    folder = info.context.get("folder") if isinstance(info.context, dict) else None
    return str(folder / path) if folder is not None else path


PathBeside = Annotated[str, AfterValidator(_beside)]  # relative to the validation context's `folder`, as references are
