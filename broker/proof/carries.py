"""Which fields of a job, and which unsafe triggers, are one raw claim in other words.

So a condition may move between the two, and a push is known to be no pull request. A kind's identity and triggers are
functions; that they depend on one claim, and how, is written here by hand and held against the functions by a property
test, for every kind and for claims of any type. What is not listed is a dimension of its own: nothing is lost but some
proofs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from operator import or_
from typing import Any, Final

from broker.issuers import ISSUERS, github
from broker.issuers.seam import IssuerKind
from broker.proof.languages import Pattern, Words
from broker.proof.regions import ANY_VALUE, NO_VALUE, TEXT, Region

Case = tuple[Region, Any]  # the claim's values, and the field's for all of them; SAME where it is the value itself
SAME: Final = object()
_ITSELF: Final[tuple[Case, ...]] = ((TEXT, SAME),)
_NO_TEXT: Final = ~TEXT


@dataclass(frozen=True, slots=True)
class Carry:
    """A field whose value is told by one claim: by the first case that the claim's value is in, or absent."""

    claim: str  # claims.repository
    cases: tuple[Case, ...]

    def pulled_back(self, region: Region) -> Region:
        """The claim's values for which the field is in `region`."""
        if self.cases is _ITSELF:  # most are, and a thousand statements ask
            return replace(_NO_TEXT, text=region.text) if region.absent else Region(text=region.text)
        found = NO_VALUE
        rest = ANY_VALUE
        for values, said in self.cases:
            here = values & rest
            if said is SAME:
                found |= here & region
            elif said in region:
                found |= here
            rest &= ~values
        return found | rest if region.absent else found

    def told(self, value: Any) -> Any:
        """The field's value for one of the claim's; None is absent."""
        said = next((said for values, said in self.cases if value in values), None)
        return value if said is SAME else said


_PULLS: Final = ("refs/pull/", "refs/pull-requests/", "refs/merge-requests/")
_TRUE: Final = Region(text=Words(frozenset({"true"})), bools=frozenset({True}))
_FALSE: Final = Region(text=Words(frozenset({"false"})), bools=frozenset({False}))


def _prefixed(prefix: str) -> Region:
    return Region(text=Pattern("prefix", prefix))


def _words(*texts: str) -> Region:
    return Region(text=Words(frozenset(texts)))


def _text(claim: str) -> Carry:
    return Carry(f"claims.{claim}", _ITSELF)


def _flag(claim: str) -> Carry:
    return Carry(f"claims.{claim}", ((_TRUE, True), (_FALSE, False)))


def _ref(claim: str) -> Carry:
    return Carry(f"claims.{claim}", ((_prefixed("refs/"), SAME),))


def _ref_type(claim: str) -> Carry:
    named = (("refs/heads/", "branch"), ("refs/tags/", "tag"), *((prefix, "pull-request") for prefix in _PULLS))
    return Carry(f"claims.{claim}", tuple((_prefixed(prefix), name) for prefix, name in named))


_CIRCLE: Final = "oidc.circleci.com/"
_PULL: Final = reduce(or_, map(_prefixed, _PULLS))
_FORGE: Final = {
    "project": _text("repository"),
    "project_id": _text("repository_id"),
    "owner": _text("repository_owner"),
    "owner_id": _text("repository_owner_id"),
    "ref": _ref("ref"),
    "ref_type": _ref_type("ref"),
    "ref_protected": _flag("ref_protected"),
    "trigger": _text("event_name"),
    "run_id": _text("run_id"),
    "attempt": _text("run_attempt"),
    "actor": _text("actor"),
    "actor_id": _text("actor_id"),
    "sha": _text("sha"),
}
# By kind: the field -> how one claim tells it.
CARRIES: Final[Mapping[str, Mapping[str, Carry]]] = {
    "github": {
        **_FORGE,
        "environment": _text("environment"),
        "job_id": _text("check_run_id"),
        "runner": _text("runner_environment"),
    },
    "forgejo": {**_FORGE, "workflow": _text("workflow_ref")},
    "gitlab": {
        "project": _text("project_path"),
        "owner": _text("namespace_path"),
        "ref_protected": _flag("ref_protected"),
        "environment": _text("environment"),
        "environment_protected": _flag("environment_protected"),
        "trigger": _text("pipeline_source"),
        "workflow": _text("ci_config_ref_uri"),
        "actor": _text("user_login"),
        "sha": _text("sha"),
        "runner": _text("runner_environment"),
    },
    "circleci": {
        "project": _text(_CIRCLE + "vcs-origin"),
        "project_id": _text(_CIRCLE + "project-id"),
        "owner_id": _text(_CIRCLE + "org-id"),
        "ref": _ref(_CIRCLE + "vcs-ref"),
        "ref_type": _ref_type(_CIRCLE + "vcs-ref"),
        "workflow": _text(_CIRCLE + "pipeline-definition-id"),
        "run_id": _text(_CIRCLE + "pipeline-id"),
        "job_id": _text(_CIRCLE + "job-id"),
    },
    "buildkite": {
        "project_id": _text("pipeline_id"),
        "owner": _text("organization_slug"),
        "owner_id": _text("organization_id"),
        "trigger": _text("build_source"),
        "workflow": _text("step_key"),
        "job_id": _text("job_id"),
        "sha": _text("build_commit"),
        "runner": _text("runner_environment"),
    },
    "bitbucket": {
        "project_id": _text("repositoryUuid"),
        "owner_id": _text("workspaceUuid"),
        "environment": _text("deploymentEnvironmentUuid"),
        "run_id": _text("pipelineUuid"),
        "job_id": _text("stepUuid"),
        "actor_id": _text("accountUuid"),
        "sha": _text("commitSha"),
    },
    "semaphore": {
        "project_id": _text("prj_id"),
        "owner": _text("org"),
        "owner_id": _text("org_id"),
        "ref": _ref("ref"),
        "trigger": _text("trg"),
        "run_id": _text("wf_id"),
        "job_id": _text("job_id"),
    },
    "spacelift": {
        "project_id": _text("callerId"),
        "owner": _text("spacePath"),
        "owner_id": _text("spaceId"),
        "trigger": _text("runType"),
        "run_id": _text("runId"),
    },
    "terraform-cloud": {
        "project_id": _text("terraform_workspace_id"),
        "owner": _text("terraform_organization_name"),
        "owner_id": _text("terraform_organization_id"),
        "trigger": _text("terraform_run_phase"),
        "run_id": _text("terraform_run_id"),
    },
    "azure-devops": {
        "project_id": _text("prj_id"),
        "owner_id": _text("org_id"),
        "ref": _ref("rpo_ref"),
        "ref_type": _ref_type("rpo_ref"),
        "sha": _text("rpo_ver"),
    },
    "google": {"project_id": _text("sub")},
}


