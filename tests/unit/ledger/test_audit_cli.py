"""`jobkey-broker audit`, on a ledger that is being written and on copies."""

import asyncio
import csv
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from broker import ids
from broker.cli.audit import app, harmless
from broker.cli.tell import lines
from broker.errors import ConfigError
from broker.ledger import events
from broker.ledger.records import Entry
from broker.ledger.store import Ledger
from tests.unit.ledger.story import CLAIMS, JOB, NOON, everything, open_ledger

EVIL = '=HYPERLINK("http://evil","x")\x1b[2J'


class Written:
    def __init__(self, folder: Path, ledger: Ledger, names: dict[str, str]) -> None:
        self.folder, self.names, self.vkey, self.size, self.note = (
            folder,
            names,
            ledger.vkey,
            ledger.size,
            ledger.checkpoint(),
        )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("data")

    async def write() -> Written:
        ledger = await open_ledger(folder)
        names = await everything(ledger)
        evil = events.refused(
            case=ids.new("case"), code="GrantRefused", grants=["+1/x"], issuer="github", job=JOB | {"project": EVIL},
            claims=CLAIMS, reason="no", policy_set="sha256:0", now=NOON,
        )  # fmt: skip
        await ledger.write(Entry(events=(evil,)))
        await ledger.close()
        (folder / "log.vkey").write_text(ledger.vkey + "\n")
        return Written(folder, ledger, names)

    return asyncio.run(write())


def run(written: Written, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, [arguments[0], *arguments[1:], "--data", str(written.folder)])
    if isinstance(result.exception, ConfigError):
        raise result.exception
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout


def test_list_is_newest_first_and_plain_in_a_pipe(written: Written) -> None:
    lines = run(written, "list").splitlines()
    assert len(lines) == written.size
    assert lines[0].split()[1] == "refused"
    assert lines[-1].split()[1] == "started"
    assert "\x1b" not in "".join(lines)
    columns = [next(len(cell) for cell in re.split(r"(?<=\S)  +(?=\S)", line)) for line in lines]
    assert len(set(columns)) == 1


def test_list_says_what_was_issued_until_when_and_whose_lease_ended(written: Written) -> None:
    (issued, *_) = [line for line in run(written, "list", "--type", "issued").splitlines() if "payments/deploy" in line]
    assert re.search(r"[a-z-]+ until 2026-[^ ;]+Z", issued)
    assert all("/" in line.split()[3] for line in run(written, "list", "--type", "revoked").splitlines())


def test_lines_are_cut_at_the_terminals_width_and_only_in_the_last_column() -> None:
    rows = [["a", "b" * 10, "c" * 90], ["aaaa", "", "d"]]
    assert list(lines(rows, width=40)) == [f"a     bbbbbbbbbb  {'c' * 21}\u2026", "aaaa  -           d"]
    assert next(iter(lines(rows, width=10))).endswith("c" * 90)  # no room for it at all: the terminal wraps
    assert list(lines([], width=None)) == []


@pytest.mark.parametrize(
    ("options", "types"),
    [
        (["--type", "revoked"], {"revoked"}),
        (["--grant", "payments/deploy"], {"issued", "renewed", "renewing", "refused", "failed"}),
        (["--project", "acme/payments", "--run", "42"], {"issued", "refused", "reused"}),
        (["--since", "2026-11-22T12:00:00Z", "--type", "started"], {"started"}),
        (["--since", "2026-11-23"], set()),
        (["--limit", "1"], {"refused"}),
    ],
)
def test_list_filters(written: Written, options: list[str], types: set[str]) -> None:
    found = [json.loads(line) for line in run(written, "list", "--json", *options).splitlines()]
    assert {event["type"] for event in found} == types


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("revoked", ["issued", "revoked", "the job ended it"]), ("expired", ["issued", "expired"]), ("renewed", ["renewed"]),
        ("issuance", ["issued", "irrevocable", "tokens cannot be recalled"]), ("case", ["refused", "refs/pull/7/merge"]),
        ("ended session", ["session-renewed", "session-ended"]), ("pending", ["pending"]), ("failed", ["failed", "the database said no"]),
    ],
)  # fmt: skip
def test_show_tells_the_whole_story(written: Written, name: str, said: list[str]) -> None:
    out = run(written, "show", written.names[name])
    assert all(word in out for word in said), out


def test_show_is_a_story_for_people(written: Written) -> None:
    told = run(written, "show", written.names["case"]).splitlines()
    assert told[0].startswith("refused  2026-")
    assert any(line.startswith("  who       acme/payments") for line in told)
    assert any(line.startswith("  asked     payments/") for line in told)
    assert any(line.startswith("  code      ") for line in told)
    assert any(re.fullmatch(r"  record    evt_\w{26}, leaf [0-9]+", line) for line in told)


def test_show_json_is_the_raw_events(written: Written) -> None:
    shown = [json.loads(line) for line in run(written, "show", written.names["case"], "--json").splitlines()]
    listed = [json.loads(line) for line in run(written, "list", "--json").splitlines()]
    assert [event["type"] for event in shown] == ["refused"]
    assert shown[0] in listed
    assert "claims" in shown[0]


