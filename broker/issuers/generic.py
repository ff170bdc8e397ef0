"""Any other OIDC issuer, with a map from the broker's words to its claims.

    inhouse:
      kind: generic
      url: https://ci.acme.example
      map:
        project: claims.repo
        project_id: claims.repo_id
        ref: claims.ref
        ref_protected: claims.protected
        runner: claims["kubernetes.io"].node.name      # a name with dots or slashes stands in brackets and quotes

* A path reads one claim and nothing else: no defaults, no joining, so no two claims can be mixed up into a third.
* `ref` counts only fully qualified; `main` becomes `refs/heads/main` where `ref_type` is mapped and says `branch`.
* The unsafe triggers of GitHub and GitLab count here as well, under `trigger`; so do `fork: true` and a pull request's ref.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from broker.issuers import github, gitlab
from broker.issuers.seam import STANDARD, Claims, IssuerKind, Trust
from broker.issuers.words import flag, full_ref, ref_type
from broker.model import JOB_FIELDS, JobIdentity

TRIGGERS: Final = MappingProxyType({
    **github.TRIGGERS,
    **gitlab.TRIGGERS,
    "fork": "the code is another project's, which may be anybody's",
})  # fmt: skip

_TELLING: Final = frozenset({"ref", "ref_type", "trigger", "fork"})  # the words that may tell an unsafe trigger
_FLAGS: Final = frozenset({"ref_protected", "environment_protected", "fork"})
_STEP: Final = re.compile(r"""\.([A-Za-z_][A-Za-z0-9_-]*)|\["([^"\\]+)"\]|\['([^'\\]+)'\]""")
_LINK: Final = re.compile(r"https://[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~%/?&=#+-]*)?")
_PREFIXES: Final = {"branch": "refs/heads/", "tag": "refs/tags/"}
_MAP_HELP: Final = 'write claims.name, claims.outer.inner or claims["name.with/dots"]'


def path(expression: str) -> tuple[str, ...]:
    """`claims["kubernetes.io"].node.name` is `("kubernetes.io", "node", "name")`. Raises ValueError with what to write."""
    rest = expression.removeprefix("claims")
    steps: list[str] = []
    position = 0
    while rest != expression and (step := _STEP.match(rest, position)):
        steps.append(step[1] or step[2] or step[3])
        position = step.end()
    if not steps or position != len(rest):
        raise ValueError(f"{expression!r} is not the path of a claim: {_MAP_HELP}")
    return tuple(steps)


def build(mapping: Mapping[str, str]) -> IssuerKind:
    """The generic kind with this map (JobIdentity field -> path). Raises ValueError with what to write instead."""
    paths: dict[str, tuple[str, ...]] = {}
    for word, expression in mapping.items():
        if word not in JOB_FIELDS:
            near = difflib.get_close_matches(word, JOB_FIELDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(JOB_FIELDS)}"
            raise ValueError(f"map: {word!r} is none of the words a job is known by; {hint}")
        try:
            paths[word] = path(expression)
        except ValueError as error:
            raise ValueError(f"map.{word}: {error}") from None
    if "project" not in paths and "project_id" not in paths:
        raise ValueError(
            "map: say at least which claim holds `project` or `project_id`; without one no policy can match"
        )
    telling = _identity({word: steps for word, steps in paths.items() if word in _TELLING})
    return replace(
        GENERIC,
        identity=_identity(paths),
        unsafe_triggers=lambda claims: _unsafe(telling(claims)),
        immutable=tuple(word for word in ("project_id", "owner_id") if word in paths),
    )


def _identity(paths: Mapping[str, tuple[str, ...]]) -> Callable[[Claims], JobIdentity]:
    def identity(claims: Claims) -> JobIdentity:
        words: dict[str, Any] = {word: _read(claims, steps, word) for word, steps in paths.items()}
        ref, kind = words.get("ref"), words.get("ref_type")
        if ref is not None and full_ref(ref) is None:
            ref = _PREFIXES[kind] + ref if kind in _PREFIXES else None
        words["ref"] = ref
        words["ref_type"] = ref_type(ref) or kind
        return JobIdentity(**words)

    return identity


def _read(claims: Claims, steps: tuple[str, ...], word: str) -> str | bool | None:
    value: Any = claims
    for step in steps:
        if not isinstance(value, dict | Mapping):  # dict first: the abstract class takes ten times as long to ask
            return None
        value = value.get(step)
    if word in _FLAGS:
        return flag({"": value}, "")
    if type(value) is int:
        return str(value)
    if type(value) is not str or not value:
        return None
    if word == "run_url" and _LINK.fullmatch(value) is None:  # an auditor clicks on it
        return None
    return value


def _unsafe(job: JobIdentity) -> tuple[str, ...]:
    found = [job.trigger] if job.trigger is not None and job.trigger in TRIGGERS else []
    if job.fork and "fork" not in found:
        found.append("fork")
    if job.ref_type == "pull-request" and not found:
        found.append(github.PULL_REQUEST_REF)
    return tuple(found)


_EXAMPLE = {
    "sub": "acme/payments",
    "repo": "acme/payments",
    "repo_id": "4711",
    "ref": "refs/heads/main",
    "protected": True,
    "event": "push",
    "run": 318,
}

GENERIC: Final = IssuerKind(
    name="generic",
    title="Any OIDC issuer",
    url=None,
    accepts=r"https://[^/?#]+(/[^?#]*)?",
    required=frozenset({"sub"}),
    claims=MappingProxyType({**STANDARD, "sub": Trust.NAME, "jti": Trust.ID, "*": Trust.USER}),
    identity=lambda _: JobIdentity(),  # `build` puts the map's in its place
    unsafe_triggers=lambda _: (),
    trigger_names=TRIGGERS,
    immutable=("project_id", "owner_id"),
    examples=MappingProxyType({
        "generic-branch": _EXAMPLE,
        "generic-feature-branch": {**_EXAMPLE, "ref": "refs/heads/faster-refunds", "protected": False},
        "generic-pull-request": {**_EXAMPLE, "ref": "refs/pull/12/head", "protected": False, "event": "pull_request"},
    }),
)  # fmt: skip
