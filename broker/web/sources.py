"""Where policies come in: the git server's notice that there is something new, and a check of what somebody would change."""

import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import structlog
from aiohttp import web

from broker.errors import BrokerUnavailable, MalformedRequest, RoleNeeded, WebhookRejected
from broker.exchange.policy_check import PolicyCheck
from broker.people.roles import Person, Role
from broker.people.signin import SignIn
from broker.references import BrokenReference, SecretReference
from broker.web.job import answer

log: Final = structlog.get_logger("jobkey.web")

LARGEST_NOTICE: Final = 5 << 20  # bytes; the body is hashed as it comes and never kept or read
_NO_STORE: Final = {"Cache-Control": "no-store"}


class SourceRoutes:
    """`POST /v1/policies/webhook`, where `webhook` has a secret, and `POST /v1/policies/check`."""

    def __init__(
        self, signin: SignIn, check: PolicyCheck, *, wake: Callable[[], None], webhook: SecretReference | None
    ) -> None:
        self._signin, self._check, self._wake, self._webhook = signin, check, wake, webhook

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_post("/v1/policies/check", self.check)
        if self._webhook is not None:
            router.add_post("/v1/policies/webhook", self.webhook)

    async def check(self, request: web.Request) -> web.Response:
        """For owners of a policy in force and for the platform's people; nothing of the body is read before."""
        person = await self._signin.person(request.headers.get("Authorization"), now=datetime.now(UTC))
        self._admit(person)
        return answer(await self._check.check(request.content.iter_chunked(1 << 16), person))

    def _admit(self, person: Person) -> None:
        if Role.PLATFORM not in person.roles and not self._check.owns(person):
            raise RoleNeeded("policies are checked here for their owners and for the platform's people")

    async def webhook(self, request: web.Request) -> web.Response:
        """GitHub's X-Hub-Signature-256 over the body, or GitLab's X-Gitlab-Token.

        All it does is to make the next fetch come soon, however often it is called and whatever it says.
        """
        try:
            assert self._webhook is not None
            secret = self._webhook.resolve().reveal().encode()
        except BrokenReference as error:
            log.error("webhook-secret", problem=str(error))  # noqa: TRY400  the text names the reference only
            raise BrokerUnavailable("the webhook's secret cannot be had; the broker's operators have to look") from None
        mac, size = hmac.new(secret, digestmod=hashlib.sha256), 0
        async for part in request.content.iter_chunked(1 << 16):
            size += len(part)
            if size > LARGEST_NOTICE:
                raise MalformedRequest(f"more than {LARGEST_NOTICE >> 20} MiB; the next fetch comes by itself")
            mac.update(part)
        # Both are compared in every case, each in constant time.
        told = request.headers.get("X-Hub-Signature-256", "").encode()
        github = hmac.compare_digest(told, b"sha256=" + mac.hexdigest().encode())
        gitlab = hmac.compare_digest(request.headers.get("X-Gitlab-Token", "").encode(), secret)
        if not (github or gitlab):
            raise WebhookRejected("no good X-Hub-Signature-256 or X-Gitlab-Token; compare the secret on both sides")
        self._wake()
        return web.Response(status=202, headers=_NO_STORE)
