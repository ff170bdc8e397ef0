"""The API's own description, OpenAPI 3.1, with the bodies' schemas taken from the models that check them."""

from typing import Any, Final

from pydantic.json_schema import models_json_schema

from broker import __version__
from broker.exchange.check_body import CheckBody
from broker.web import wire

REF: Final = "#/components/schemas/"
PROBLEMS: Final = {
    "401": "The token or session is not good: it is malformed, expired, not for this broker, or signed by nobody we trust.",
    "403": "The token is good and no policy grants this, or no role does. `case` is where the owners of the policy read why.",
    "404": "There is no such thing in this session, or for this person.",
    "409": "The token was used before, or the lease has ended.",
    "413": "The body is larger than 64 KiB.",
    "422": "The request is wrong; `detail` says where, `missing` what a client can make.",
    "429": "Too many refused requests from this owner, or cases read by this person; see Retry-After.",
    "502": "A backend failed; nothing was issued.",
    "503": "The ledger or an issuer's keys cannot be had; nothing was issued.",
}
PEOPLE_PROBLEMS: Final = ("401", "403", "503")
_WEBHOOK_SCHEMES: Final[dict[str, Any]] = {
    "githubSignature": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Hub-Signature-256",
        "description": "sha256= and the hexadecimal HMAC-SHA-256 of the body under the shared secret",
    },
    "gitlabToken": {"type": "apiKey", "in": "header", "name": "X-Gitlab-Token", "description": "The shared secret"},
}
JOB_PROBLEMS: Final = ("401", "403", "409", "413", "422", "429", "502", "503")


def openapi(url: str, *, webhook: bool = False) -> dict[str, Any]:
    """The document served at `/openapi.json`; `webhook`, where the broker follows a repository whose server may wake it."""
    _, defined = models_json_schema(
        [(wire.CredentialsBody, "validation"), (wire.RenewBody, "validation"), (CheckBody, "validation")],
        ref_template=REF + "{model}",
        by_alias=True,
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Jobkey broker",
            "version": __version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": url}],
        "paths": _paths() | (_webhook() if webhook else {}),
        "components": {
            "schemas": defined["$defs"] | _answers(),
            "securitySchemes": (_WEBHOOK_SCHEMES if webhook else {})
            | {
                "subjectToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "The ID token your CI signs for this job",
                },
                "person": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "A person's token of the organisation's own issuer; /.well-known/oauth-protected-resource names it",
                },
                "session": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The session's secret, from the answer that opened it",
                },
            },
        },
    }


def _paths() -> dict[str, Any]:
    session: list[dict[str, list[str]]] = [{"session": []}]
    either: list[dict[str, list[str]]] = [{"subjectToken": []}, *session]
    person: list[dict[str, list[str]]] = [{"person": []}]
    lease = [_path("lease", "^lse_[0-9A-HJKMNP-TV-Z]{26}$")]
    form = "application/x-www-form-urlencoded"
    return {
        "/v1/credentials": {
            "post": _call(
                "Redeem a subject token, or use a session, for credentials",
                "Credentials",
                either,
                body=_json_body("CredentialsBody"),
            )
        },
        "/v1/whoami": {
            "get": _call(
                "How the broker names this job", "Whoami", [{"subjectToken": []}], problems=("401", "422", "429", "503")
            )
        },
        "/v1/leases/{lease}/renew": {
            "post": _call(
                "Lengthen a lease",
                "Renewed",
                session,
                body=_json_body("RenewBody", required=False),
                parameters=lease,
                problems=(*JOB_PROBLEMS, "404"),
            )
        },
        "/v1/leases/{lease}": {
            "delete": _call(
                "End a lease now", "Ended", session, parameters=lease, problems=("401", "404", "422", "503")
            )
        },
        "/v1/session": {
            "delete": _call(
                "End the session and all its leases", "EndedSession", session, problems=("401", "422", "503")
            )
        },
        "/token": {"post": _oauth("Token exchange, RFC 8693", "TokenAnswer", form, _token_form())},
        "/revoke": {"post": _oauth("Revocation, RFC 7009", "Empty", form, _revoke_form())},
        "/introspect": {
            "post": _oauth("Introspection of identity tokens, RFC 7662", "Introspection", form, _revoke_form())
        },
        "/.well-known/openid-configuration": {"get": _public("The broker as an OpenID issuer")},
        "/.well-known/oauth-authorization-server": {"get": _public("The broker as an authorization server, RFC 8414")},
        "/jwks.json": {"get": _public("The keys of identity tokens, RFC 7517", media="application/jwk-set+json")},
        "/.well-known/oauth-protected-resource": {"get": _public("How people sign in, RFC 9728")},
        "/v1/me": {"get": _call("Who the broker takes a person for", "Me", person, problems=PEOPLE_PROBLEMS)},
        "/v1/cases": {
            "get": _call(
                "Refusals near the caller's policies, or all, newest first",
                "CaseList",
                person,
                parameters=_filters(),
                problems=(*PEOPLE_PROBLEMS, "422"),
            )
        },
        "/v1/policies/check": {
            "post": _call(
                "Judge a whole set of policies as this broker would load it; nothing is used or stored",
                "PolicyCheck",
                person,
                body=_json_body("CheckBody"),
                problems=(*PEOPLE_PROBLEMS, "422", "429"),
            )
        },
        "/v1/cases/{case}": {
            "get": _call(
                "Why a job was refused",
                "Case",
                person,
                parameters=[_path("case", "^case_[0-9A-HJKMNP-TV-Z]{26}$")],
                problems=(*PEOPLE_PROBLEMS, "404", "429"),
            )
        },
        "/log/checkpoint": {
            "get": _public("The signed head of the log, C2SP tlog-checkpoint", media="text/plain", more=("403",))
        },
        "/healthz": {"get": _public("The process answers")},
        "/readyz": {"get": _public("The process can issue", more=("503",))},
        "/metrics": {"get": _public("Prometheus metrics", media="text/plain")},
    }


