"""What a job called its branch does nothing to the terminal of who reads about it, in any form that a command prints."""

import asyncio
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from broker import ids
from broker.ledger import events
from broker.ledger.records import Entry
from tests.unit.ledger.story import open_ledger

ROOT = Path(__file__).parents[3]
# CSI and OSC as one character each, an escape, a bell, a line turned around, a line separator, a delete.
EVIL = "x\x9b2J\x9d0;title\x1b[2J\x07\u202ey\u2028z\x7f"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """(data folder, case)"""
    folder = tmp_path_factory.mktemp("data")
    folder.chmod(0o700)
    case = ids.new("case")
    job = {"project": EVIL, "ref": EVIL, "run_id": EVIL, "actor": EVIL}
    miss = {
        "policy": "payments",
        "statement": 0,
        "key": "job.ref",
        "code": "no-statement",
        "expected": "refs/heads/main",
        "got": EVIL,
    }
    refused = events.refused(
        case=case, code="no-statement", grants=["payments/deploy"], issuer="github", job=job, claims={"ref": EVIL},
        reason=EVIL, policy_set="sha256:0", near=[miss],
    )  # fmt: skip

    async def write() -> None:
        ledger = await open_ledger(folder)
        await ledger.write(Entry(events=(refused,)))
        await ledger.close()

    asyncio.run(write())
    return folder, case


@pytest.mark.parametrize("json", [True, False], ids=["json", "words"])
@pytest.mark.parametrize("command", ["case show", "case list", "audit show", "audit list"])
def test_a_claim_moves_no_cursor(told: tuple[Path, str], command: str, json: bool) -> None:
    folder, case = told
    arguments = [*command.split(), *([case] if command.endswith("show") else []), "--data", str(folder)]
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            [sys.executable, "-m", "broker", *arguments, *(["--json"] if json else [])],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "dumb", "COLUMNS": "300"},
        ) as process:  # fmt: skip
            os.close(theirs)
            shown = b""
            while True:
                try:
                    part = os.read(ours, 1 << 16)
                except OSError:  # what Linux says at a terminal's end
                    break
                shown += part
            assert process.wait() == 0, shown
    finally:
        os.close(ours)
    text = shown.decode()
    assert case in text or command == "audit list"
    assert "title" in text or command == "audit list"
    moved = [char for char in text if not char.isprintable() and char not in "\r\n"]
    assert not moved, ascii(text)
