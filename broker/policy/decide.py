"""The answer: may this job have these grants, and if not, why not.

* `decide` is total and pure. It never raises; whatever it cannot judge is a denial.
* All grants of a request, or none.
* A refusal gives every miss of every statement, for the ledger and the policy's owners. The job never reads any of it:
  an unknown grant and a refused one are the same to it.
* What a job sent wrongly is told to it (`BadParams`) only after a statement trusts it.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from pydantic import ValidationError

from broker.model import GrantRequest, VerifiedToken
from broker.policy.answers import Allowed, AllowedGrant, BadParams, Decision, Denied, Miss, ParamProblem
from broker.policy.misses import Check, every_miss, miss_of, shown, unknown_grant
from broker.policy.policyset import Grant, Policy, PolicySet, Statement
from broker.policy.template import Unfillable


def decide(policies: PolicySet, token: VerifiedToken, requests: Sequence[GrantRequest], *, now: datetime) -> Decision:  # noqa: ARG001  an answer may depend on the instant it is asked for; no condition needs it yet
    """May this job have all of these? See the module's promises."""
    allowed: list[AllowedGrant] = []
    misses: list[Callable[[], Iterable[Miss]]] = []
    problems: list[ParamProblem] = []
    missing: list[tuple[str, str]] = []
    for request in requests:
        found = policies.grants.get(request.grant)
        if found is None:
            misses.append(partial(unknown_grant, request.grant))
            continue
        statement = trusting(found[0], token)
        if statement is None:
            misses.append(partial(every_miss, *found, token))
            continue
        match _granted(*found, statement, token, request):
            case AllowedGrant() as grant:
                allowed.append(grant)
            case BadParams() as bad:
                problems.extend(bad.problems)
                missing.extend(bad.missing)
            case missed:
                misses.append(partial(iter, missed))
    if misses:
        return Denied(lambda: tuple(miss for found in misses for miss in found()))
    if problems:
        return BadParams(tuple(problems), tuple(missing))
    if not allowed:
        return Denied(tuple)
    return Allowed(tuple(allowed))


def judge(
    policy: Policy, grant: Grant, token: VerifiedToken, request: GrantRequest, *, trust_only: bool = False
) -> AllowedGrant | BadParams | list[Miss]:
    """One grant. With `trust_only`, what the job sends is left out of it: an example that says nothing about params."""
    statement = trusting(policy, token)
    if statement is None:
        return list(every_miss(policy, grant, token))
    return _granted(policy, grant, statement, token, request, trust_only=trust_only)


def trusting(policy: Policy, token: VerifiedToken) -> Statement | None:
    """The first statement that trusts this job."""
    for statement in policy.statements:
        if statement.trusts(token):
            return statement
    return None


def _granted(
    policy: Policy,
    grant: Grant,
    statement: Statement,
    token: VerifiedToken,
    request: GrantRequest,
    *,
    trust_only: bool = False,
) -> AllowedGrant | BadParams | list[Miss]:
    options = grant.options
    if grant.fill is not None:
        try:
            options = _filled(grant, token)
        except Unfillable as error:
            check = Check(key="with", code="template", expected="values that fit the options", got=str(error))
            return [miss_of(policy, grant, statement, check)]
    params = None if trust_only else _params(policy, grant, statement, request)
    if isinstance(params, list | BadParams):
        return params
    ttl = grant.ttl if request.ttl is None else min(request.ttl, grant.ttl)
    if ttl < grant.shortest:
        message = f"the shortest life here is {int(grant.shortest.total_seconds())}s; ask for that or more"
        return BadParams((ParamProblem(grant=grant.name, param="ttl", message=message),))
    return AllowedGrant(
        name=grant.name,
        policy=policy.name,
        policy_version=policy.version,
        statement=statement.number,
        backend=grant.backend,
        kind=grant.kind,
        ttl=ttl,
        options=options,
        params=params,
        observed=policy.observed,
    )


def _filled(grant: Grant, token: VerifiedToken) -> Any:
    """The options with this job's values in them, validated as a whole. Raises Unfillable."""
    assert grant.fill is not None
    data = grant.fill(token)
    if grant.options_model is None:
        return data
    try:
        return grant.options_model.model_validate_json(json.dumps(data))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        raise Unfillable(
            f"with these values {'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}"
        ) from None


def _params(policy: Policy, grant: Grant, statement: Statement, request: GrantRequest) -> Any:
    sent = request.params or {}
    if sent or grant.no_params is None:
        params = _validated(grant, sent)
        if isinstance(params, BadParams):
            return params
    else:
        params = grant.no_params
    if misses := list(_restricted(policy, grant, statement, sent)):
        return misses
    return params


def _validated(grant: Grant, sent: Mapping[str, Any]) -> Any:
    if grant.params_model is None:
        return dict(sent)
    try:
        return grant.params_model.model_validate_json(json.dumps(dict(sent), allow_nan=False))
    except ValidationError as error:
        problems, missing = [], []
        for item in error.errors(include_input=False, include_url=False, include_context=False):
            name = str(item["loc"][0]) if item["loc"] else ""
            message = item["msg"].removeprefix("Value error, ")
            if item["type"] == "missing" and len(item["loc"]) == 1:
                missing.append((grant.name, name))
                message = "this is needed"
            elif item["type"] == "extra_forbidden" and len(item["loc"]) == 1:
                name, message = shown(name), "this is not known here"
            problems.append(ParamProblem(grant=grant.name, param=name, message=message))
        return BadParams(tuple(problems), tuple(missing))
    except (TypeError, ValueError, RecursionError):
        return BadParams((ParamProblem(grant=grant.name, param="", message="params have to be a JSON object"),))


def _restricted(policy: Policy, grant: Grant, statement: Statement, sent: Mapping[str, Any]) -> Iterator[Miss]:
    for name, condition in grant.restrictions:
        value = sent.get(name)
        if not condition.holds(value):
            check = Check(key=f"params.{name}", code="params", expected=condition.shown, got=shown(value))
            yield miss_of(policy, grant, statement, check)
