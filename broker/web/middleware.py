"""One middleware: what handlers raise becomes a documented status, and nothing a request carried becomes a log line."""

from http import HTTPStatus
from time import perf_counter
from typing import Final

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from aiohttp.web_exceptions import HTTPException

from broker import ids
from broker.errors import BrokerError
from broker.metrics import REFUSED, REQUEST
from broker.web.oauth import PATHS
from broker.web.problems import oauth_error, plain_problem, problem

log: Final = structlog.get_logger("jobkey.web")


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Render BrokerErrors, aiohttp's own refusals, and surprises."""
    began = perf_counter()
    try:
        response = await handler(request)
    except BrokerError as error:
        REFUSED.labels(type(error).__name__).inc()
        response = oauth_error(error) if request.path in PATHS else problem(error)
    except HTTPException as refusal:
        response = _refused_by_aiohttp(refusal)
    except Exception as error:  # noqa: BLE001  the last line of defence: no surprise reaches the caller as text
        case = ids.new("case")
        REFUSED.labels("surprise").inc()
        facts = {"case": case, "error": type(error).__name__, "at": _where(error), "path": _route(request)}
        log.error("surprise", **facts)  # noqa: TRY400  a traceback could hold a secret
        detail = f"the broker failed in a way nobody foresaw; nothing was issued. Tell its operators the case {case}"
        response = plain_problem(500, "Internal error", detail)
    if request.path == "/v1/credentials":
        REQUEST.observe(perf_counter() - began)
    return response


def _refused_by_aiohttp(refusal: HTTPException) -> web.Response:
    status = HTTPStatus(refusal.status)
    detail = {
        HTTPStatus.NOT_FOUND: "there is nothing here; /openapi.json lists what there is",
        HTTPStatus.METHOD_NOT_ALLOWED: "this is here, but not for this method; /openapi.json lists what there is",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "the body is larger than 64 KiB; a request never needs that",
    }.get(status, refusal.text or status.phrase)
    response = plain_problem(status, status.phrase, detail)
    if allow := refusal.headers.get("Allow"):
        response.headers["Allow"] = allow
    return response


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource else "-"


def _where(error: BaseException) -> str:
    """The innermost frame of ours: enough to find the fault, and no value of any variable."""
    frame = error.__traceback__
    place = "-"
    while frame is not None:
        place = f"{frame.tb_frame.f_code.co_filename.rpartition('/broker/')[2]}:{frame.tb_lineno}"
        frame = frame.tb_next
    return place
