"""Run one broker in this process: sockets, TLS, signals, a clean end."""

import asyncio
import gc
import signal
import socket
import ssl
import sys
from typing import Final

import structlog
import uvloop
from aiohttp import web

from broker.app import Broker, broker
from broker.errors import ConfigError
from broker.logs import configure
from broker.settings import Settings

log: Final = structlog.get_logger("jobkey")

BACKLOG: Final = 1024
LONGEST_HEADER: Final = 32 * 1024  # aiohttp's own limit, 8 KiB, is less than a GitLab token with many groups


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises ConfigError, LedgerUnwritable."""
    configure()
    uvloop.run(serve(settings))


async def serve(settings: Settings) -> None:
    """Open the broker, listen, and wait for a signal."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    tls = _tls(settings)
    listening = _listen(settings)
    async with broker(settings) as opened:
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, stop.set)
        loop.add_signal_handler(signal.SIGHUP, _reload, opened, settings, tls)
        runner = web.AppRunner(
            opened.application(),
            access_log=None,
            handle_signals=False,
            shutdown_timeout=settings.file.shutdown_grace.total_seconds(),
            keepalive_timeout=75,
            max_field_size=LONGEST_HEADER,
        )
        await runner.setup()
        _settle()
        try:
            await web.SockSite(runner, listening, ssl_context=tls, backlog=BACKLOG).start()
            host, port = listening.getsockname()[:2]
            log.info("serving", url=settings.url, listen=f"{host}:{port}")
            await stop.wait()
            log.info("stopping")
        finally:
            await runner.cleanup()


def _settle() -> None:
    """Take what was built at the start out of the garbage collector's sight.

    Modules, models and policies live as long as the process; looking through them takes 60 ms, in which no request is
    served. What a request leaves is freed without the collector, so it need not come by after every seventh one either.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"listen: {settings.host}:{settings.port} cannot be had: {error.strerror}; choose another port or stop what holds it"
        ) from None
    listening.setblocking(False)
    return listening


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    _load_certificate(context, settings)
    return context


def _load_certificate(context: ssl.SSLContext, settings: Settings) -> None:
    assert settings.certificate is not None
    certificate, key = settings.certificate
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"tls: {certificate} and {key} cannot be loaded: {error}; both are PEM, and the key has to belong to the certificate"
        ) from None


def _reload(opened: Broker, settings: Settings, tls: ssl.SSLContext | None) -> None:
    """SIGHUP: policies and guardrails, and the certificate for connections to come."""
    opened.policies.reload_soon()
    if tls is not None:
        try:
            _load_certificate(tls, settings)
        except ConfigError as error:
            print(error, file=sys.stderr)  # noqa: T201  the operator who sent the signal reads this
