"""The composition root: all the wiring, from Settings to a running broker. Nothing else builds long-lived objects."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from aiohttp import web

from broker import __version__, ids
from broker.backends import BACKENDS
from broker.backends.identity_token import sign_identity
from broker.backends.seam import Backend, BackendError, Surroundings
from broker.catalog import policy_inputs, policy_source
from broker.errors import ConfigError, LedgerUnwritable
from broker.exchange.cases import Cases
from broker.exchange.credentials import Exchange
from broker.exchange.floods import Floods
from broker.exchange.key_log import record_keys
from broker.exchange.leases import LeaseKeeper
from broker.exchange.lifetimes import Lifetimes
from broker.exchange.own_tokens import OwnTokens
from broker.exchange.policies import Policies
from broker.exchange.policy_check import PolicyCheck
from broker.keys import KeyStore
from broker.keys.files import FileKeyStore
from broker.ledger.store import Ledger
from broker.metrics import TokenMetrics
from broker.people.signin import SignIn
from broker.settings import Settings
from broker.tokens.verify import TokenVerifier
from broker.web.application import application
from broker.web.job import JobRoutes
from broker.web.oauth import OAuthRoutes
from broker.web.people import PeopleRoutes
from broker.web.public import PublicRoutes
from broker.web.sources import SourceRoutes

log: Final = structlog.get_logger("jobkey")

ROLES: Final = ("identity", "log", "ssh-ca")  # the keys made and recorded before the first request


class Broker:
    """Everything that runs, opened by `broker(settings)` and closed in the reverse order."""

    def __init__(
        self,
        settings: Settings,
        *,
        keys: KeyStore,
        ledger: Ledger,
        policies: Policies,
        verifier: TokenVerifier,
        backends: Mapping[str, Backend],
        keeper: LeaseKeeper,
        floods: Floods,
    ) -> None:
        self.settings, self.keys, self.ledger, self.policies = settings, keys, ledger, policies
        self.verifier, self.backends, self.keeper = verifier, backends, keeper
        self.exchange = Exchange(
            verifier=verifier, policies=lambda: policies.current, backends=backends, ledger=ledger, keys=keys, keeper=keeper, floods=floods
        )  # fmt: skip
        self.cases = Cases(ledger, lambda: policies.current, floods)
        self.signin = SignIn(
            settings.people, ledger, url=settings.url, owns=lambda person: bool(self.cases.owned(person)), observer=TokenMetrics()
        )  # fmt: skip
        self._ready: tuple[float, dict[str, str]] = (0.0, {})

    def application(self) -> web.Application:
        """The HTTP surface over this broker."""
        lifetimes = Lifetimes(self.exchange)
        return application(
            [
                JobRoutes(self.exchange, lifetimes),
                OAuthRoutes(self.exchange, lifetimes, OwnTokens(self.keys, self.settings.url)),
                PeopleRoutes(self.signin, self.cases),
                SourceRoutes(
                    self.signin,
                    PolicyCheck(self.policies, self.cases.owned),
                    wake=self.policies.source.wake,
                    webhook=self.settings.webhook,
                ),
                PublicRoutes(
                    url=self.settings.url,
                    keys=self.keys,
                    ledger=self.ledger,
                    log_public=self.settings.log_public,
                    readiness=self.readiness,
                    notes=self.notes,
                    webhook=self.settings.webhook is not None,
                ),
            ]
        )

    async def readiness(self) -> Mapping[str, str]:
        """What keeps this broker from issuing: component -> why. Asked at most once in two seconds."""
        if time.monotonic() - self._ready[0] < 2:  # noqa: PLR2004  a probe a second must not become load on the backends
            return self._ready[1]
        problems: dict[str, str] = {}
        if not self.policies.current.policies:
            problems["policies"] = "no policy is loaded"
        limit = self.settings.repository.stale_after if self.settings.repository is not None else None
        if limit is not None and (why := self.policies.stale(time.time(), limit)) is not None:
            problems["policies"] = why
        if not self.ledger.writable:
            try:  # not ready means no requests, and no requests no commits: somebody has to try
                await self.ledger.ready()
            except LedgerUnwritable:
                problems["ledger"] = "it cannot be written; nothing is issued until it can: make room on its disk"
        if not self.keeper.alive:
            problems["leases"] = "the task that ends leases has stopped; restart the broker and report this"
        results = await asyncio.gather(*(self._ping(backend) for backend in self.backends.values()))
        problems |= {f"backend {name}": why for name, why in zip(self.backends, results, strict=True) if why}
        self._ready = time.monotonic(), problems
        return problems

    def notes(self) -> Mapping[str, str]:
        """What an operator should look at although everything is issued as it should be. For everyone to read."""
        if (why := self.policies.note(time.time())) is not None:
            return {"policies": why}
        return {}

    @staticmethod
    async def _ping(backend: Backend) -> str | None:
        try:
            await asyncio.wait_for(backend.ping(), 2)
        except BackendError as error:
            return str(error)
        except TimeoutError:
            return "no answer within 2 s"
        except Exception as error:  # noqa: BLE001  a probe never fails the process
            return f"unexpected {type(error).__name__}"
        return None


@asynccontextmanager
async def broker(settings: Settings) -> AsyncIterator[Broker]:
    """Open everything, undo what a crash left, and close it all again. Raises ConfigError, LedgerUnwritable."""
    try:
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{settings.data}: the data folder cannot be made: {error.strerror}") from None
    keys = FileKeyStore(settings.data / "keys")
    kinds, urls, targets = policy_inputs(settings)
    policies = Policies(policy_source(settings), issuers=kinds, issuer_urls=urls, targets=targets)
    await asyncio.to_thread(policies.load)  # before anything is opened: what does not load stops the first start
    async with AsyncExitStack() as stack:
        ledger = await Ledger.open(f"sqlite:///{settings.database}", keys=keys, origin=settings.origin)
        stack.push_async_callback(ledger.close)
        (settings.data / "log.vkey").write_text(f"{ledger.vkey}\n")  # what an auditor takes along; nothing secret
        await record_keys(ledger, keys, ROLES)
        verifier = TokenVerifier(settings.issuers.values(), observer=TokenMetrics())
        await verifier.start()
        stack.push_async_callback(verifier.close)
        backends = _backends(settings, keys)
        for backend in backends.values():
            await backend.start()
            stack.push_async_callback(backend.close)
        floods = Floods()
        keeper = LeaseKeeper(ledger, backends, keys, floods)
        await policies.start(ledger, version=__version__, url=settings.url)
        stack.push_async_callback(policies.close)
        recovered = await keeper.start()
        stack.push_async_callback(keeper.close)
        opened = Broker(
            settings,
            keys=keys,
            ledger=ledger,
            policies=policies,
            verifier=verifier,
            backends=backends,
            keeper=keeper,
            floods=floods,
        )
        stack.push_async_callback(opened.exchange.drain)
        await opened.signin.start()
        stack.push_async_callback(opened.signin.close)
        log.info("open", policies=len(policies.current.policies), recovered=recovered)
        yield opened


def _backends(settings: Settings, keys: KeyStore) -> dict[str, Backend]:
    def web_identity(subject: str, audience: str, ttl: timedelta, claims: Mapping[str, Any]) -> str:
        return sign_identity(
            keys,
            settings.url,
            subject=subject,
            audience=audience,
            ttl=ttl,
            claims=claims,
            now=datetime.now(UTC),
            jti=ids.new("tok"),
        )

    around = Surroundings(url=settings.url, keys=keys, web_identity=web_identity)
    return {name: BACKENDS[kind](name, options, around) for name, (kind, options) in settings.backends.items()}