@dataclass(frozen=True, slots=True)
class Signal:
    """An unsafe trigger that is there whenever a claim's value is in `values`; where `exact`, at no other time."""

    claim: str
    values: Region
    exact: bool = True


def _each(claim: str, names: Iterable[str]) -> dict[str, tuple[Signal, ...]]:
    return {name: (Signal(f"claims.{claim}", _words(name)),) for name in names}


def _unless(claim: str, safe: Region) -> tuple[Signal, ...]:
    return (Signal(f"claims.{claim}", ~safe),)


def _sources(claim: str, safe: Iterable[str], unknown: str, triggers: Iterable[str]) -> dict[str, tuple[Signal, ...]]:
    """Every value of a claim is a trigger of its own but these safe ones, and any that is not known is `unknown`."""
    known = [name for name in triggers if name != unknown]
    return {**_each(claim, known), unknown: _unless(claim, _words(*safe, *known))}


# By kind: the trigger -> what in one claim shows it.
SIGNALS: Final[Mapping[str, Mapping[str, tuple[Signal, ...]]]] = {
    "github": _each("event_name", github.EVENTS),
    "forgejo": _each("event_name", github.EVENTS),
    "gitlab": {
        **_each("pipeline_source", ["external_pull_request_event"]),
        "merge_request_event": (Signal("claims.pipeline_source", _words("merge_request_event"), exact=False),),
    },
    "circleci": {
        "ssh-rerun": _unless(_CIRCLE + "ssh-rerun", Region(bools=frozenset({False}))),
        "pull-request": (Signal(f"claims.{_CIRCLE}vcs-ref", _PULL),),
    },
    "buildkite": _sources(
        "build_source", ("webhook", "schedule"), "unknown-source", ISSUERS["buildkite"].trigger_names
    ),
    "bitbucket": {"no-environment": _unless("deploymentEnvironmentUuid", TEXT)},
    "semaphore": {
        **_sources("job_type", ["pipeline_job"], "unknown-job-type", ["debug_job", "project_debug_job"]),
        "pull-request": (
            Signal("claims.ref_type", _words("pull-request"), exact=False),
            Signal("claims.pr", TEXT, exact=False),
            Signal("claims.pr_branch", TEXT, exact=False),
            Signal("claims.ref", _PULL, exact=False),
        ),
    },
    "spacelift": _sources("runType", ["TRACKED"], "unknown-run-type", ISSUERS["spacelift"].trigger_names),
    "terraform-cloud": _sources("terraform_run_phase", ["apply"], "unknown-phase", ["plan"]),
    "azure-devops": {
        "no-ref": _unless("rpo_ref", _prefixed("refs/")),
        "pull-request": (Signal("claims.rpo_ref", _PULL),),
    },
}


def known(kind: IssuerKind | None) -> str:
    """The kind's name, where it is one that the tables were held against; empty for all others."""
    if kind is None or kind.name not in ISSUERS:
        return ""
    ours = ISSUERS[kind.name]
    same = ours.identity is kind.identity and ours.unsafe_triggers is kind.unsafe_triggers
    return kind.name if same else ""


_KEYED: Final = {name: {f"job.{field}": carry for field, carry in fields.items()} for name, fields in CARRIES.items()}


def carries_of(kind: IssuerKind | None) -> Mapping[str, Carry]:
    """`job.NAME` -> its claim."""
    return _KEYED.get(known(kind), {})


@lru_cache(maxsize=1024)
def quiet(name: str, admitted: frozenset[str]) -> tuple[Mapping[str, Region], frozenset[str]]:
    """What claims have to be where no other trigger than the admitted ones may show, by key; and what that settles.

    `name` is that of a known kind. The triggers settled are those of which nothing else has to be asked.
    """
    regions: dict[str, Region] = {}
    settled = set()
    for trigger, signals in SIGNALS.get(name, {}).items():
        if any(signal.exact for signal in signals):
            settled.add(trigger)
        if trigger not in admitted:
            for signal in signals:
                regions[signal.claim] = regions.get(signal.claim, ANY_VALUE) & ~signal.values
    return regions, frozenset(settled)
