"""`POST /v1/policies/check` under load and attack: its body, its turn, its deadline."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import MalformedRequest, TooManyChecks
from broker.exchange import check_body, policy_check
from broker.exchange.check_body import encoded, texts
from broker.exchange.policies import Policies
from broker.exchange.policy_check import PolicyCheck
from broker.people.roles import Person, Role
from broker.policy.load import PolicyText
from broker.sources.folder import FolderSource
from tests.unit.policy.world import ISSUERS, TARGETS, URLS, policy_text

PAT = Person(
    name="pat@acme.example", roles=frozenset({Role.PLATFORM}), names=frozenset(), token_key=b"", expires_at=datetime.now(UTC)
)  # fmt: skip


def named(name: str) -> PolicyText:
    text = policy_text().replace("policy: payments", f"policy: {name}")
    return PolicyText(f"{name}.yaml", f"{name}.yaml", text.encode())


@pytest.fixture
def check(tmp_path: Path) -> PolicyCheck:
    (tmp_path / "payments.yaml").write_bytes(named("payments").data)
    policies = Policies(FolderSource(tmp_path), issuers=ISSUERS, issuer_urls=URLS, targets=TARGETS)
    policies.load()
    return PolicyCheck(policies, lambda _: frozenset())


async def sent(data: bytes, until: asyncio.Event | None = None) -> AsyncIterator[bytes]:
    """A body in parts; the last one waits for `until`."""
    half = len(data) // 2
    yield data[:half]
    if until is not None:
        await until.wait()
    yield data[half:]


GOOD = encoded([named("payments"), named("fresh")])


# ---- the body

NAMES = st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8}){0,2}\.yaml", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@given(st.dictionaries(NAMES, TEXTS, max_size=5), st.booleans(), st.sampled_from([None, 0, 3]), st.booleans())
def test_every_spelling_of_a_body_is_read(
    files: dict[str, str], ascii_only: bool, indent: int | None, turned: bool
) -> None:
    pairs = [{"text": text, "file": name} if turned else {"file": name, "text": text} for name, text in files.items()]
    data = json.dumps({"files": pairs}, ensure_ascii=ascii_only, indent=indent).encode()
    assert [(text.file, text.data.decode()) for text in texts(data)] == list(files.items())
    assert texts(encoded(texts(data))) == texts(data)


A = '{"file": "a.yaml", "text": ""}'


@pytest.mark.parametrize(
    "data",
    [
        "", " ", "null", "[]", "{}", '{"files": []', '{"files": []}x', '{"files": []} {}', '{"files": []}\x0c', '\ufeff{"files": []}',
        '{"files": [], "files": []}', '{"files": [], "more": 1}', '{"more": 1, "files": []}', '{"files": {}}', '{"files": null}',
        '{"files": [null]}', '{"files": [{}]}', '{"files": [[]]}', '{"files": [{"file": "a.yaml"}]}', '{"files": [{"text": ""}]}',
        f'{{"files": [{A},]}}', f'{{"files": [{A} {A}]}}', f'{{"files": [{A}, {A}]}}',
        '{"files": [{"file": "a.yaml", "file": "b.yaml", "text": ""}]}', '{"files": [{"file": "a.yaml", "text": "", "x": 1}]}',
        '{"files": [{"file": 1, "text": ""}]}', '{"files": [{"file": "a.yaml", "text": null}]}',
        '{"files": [{"file": "a.yaml", "text": "\\ud800"}]}', '{"files": [{"file": "a.yaml", "text": "\\x"}]}',
        '{"files": [{"file": "a.yaml", "text": "\n"}]}', '{"files": [{"file": "a.yaml", "text": "}]}', "{'files': []}",
        *(f'{{"files": [{{"file": {json.dumps(name)}, "text": ""}}]}}' for name in (
            "", "/a.yaml", "a/../b.yaml", "../a.yaml", "a//b.yaml", ".a.yaml", "a/.b/c.yaml", "a.yml", "a", "a\n.yaml", "a\0.yaml",
            "x" * 1020 + ".yaml",
        )),
    ],
)  # fmt: skip
def test_any_other_body_is_refused(data: str) -> None:
    with pytest.raises(MalformedRequest):
        texts(data.encode())


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(MalformedRequest):
        texts(b'{"files": [{"file": "a.yaml", "text": "\xff"}]}')


@pytest.mark.parametrize(
    "bomb",
    [
        b'{"files": [' + b"{}," * 4_000_000,
        b'{"files": [{' + b",".join(b'"k%d": 1' % n for n in range(1_000_000)) + b"}]}",
        b"{" + b",".join(b'"k%d": 1' % n for n in range(1_000_000)) + b"}",
        b'{"files": [' + b"1," * 8_000_000,
        b"[" * 8_000_000,
        b'{"files": [{"file": "' + b"\\" * 8_000_001,
        b" " * 8_000_000,
    ],
    ids=["empty", "members", "outer members", "numbers", "deep", "backslashes", "spaces"],
)
def test_a_bomb_costs_nothing(bomb: bytes) -> None:
    began = time.process_time()
    with pytest.raises(MalformedRequest) as refused:
        texts(bomb)
    assert time.process_time() - began < 0.5  # to read such a thing as JSON takes a library seconds, and gigabytes
    assert len(str(refused.value)) < 300


def test_a_set_is_as_large_as_a_folder_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_body, "MOST_FILES", 2)
    assert len(texts(encoded([named("a"), named("b")]))) == 2
    with pytest.raises(MalformedRequest, match="more than 2"):
        texts(encoded([named("a"), named("b"), named("c")]))
    with pytest.raises(MalformedRequest, match=r"files\.0\.text: larger than 1 MiB"):
        texts(encoded([PolicyText("a.yaml", "a.yaml", b"x" * ((1 << 20) + 1))]))


# ---- the turn, the sizes, the deadline


async def test_one_at_a_time(check: PolicyCheck) -> None:
    may_end = asyncio.Event()
    first = asyncio.create_task(check.check(sent(GOOD, may_end), PAT))
    await asyncio.sleep(0)
    with pytest.raises(TooManyChecks) as busy:
        await check.check(sent(GOOD), PAT)
    assert (busy.value.status, busy.value.retry_after) == (429, 5)
    may_end.set()
    assert (await first)["new"] == ["fresh"]
    assert (await check.check(sent(GOOD), PAT))["good"] is True


@pytest.mark.parametrize(("name", "value", "why"), [("LARGEST", 100, "more than"), ("ARRIVAL", 0.05, "did not arrive")])
async def test_a_body_is_neither_large_nor_slow(
    check: PolicyCheck, monkeypatch: pytest.MonkeyPatch, name: str, value: float, why: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(policy_check, name, value)
        with pytest.raises(MalformedRequest, match=why):
            await check.check(sent(GOOD, asyncio.Event() if name == "ARRIVAL" else None), PAT)
    assert (await check.check(sent(GOOD), PAT))["good"] is True  # the turn was given back


async def test_past_the_deadline_it_ends(check: PolicyCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(policy_check, "DEADLINE", 0.0)
        with pytest.raises(TooManyChecks, match="on a machine of your own"):
            await check.check(sent(GOOD), PAT)
    assert (await check.check(sent(GOOD), PAT))["good"] is True


def held(check: PolicyCheck) -> tuple[threading.Event, threading.Event, Callable[[], Any]]:
    """Judging that waits in its thread: (it began, it may go on, how the world is asked for)."""
    began, may_go_on = threading.Event(), threading.Event()
    world = check._policies.world

    def waiting(*args: Any) -> Any:
        began.set()
        assert may_go_on.wait(10)
        return world(*args)

    return began, may_go_on, waiting


async def test_who_goes_away_ends_it_and_the_turn_ends_with_the_thread(
    check: PolicyCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, may_go_on, waiting = held(check)
    with monkeypatch.context() as patch:
        patch.setattr(check._policies, "world", waiting)
        gone = asyncio.create_task(check.check(sent(GOOD), PAT))
        await asyncio.to_thread(began.wait, 10)
        gone.cancel()
        await asyncio.sleep(0)
        with pytest.raises(TooManyChecks):  # the thread is still there: a second one does not come beside it
            await check.check(sent(GOOD), PAT)
        may_go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await gone
    assert (await check.check(sent(GOOD), PAT))["good"] is True


async def test_others_are_answered_meanwhile(check: PolicyCheck) -> None:
    many = encoded([named(f"p{number}") for number in range(200)])
    judging = asyncio.create_task(check.check(sent(many), PAT))
    turns = 0
    while not judging.done():
        await asyncio.sleep(0)
        turns += 1
    assert len((await judging)["new"]) == 200
    assert turns > 200  # one for each file, at the least