def test_every_event_can_be_told_without_a_control_character(written: Written) -> None:
    for event in [json.loads(line) for line in run(written, "list", "--json").splitlines()]:
        told = run(written, "show", event["id"])
        assert event["type"] in told
        assert all(line.isprintable() for line in told.splitlines())


@pytest.mark.parametrize("name", ["lse_nonsense", "' OR 1=1", "evt_01M81NHNN4FPG86XS71H5X000A"])
def test_show_of_nothing(written: Written, name: str) -> None:
    with pytest.raises(ConfigError, match="holds nothing"):
        run(written, "show", name)


def test_export_jsonl_is_the_leaves(written: Written, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    run(written, "export", "--output", str(output))
    found = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(found) == written.size
    assert found[0]["type"] == "started"
    assert output.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="exists"):
        run(written, "export", "--output", str(output))
    assert list(tmp_path.iterdir()) == [output]


def test_export_csv_holds_no_formula(written: Written) -> None:
    rows = list(csv.DictReader(io.StringIO(run(written, "export", "--format", "csv"))))
    assert len(rows) == written.size
    assert all(not value.startswith(("=", "+", "-", "@", "\t", "\r")) for row in rows for value in row.values())
    assert rows[-1]["project"].startswith("'=HYPERLINK(")
    assert rows[-1]["grants"] == "'+1/x"
    assert "\x1b" not in rows[-1]["project"]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_what_starts_a_formula_is_defused(start: str) -> None:
    assert harmless(start + "1") == "'" + start + "1"
    assert harmless("a" + start) == "a" + start
    assert harmless(-1) == -1


def test_verify_by_data_database_and_log(written: Written, tmp_path: Path) -> None:
    assert f"proved: {written.size} leaves of broker.example" in run(written, "verify")
    copy = tmp_path / "copy.db"
    shutil.copyfile(written.folder / "ledger.db", copy)
    assert "proved" in run(written, "verify", "--database", str(copy), "--key", written.vkey)
    log = tmp_path / "log"
    assert f"{written.size} leaves" in run(written, "export-log", str(log))
    (tmp_path / "checkpoint").write_bytes(written.note)
    more = ["--key", str(written.folder / "log.vkey"), "--since", str(tmp_path / "checkpoint")]
    assert "proved" in run(written, "verify", "--log", str(log), *more)
    with pytest.raises(ConfigError, match="not an empty folder"):
        run(written, "export-log", str(log))
    entries = next((log / "tile/entries").rglob("*.p/*"))
    entries.write_bytes(entries.read_bytes().replace(b"payments", b"paymentz", 1))
    assert "NOT PROVED. First: leaf" in run(written, "verify", "--log", str(log), *more, code=1)
    copy.write_bytes(copy.read_bytes()[:-4096])
    assert "NOT PROVED" in run(written, "verify", "--database", str(copy), "--key", written.vkey, code=1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["verify", "--key", "x+y"], "verifier key"),
        (["verify", "--log", "a", "--database", "b", "--key", "k"], "not both"),
        (["verify", "--database", "none.db", "--key", "VKEY"], "no ledger here"),
        (["verify", "--log", "none"], "give --key"),
        (["list", "--since", "soon"], "--since soon"),
    ],
)
def test_wrong_use_says_what_to_do(written: Written, arguments: list[str], said: str) -> None:
    given = [written.vkey if one == "VKEY" else one for one in arguments]
    with pytest.raises(ConfigError, match=said):
        run(written, *given)


async def test_a_live_ledger_is_read_beside_its_writer(tmp_path: Path) -> None:
    ledger = await open_ledger(tmp_path)
    try:
        await everything(ledger)
        written: Any = Written(tmp_path, ledger, {})
        (tmp_path / "log.vkey").write_text(ledger.vkey)
        assert "proved" in await asyncio.to_thread(run, written, "verify")
        await asyncio.to_thread(run, written, "list")
    finally:
        await ledger.close()


def test_a_crashed_ledgers_copy_is_read_and_left_as_it_is(tmp_path: Path) -> None:
    """With its write-ahead log beside it, as a snapshot of the disk has it."""

    async def write() -> tuple[str, int]:
        ledger = await open_ledger(tmp_path)
        await everything(ledger)
        copy = tmp_path / "snapshot"
        copy.mkdir()
        for name in ("ledger.db", "ledger.db-wal"):
            shutil.copyfile(tmp_path / name, copy / name)
        await ledger.close()
        return ledger.vkey, ledger.size

    vkey, size = asyncio.run(write())
    copy = tmp_path / "snapshot"
    before = {file.name: file.read_bytes() for file in copy.iterdir()}
    result = CliRunner().invoke(app, ["verify", "--database", str(copy / "ledger.db"), "--key", vkey])
    assert f"proved: {size} leaves" in result.stdout
    assert {file.name: file.read_bytes() for file in copy.iterdir()} == before