def _webhook() -> dict[str, Any]:
    summary = "A git server's notice that there is something new: the next fetch comes at once"
    body = {"required": True, "description": "Hashed, and not read", "content": {"*/*": {}}}
    answers: dict[str, Any] = {"202": {"description": "The next fetch comes at once, or in two seconds after the last"}}
    answers |= {code: _problem(code) for code in ("401", "422", "503")}
    return {
        "/v1/policies/webhook": {
            "post": {
                "summary": summary,
                "security": [{name: []} for name in _WEBHOOK_SCHEMES],
                "requestBody": body,
                "responses": answers,
            }
        }
    }


def _path(name: str, pattern: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": pattern}}


def _filters() -> list[dict[str, Any]]:
    text: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 300, "pattern": "^[ -~]+$"}
    when = {**text, "description": "An instant, a day, or an age such as 24h"}
    number = {"type": "integer", "minimum": 0, "maximum": 10**15 - 1}
    schemas = {
        "run": text, "project": text, "policy": text, "since": when, "until": when, "before": number,
        "limit": {"type": "integer", "minimum": 1, "maximum": 200},
    }  # fmt: skip
    return [{"name": name, "in": "query", "schema": schema} for name, schema in schemas.items()]


def _call(
    summary: str,
    answer: str,
    security: list[Any],
    *,
    body: Any = None,
    parameters: Any = None,
    problems: tuple[str, ...] = JOB_PROBLEMS,
) -> dict[str, Any]:
    call: dict[str, Any] = {
        "summary": summary,
        "security": security,
        "responses": {"200": _content("Done", "application/json", {"$ref": REF + answer})}
        | {code: _problem(code) for code in sorted(problems)},
    }
    if body:
        call["requestBody"] = body
    if parameters:
        call["parameters"] = parameters
    return call


def _oauth(summary: str, answer: str, media: str, schema: dict[str, Any]) -> dict[str, Any]:
    error = {"$ref": REF + "OAuthError"}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {media: {"schema": schema}}},
        "responses": {
            "200": _content("Done", "application/json", {"$ref": REF + answer}),
            "400": _content("Refused, RFC 6749 section 5.2", "application/json", error),
            "413": _problem("413"),
            "429": _content(PROBLEMS["429"], "application/json", error),
            "502": _content(PROBLEMS["502"], "application/json", error),
            "503": _content(PROBLEMS["503"], "application/json", error),
        },
    }


def _public(summary: str, *, media: str = "application/json", more: tuple[str, ...] = ()) -> dict[str, Any]:
    responses: dict[str, Any] = {"200": {"description": "It", "content": {media: {}}}}
    return {
        "summary": summary,
        "responses": responses | {code: {"description": "Not now, or not for everyone"} for code in more},
    }


