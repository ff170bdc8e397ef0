"""What the schemas of policies and of guardrails share: a job's words one by one, conditions, and what a broker knows."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, get_args, get_type_hints

from broker.backends import BACKENDS
from broker.issuers import ISSUERS
from broker.issuers.seam import IssuerKind
from broker.model import JobIdentity
from broker.schemas import shape
from broker.schemas.shape import Schema
from broker.settings import Settings

WORDS: Final[Mapping[str, str]] = {
    "project": "the repository or project, by name: acme/payments. A name can be registered again: write project_id too",
    "project_id": "the repository's or project's id, as text: immutable, what to anchor a policy on",
    "owner": "the organisation, group or workspace, by name",
    "owner_id": "its id, as text: immutable",
    "ref": "always whole: refs/heads/main, refs/tags/v1.2.0",
    "ref_type": "branch, tag or pull-request",
    "ref_protected": "true where the CI says that the ref is protected",
    "environment": "the deployment environment of the job",
    "environment_protected": "true where the CI says that the environment's rules apply",
    "trigger": "the CI's own word for what started the job: push, schedule, merge_request_event",
    "fork": "true where the code comes from a fork",
    "workflow": "the file or definition that runs, with its ref where the CI tells",
    "run_id": "this run",
    "job_id": "this job of the run",
    "attempt": "which attempt of the run this is",
    "actor": "who started it, by a name that may change",
    "actor_id": "who started it, by an id",
    "sha": "the commit",
    "runner": "the kind of runner",
    "run_url": "a page about the run that a person can open",
}
_TYPES: Final = {name: get_args(hint)[0] for name, hint in get_type_hints(JobIdentity).items()}
_EXAMPLES: Final[Mapping[str, list[Any]]] = {
    "project": ["acme/payments"],
    "project_id": ["512345678"],
    "owner": ["acme"],
    "owner_id": ["9123456"],
    "ref": ["refs/heads/main", {"glob": "refs/tags/v*"}],
    "ref_type": ["branch", "tag"],
    "ref_protected": [True],
    "environment": ["production", ["staging", "production"]],
    "environment_protected": [True],
    "trigger": ["push"],
}


def improve(definitions: Schema, settings: Settings | None) -> None:
    """Statements and grants among `definitions` as an editor can complete them."""
    statement = definitions["StatementPart"]["properties"]
    condition = definitions["Condition"] = statement["claims"]["additionalProperties"]
    definitions["YesNo"] = _yes_no()
    statement["claims"]["additionalProperties"] = {"$ref": "#/$defs/Condition"}
    definitions["GrantPart"]["properties"]["params"]["additionalProperties"] = {"$ref": "#/$defs/Condition"}
    condition["anyOf"][2]["properties"]["not"] = {
        "$ref": "#/$defs/Condition",
        "description": "there, and not this; a missing claim does not satisfy it",
    }
    condition["anyOf"][2]["properties"]["contains"] |= {"$ref": "#/$defs/Condition"}
    statement["job"] = {
        **{name: value for name, value in statement["job"].items() if name != "additionalProperties"},
        "properties": {name: _word(name) for name in WORDS},
        "additionalProperties": False,
    }
    statement["allow_triggers"]["items"] |= offered({name for kind in kinds(settings) for name in kind.trigger_names})
    if settings is not None:
        statement["issuer"] |= {"enum": sorted(settings.issuers), "examples": sorted(settings.issuers)}
        _know(definitions, settings)


def kinds(settings: Settings | None) -> list[IssuerKind]:
    """The kinds whose words are offered."""
    if settings is None:
        return list(ISSUERS.values())
    return [issuer.kind for issuer in settings.issuers.values()]


def offered(words: Iterable[str]) -> dict[str, Any]:
    """Any text, with these in an editor's list."""
    return {"type": "string", "anyOf": [{"enum": sorted(words)}, {"type": "string"}]}


def _word(name: str) -> Schema:
    kind = "YesNo" if _TYPES[name] is bool else "Condition"
    return {"description": WORDS[name], "$ref": f"#/$defs/{kind}", "examples": list(_EXAMPLES.get(name, ()))}


def _yes_no() -> Schema:
    return {
        "description": "true or false, without quotes",
        "anyOf": [
            {"type": "boolean"},
            {"type": "array", "minItems": 1, "items": {"type": "boolean"}},
            {
                "type": "object",
                "minProperties": 1,
                "maxProperties": 1,
                "additionalProperties": False,
                "properties": {
                    "not": {"$ref": "#/$defs/YesNo", "description": "there, and not this"},
                    "absent": {"const": True},
                },
            },
        ],
    }


def _know(definitions: Schema, settings: Settings) -> None:
    """Names of this broker in the place of any, and `with` and `params` by the backend that is named."""
    grant = definitions["GrantPart"]
    grant["properties"]["backend"] |= {"enum": sorted(settings.backends), "examples": sorted(settings.backends)}
    cases = []
    for kind in sorted({kind for kind, _ in settings.backends.values()}):
        own = shape.moved(shape.of(BACKENDS[kind].Options, f"what {kind} takes"), kind, definitions)
        names = sorted(name for name, (one, _) in settings.backends.items() if one == kind)
        then: Schema = {"properties": {"with": own}}
        if own.get("required"):
            then["required"] = ["with"]
        params = sorted(info.alias or field for field, info in BACKENDS[kind].Params.model_fields.items())
        then["properties"]["params"] = {"propertyNames": {"enum": params}} if params else {"maxProperties": 0}
        cases.append({"if": {"properties": {"backend": {"enum": names}}, "required": ["backend"]}, "then": then})
    grant["allOf"] = cases
