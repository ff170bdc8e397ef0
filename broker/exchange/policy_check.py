"""Policies that somebody would like to see in force, judged exactly as this broker would load them. Nothing is used or stored.

* One at a time, in a thread, in small steps between which requests are answered: whoever comes meanwhile is told to come again.
* Not for long: the deadline is looked at before each file, and what one file may hold (1 MiB, 64 statements, 200 examples,
  expressions without nested macros) is judged in about a second. So no thread is held for longer than the deadline and that.
* What an owner learns of other people's policies is how many are missing, never which.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from broker.errors import ConfigError, MalformedRequest, TooManyChecks
from broker.exchange.check_body import texts
from broker.exchange.policies import Policies
from broker.people.roles import Person, Role
from broker.policy import PolicySet
from broker.policy.load import Loader, PolicyText, folders_of

LARGEST: Final = 32 << 20  # bytes of a body
DEADLINE: Final = 20.0  # seconds for a check; only files that differ from what is in force are compiled
ARRIVAL: Final = 30.0  # seconds for the body to come
MOST_PROBLEMS: Final = 200
_PAUSE: Final = 0.0005  # seconds after each file, in which the event loop gets the interpreter


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What would become of it."""

    problems: Sequence[str] = field(default=(), repr=False)
    version: str | None = None  # of the set that it would be
    new: Sequence[str] = ()
    changed: Sequence[str] = ()
    removed: Sequence[str] = ()
    in_force: str = ""


class PolicyCheck:
    """One for a broker."""

    def __init__(self, policies: Policies, owned: Callable[[Person], frozenset[str]]) -> None:
        self._policies, self._owned = policies, owned
        self._turn = asyncio.Lock()

    def owns(self, person: Person) -> bool:
        """Whether some policy in force names this person as an owner."""
        return bool(self._owned(person))

    async def check(self, body: AsyncIterator[bytes], person: Person) -> Mapping[str, Any]:
        """The answer of POST /v1/policies/check. Raises MalformedRequest, TooManyChecks."""
        if self._turn.locked():
            raise TooManyChecks("this broker judges one set of policies at a time; try again in a few seconds")
        async with self._turn:
            data = await _whole(body)
            current = self._policies.current
            stop = threading.Event()
            judging = asyncio.ensure_future(asyncio.to_thread(self._judge, data, current, stop))
            try:
                outcome = await asyncio.shield(judging)
            finally:
                stop.set()  # whoever asked may have gone; the turn ends with the thread
                if not judging.done():
                    await asyncio.wait([judging])
        return self._told(outcome, person)

    def _judge(self, data: bytes, current: PolicySet, stop: threading.Event) -> Outcome:
        until = time.monotonic() + DEADLINE
        files = texts(data)

        def in_steps() -> Iterator[PolicyText]:
            for text in files:
                if stop.is_set() or time.monotonic() > until:
                    raise TooManyChecks(
                        "so many changed policies take too long to judge here; check them on a machine of your own: "
                        "jobkey-broker policy check"
                    )
                time.sleep(_PAUSE)
                yield text

        world = self._policies.world(current.guardrails)
        try:
            fresh = Loader(world, current.policies.values()).load(in_steps(), world, folders=folders_of(files))
        except ConfigError as error:
            return Outcome(problems=error.problems, in_force=current.version)
        return Outcome(
            version=fresh.version,
            new=sorted(fresh.policies.keys() - current.policies.keys()),
            changed=sorted(
                name
                for name, policy in fresh.policies.items()
                if name in current.policies and current.policies[name].version != policy.version
            ),
            removed=sorted(current.policies.keys() - fresh.policies.keys()),
            in_force=current.version,
        )

    def _told(self, outcome: Outcome, person: Person) -> Mapping[str, Any]:
        everything = Role.PLATFORM in person.roles
        named = set(outcome.removed) if everything else self._owned(person) & set(outcome.removed)
        return {
            "good": not outcome.problems,
            "problems": list(outcome.problems[:MOST_PROBLEMS]),
            "more_problems": max(0, len(outcome.problems) - MOST_PROBLEMS),
            "policy_set": outcome.version,
            "in_force": outcome.in_force,
            "source": self._policies.source.described,
            "new": list(outcome.new),
            "changed": list(outcome.changed),
            "removed": sorted(named),
            "removed_of_others": len(set(outcome.removed) - named),
        }


async def _whole(body: AsyncIterator[bytes]) -> bytes:
    data = bytearray()
    try:
        async with asyncio.timeout(ARRIVAL):
            async for part in body:
                data += part
                if len(data) > LARGEST:
                    raise MalformedRequest(f"more than {LARGEST >> 20} MiB; check them on a machine of your own")
    except TimeoutError:
        raise MalformedRequest(f"the policies did not arrive within {ARRIVAL:.0f} s") from None
    return bytes(data)