def _json_body(model: str, *, required: bool = True) -> dict[str, Any]:
    return {"required": required, "content": {"application/json": {"schema": {"$ref": REF + model}}}}


def _content(description: str, media: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {media: {"schema": schema}}}


def _problem(code: str) -> dict[str, Any]:
    return _content(PROBLEMS[code], "application/problem+json", {"$ref": REF + "Problem"})


def _token_form() -> dict[str, Any]:
    text = {"type": "string", "minLength": 1}
    return {
        "type": "object",
        "required": ["grant_type", "subject_token", "subject_token_type", "audience"],
        "properties": {
            "grant_type": {"const": wire.EXCHANGE},
            "subject_token": text,
            "subject_token_type": {"enum": [wire.JWT, wire.ID_TOKEN]},
            "audience": {**text, "description": "The grant: policy/grant"},
            "verifier": text,
            "nonce": text,
        },
    }


def _revoke_form() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["token"],
        "properties": {"token": {"type": "string", "minLength": 1}, "token_type_hint": {"type": "string"}},
    }


def _answers() -> dict[str, Any]:
    text, when = {"type": "string"}, {"type": "string", "format": "date-time"}
    texts, names = {"type": "object", "additionalProperties": text}, {"type": "array", "items": text}

    def thing(required: str, **properties: Any) -> dict[str, Any]:
        return {"type": "object", "required": required.split(), "properties": properties}

    ended = thing(
        "lease state", lease=text, state={"enum": ["revoked", "revoking", "irrevocable", "expired"]}, reason=text
    )
    miss = thing("key code expected got first", key=text, code=text, expected=text, got=text, first={"type": "boolean"})
    near = thing(
        "policy held misses", policy=text, statement={"type": "integer"}, held={"type": "array", "items": text},
        misses={"type": "array", "items": miss},
    )  # fmt: skip
    credential = thing(
        "grant lease type expires_at renewable values secrets env",
        grant=text, lease=text, type=text, expires_at=when, renewable={"type": "boolean"}, values={"type": "object"},
        secrets={"type": "array", "items": text}, env=texts,
    )  # fmt: skip
    return {
        "Credentials": thing(
            "issuance session credentials", issuance=text, session=thing("id expires_at", id=text, secret=text, expires_at=when),
            credentials={"type": "array", "items": credential},
        ),
        "Whoami": thing("issuer kind job", issuer=text, kind=text, job={"type": "object"}, unsafe_triggers={"type": "array", "items": text}, expires_at=when),
        "Renewed": thing("lease expires_at", lease=text, expires_at=when),
        "Ended": ended,
        "EndedSession": thing("revoked", revoked={"type": "array", "items": ended}),
        "Me": thing("person roles owns expires_at", person=text, roles={"type": "array", "items": text}, owns={"type": "array", "items": text}, expires_at=when),
        "CaseList": thing("cases", cases={"type": "array", "items": thing("case time type code grants", case=text, time=when, type=text, code=text, issuer=text, grants={"type": "array", "items": text}, policies={"type": "array", "items": text})}, next=text),
        "Case": thing(
            "case time type code grants job claims near remedy", case=text, time=when, event=text, type=text, code=text, issuer=text,
            grants={"type": "array", "items": text}, job={"type": "object"}, claims={"type": "object"},
            near={"type": "array", "items": near}, remedy=text, reason=text, count={"type": "integer"},
        ),
        "PolicyCheck": thing(
            "good problems more_problems in_force source new changed removed removed_of_others", good={"type": "boolean"},
            problems=names, more_problems={"type": "integer"}, policy_set={"type": ["string", "null"]}, in_force=text, source=text,
            new=names, changed=names, removed=names, removed_of_others={"type": "integer"},
        ),
        "TokenAnswer": thing("access_token issued_token_type token_type", access_token=text, issued_token_type=text, token_type=text, expires_in={"type": "integer"}),
        "Introspection": thing("active", active={"type": "boolean"}),
        "Empty": {"type": "object"},
        "OAuthError": thing("error", error=text, error_description=text, case=text),
        "Problem": thing("type title status", type=text, title=text, status={"type": "integer"}, detail=text, case=text, retryable={"type": "boolean"}),
    }  # fmt: skip
