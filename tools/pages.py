"""Documentation that is run: the fenced blocks of a page, and a shell that tries the ```console ones against a practice broker.

* `$ command` lines are run in order, in one shell a page, in the folder of a fresh `jobkey-broker dev`; what follows is the output
  that is expected. `> ` goes on with a command. A command that fails has to be followed by `$ echo $?`.
* `...` as a line stands for any lines, inside a line for any text. Ids, times, ports, digests and the like may differ; an id
  that a page shows is the same one wherever the page shows it, in commands too.
* A block with `file=PATH` in its info string is written there before the next command.

`python -m tools.pages record PAGE...` writes what commands really print where it is not what a page says; read the result before
you commit it.
"""
# ruff: noqa: S603, S607, S310 - it runs the pages of this repository, and asks its own broker on loopback

import contextlib
import os
import queue
import re
import shlex
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

ROOT: Final = Path(__file__).resolve().parents[1]
PATIENCE: Final = 60.0  # seconds for one command
MASK: Final = "::add-mask::"
_FENCE: Final = re.compile(r"(?P<ticks>`{3,})(?P<info>[^`]*)")
_ID: Final = r"\b(?:case|evt|iss|lse|ses)_[0-7][0-9A-HJKMNP-TV-Z]{25}\b"
# What may differ from run to run: how it looks on the page -> what is accepted in its place.
_VARYING: Final = (
    (r"20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-9:]{8}(?:\.[0-9]{3})?Z", r"20[0-9-]{8}T[0-9:]{8}(?:\.[0-9]{3})?Z"),
    (r"\b[0-9a-f]{12}\b", r"[0-9a-f]{12}"),  # a commit
    (r"127\.0\.0\.1:[0-9]+", r"127\.0\.0\.1:[0-9]+"),
    (r"\b[0-9a-f]{64}\b", r"[0-9a-f]{64}"),
    (r"#S256\.[A-Za-z0-9_-]{43}", r"#S256\.[A-Za-z0-9_-]{43}"),
    (r"(?<![\w-])[A-Za-z0-9_-]{43}(?![\w-])", r"[A-Za-z0-9_-]{43}"),  # a key's thumbprint
    (r"\b98[0-9]{8}\b", r"98[0-9]{8}"),  # the practice CI's run ids
    (r"\b[0-9]{17,20}\b", r"[0-9]{15,20}"),  # a certificate's serial
    (r"\bssh-[0-9a-f]{16}\b", r"ssh-[0-9a-f]{16}"),
    (r"\bjobkey-[0-9]+/", r"jobkey-[0-9]+/"),
    (r"\+[0-9a-f]{8}\+[A-Za-z0-9+/]{43}=?", r"\+[0-9a-f]{8}\+[A-Za-z0-9+/]{43}=?"),  # a log's verifier key
    (r"\bin [0-9]+\.[0-9] s\b", r"in [0-9]+\.[0-9] s"),
    (r" {2,}", r" {2,}"),
    (r"\.\.\.", r".*?"),
)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block; `line` is that of its first content line, from 1."""

    info: str
    line: int
    lines: tuple[str, ...]

    @property
    def language(self) -> str:
        return self.info.split()[0] if self.info.split() else ""

    @property
    def file(self) -> str | None:
        return next((word.removeprefix("file=") for word in self.info.split() if word.startswith("file=")), None)

    @property
    def text(self) -> str:
        return "".join(f"{line}\n" for line in self.lines)


@dataclass(frozen=True, slots=True)
class Step:
    """One command, and what the page says it prints. `line` is the command's, `end` the line after the output."""

    line: int
    command: str
    expected: tuple[str, ...]
    end: int


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page. Raises ValueError where one is not closed."""
    found: list[Block] = []
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        opened = _FENCE.fullmatch(lines[number].strip())
        number += 1
        if opened is None:
            continue
        first = number
        while number < len(lines) and lines[number].strip() != opened["ticks"]:
            number += 1
        if number == len(lines):
            raise ValueError(f"the block in line {first} is not closed")
        indent = len(lines[first - 1]) - len(lines[first - 1].lstrip())
        found.append(Block(opened["info"].strip(), first + 1, tuple(line[indent:] for line in lines[first:number])))
        number += 1
    return found


def steps(block: Block) -> list[Step]:
    """The commands of a ```console block. Raises ValueError where output comes before a command."""
    found: list[Step] = []
    number, lines = 0, block.lines
    while number < len(lines):
        if not lines[number].startswith("$ "):
            raise ValueError(f"line {block.line + number}: a console block begins with `$ command`")
        first, command = number, lines[number][2:]
        number += 1
        while number < len(lines) and lines[number].startswith("> "):
            command += "\n" + lines[number][2:]
            number += 1
        output = number
        while number < len(lines) and not lines[number].startswith("$ "):
            number += 1
        found.append(Step(block.line + first, command, lines[output:number], block.line + number))
    return found


class Shell:
    """One bash, line by line. Use with `with`."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"], cwd=folder, env=env, text=True, encoding="utf-8", errors="replace",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def run(self, command: str) -> tuple[list[str], int]:
        """Its output, stderr included, and its exit code; `$?` of the next command is that too. Raises TimeoutError."""
        assert self._process.stdin is not None
        mark = f"done-{time.monotonic_ns()}"
        self._process.stdin.write(
            f"(exit ${{__code:-0}}); {{ eval {shlex.quote(command)}; }} </dev/null; __code=$?; printf '\\n%s %s\\n' {mark} $__code\n"
        )
        self._process.stdin.flush()
        output: list[str] = []
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise TimeoutError(f"no end of `{command}` after {PATIENCE:.0f} s; it printed {output}") from None
            if line is None:
                raise TimeoutError(f"the shell ended during `{command}`; it printed {output}")
            if line.startswith(mark + " "):
                while output and not output[-1]:
                    output.pop()
                return output, int(line.split()[1])
            if not line.startswith(MASK):  # a CI's runner takes these out of the log; the pages say so
                output.append(line)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError):  # closed while it was read
            for line in self._process.stdout:
                self._lines.put(line.rstrip("\n").rstrip())
        self._lines.put(None)


@dataclass(slots=True)
class Names:
    """Which real id stands for an id that the page shows."""

    real: dict[str, str] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    guess: bool = False  # for `record`: an id that no output showed stands for the newest of its kind

    def command(self, text: str) -> str:
        """The command with real ids. Raises ValueError where the page has not shown an id before."""

        def known(match: re.Match[str]) -> str:
            newest = [seen for seen in self.seen if seen[:4] == match[0][:4]]
            if match[0] not in self.real and self.guess and newest:
                self.real[match[0]] = newest[-1]
            if match[0] not in self.real:
                raise ValueError(f"the page names {match[0]} before any output showed it")
            return self.real[match[0]]

        return re.sub(_ID, known, text)

    def matches(self, expected: tuple[str, ...], output: list[str]) -> bool:
        """Whether the output is as the page says; learns the ids in it."""
        self.seen += re.findall(_ID, "\n".join(output))
        groups: dict[str, str] = {}
        pattern = "".join(self._line(line, groups) for line in expected)
        found = re.fullmatch(pattern, "".join(f"{line}\n" for line in output))
        if found is None:
            return False
        self.real |= {shown: found[group] for shown, group in groups.items()}
        return True

    def _line(self, line: str, groups: dict[str, str]) -> str:
        if line.strip() == "...":
            return r"(?:.*\n)*?"
        parts = [f"(?:{_ID})", *(f"(?:{shown})" for shown, _ in _VARYING)]
        pattern = ""
        for piece in re.split(f"({'|'.join(parts)})", line.rstrip()):
            if re.fullmatch(_ID, piece):
                if piece in self.real:
                    pattern += re.escape(self.real[piece])
                elif piece in groups:
                    pattern += f"(?P={groups[piece]})"
                else:
                    groups[piece] = f"id{len(groups)}"
                    pattern += f"(?P<{groups[piece]}>{_ID})"
            else:
                accepted = next((accepts for shown, accepts in _VARYING if re.fullmatch(shown, piece)), None)
                pattern += accepted if accepted is not None and piece else re.escape(piece)
        return pattern + r"\n"


class Practice:
    """`jobkey-broker dev` in a folder of its own, and the environment of a newcomer's shell beside it. Use with `with`."""

    def __init__(self) -> None:
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> Self:
        top = Path(self._closing.enter_context(tempfile.TemporaryDirectory(prefix="jobkey-docs-")))
        self.folder, shims = top / "practice", top / "bin"
        self.folder.mkdir()
        shims.mkdir()
        for name, module in (("jobkey", "jobkey"), ("jobkey-broker", "broker")):
            _program(shims / name, f'exec {shlex.quote(sys.executable)} -m {module} "$@"')
        _program(shims / "make", f'[ "$*" = demo ] && exec {shlex.quote(sys.executable)} -m broker demo; exit 2')
        kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "PYTHONPATH") if name in os.environ}
        path = os.pathsep.join([str(shims), str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        self.env = {**kept, "PATH": path, "HOME": str(top), "COLUMNS": "160", "TERM": "dumb", "PYTHONUTF8": "1"}
        for role in ("AUTHOR", "COMMITTER"):  # who has git has a name there
            self.env |= {f"GIT_{role}_NAME": "Dana", f"GIT_{role}_EMAIL": "dana@acme.example"}
        if (ROOT / "broker").is_dir():
            self.env["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "clients/python")])
        log = self._closing.enter_context((top / "dev.log").open("wb"))
        process = subprocess.Popen(
            [sys.executable, "-m", "broker", "dev", "--port", "0", "--folder", str(self.folder)],
            env=self.env, cwd=top, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self._closing.callback(process.wait)
        self._closing.callback(process.terminate)
        deadline = time.monotonic() + PATIENCE
        while not self._ready():
            if process.poll() is not None or time.monotonic() > deadline:
                said = (top / "dev.log").read_text()
                self._closing.close()
                raise RuntimeError(f"the practice broker did not come up:\n{said}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def write(self, name: str, text: str) -> None:
        """A file of the page. One of a policy is given to the broker before this returns."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        before = self._loads()
        same = path.exists() and path.read_text() == text
        path.write_text(text)
        if name.startswith("policies/") and not same:
            deadline = time.monotonic() + PATIENCE
            while self._loads() == before:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the broker did not read {name}")
                time.sleep(0.05)

    def _url(self) -> str | None:
        with contextlib.suppress(OSError):
            found = re.search(r"export JOBKEY_URL=(\S+)", (self.folder / "push.env").read_text())
            return found[1] if found else None
        return None

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(f"{self._url()}{path}", timeout=5) as answer:  # our own loopback address
            return str(answer.read().decode())

    def _ready(self) -> bool:
        with contextlib.suppress(OSError):
            return self._url() is not None and "ready" in self._get("/readyz")
        return False

    def _loads(self) -> list[str]:
        return re.findall(r"^jobkey_policy_loads_total.*$", self._get("/metrics"), re.MULTILINE)


def _program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@dataclass(frozen=True, slots=True)
class Difference:
    """A command that did something else than its page says."""

    step: Step
    output: list[str]
    why: str

    def __str__(self) -> str:
        said = "\n".join(f"  {line}" for line in self.output)
        return f"line {self.step.line}: $ {self.step.command}\n{self.why}; it printed\n{said}"


def run_page(text: str, practice: Practice, names: Names | None = None) -> Iterator[Difference]:
    """Run a page's commands; what went otherwise. Goes on after a difference, so that `record` sees the whole page."""
    names = names or Names()
    with Shell(practice.folder, practice.env) as shell:
        failed: tuple[Step, list[str]] | None = None
        for block in blocks(text):
            if block.file is not None:
                practice.write(block.file, block.text)
            if block.language != "console":
                continue
            for step in steps(block):
                if failed and step.command != "echo $?":
                    yield Difference(*failed, "it failed, and the page does not say so with `$ echo $?`")
                output, code = shell.run(names.command(step.command))
                failed = (step, output) if code else None
                if not names.matches(step.expected, output):
                    yield Difference(step, output, "the page says something else")
                    names.matches(tuple(output), output)
        if failed:
            yield Difference(*failed, "it failed, and the page does not say so with `$ echo $?`")


def record(path: Path) -> int:
    """Write the real output where the page says something else; how many places."""
    text = path.read_text()
    names = Names(guess=True)
    with Practice() as practice:
        differences = [one for one in run_page(text, practice, names) if one.why.startswith("the page says")]
    lines = text.splitlines()
    for one in sorted(differences, key=lambda one: -one.step.line):
        lines[one.step.end - 1 - len(one.step.expected) : one.step.end - 1] = one.output
    text = "\n".join(lines) + "\n"
    path.write_text(re.sub(_ID, lambda match: names.real.get(match[0], match[0]), text))
    return len(differences)


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] != "record":  # noqa: PLR2004  the program's name, the verb, a page
        raise SystemExit("usage: python -m tools.pages record PAGE...")
    for name in sys.argv[2:]:
        print(f"{name}: {record(Path(name))} outputs written")  # noqa: T201  a script
