"""Errors on the wire: RFC 9457 problem details, and at the OAuth endpoints the body of RFC 6749 section 5.2.

Handlers only raise. What a surprise says stays inside: the caller gets a 500 with a case number, the log the type of the error.
"""

import json
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from broker.errors import BrokerError, RequestRefused

TYPE: Final = "urn:jobkey:problem:"  # docs/jobs.md has a section for each
PROBLEM: Final = "application/problem+json"
NO_STORE: Final = {"Cache-Control": "no-store"}


def kebab(name: str) -> str:
    """`GrantRefused` -> `grant-refused`."""
    return "".join("-" + c.lower() if c.isupper() else c for c in name).lstrip("-")


def problem(error: BrokerError) -> web.Response:
    """RFC 9457; `type` names the class of the error, `case` is where the ledger holds the reason."""
    body: dict[str, Any] = {
        "type": TYPE + kebab(type(error).__name__),
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
    }
    if error.case:
        body["case"] = error.case
    return _response(error, body | dict(error.extra), PROBLEM)


def oauth_error(error: BrokerError) -> web.Response:
    """RFC 6749 section 5.2: 400, or 401 only for client authentication, which there is none of here; RFC 8693 section 2.2.2."""
    detail = f"{error.detail} (case {error.case})" if error.case else error.detail
    printable = "".join(c if " " <= c <= "~" and c not in '"\\' else "?" for c in detail)
    body = {"error": error.oauth_error, "error_description": printable} | ({"case": error.case} if error.case else {})
    return _response(
        error,
        body,
        "application/json",
        status=HTTPStatus.BAD_REQUEST
        if isinstance(error, RequestRefused) and error.status != HTTPStatus.TOO_MANY_REQUESTS
        else None,
    )


def _response(
    error: BrokerError, body: dict[str, Any], content_type: str, *, status: int | None = None
) -> web.Response:
    headers = dict(NO_STORE)
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if error.status == HTTPStatus.UNAUTHORIZED and status is None:
        headers["WWW-Authenticate"] = error.challenge
    return web.Response(
        status=status or error.status, body=json.dumps(body).encode(), content_type=content_type, headers=headers
    )


def plain_problem(status: int, title: str, detail: str) -> web.Response:
    """For what aiohttp itself refuses: unknown paths and methods, bodies over the limit."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return web.Response(status=status, body=json.dumps(body).encode(), content_type=PROBLEM, headers=NO_STORE)
