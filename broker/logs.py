"""Structured logs on stderr: JSON lines, or words on a terminal. Events carry ids and classes, never what a request carried."""

import logging
import sys

import structlog


def configure(*, level: int = logging.INFO) -> None:
    """Once per process. Libraries speak from WARNING up; their DEBUG would print headers and bodies."""
    pretty = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _without_values,
            structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    for noisy in ("botocore", "boto3", "urllib3", "hvac", "aiohttp", "sqlalchemy", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _without_values(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """A traceback's text could hold a value: keep the type of the error only."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()
    if isinstance(error, tuple) and error[0] is not None:
        event["error"] = error[0].__name__
    elif isinstance(error, BaseException):
        event["error"] = type(error).__name__
    return event
