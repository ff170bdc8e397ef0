"""The story of one job, told by real processes: a broker, a practice CI, and `jobkey` in the job.

Every line that is shown was printed by a program that ran. Ends by itself; the exit code says whether all of it held.
"""

import asyncio
import importlib.util
import os
import shutil
import socket
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from rich.console import Console

from broker.demo.ground import lay
from broker.demo.practice_ci import PracticeCi

PATIENCE: Final = 20.0  # seconds for the broker to come up
CLIENT: Final = (sys.executable, "-m", "jobkey")
BROKER: Final = (sys.executable, "-m", "broker")
MASK: Final = "::add-mask::"  # GitHub's workflow command; %25, %0D and %0A stand for what would end its line

# What the practice job runs: it looks at what it was given, and shows none of it.
JOB: Final = """
import base64, json, os
from cryptography.hazmat.primitives.serialization import load_ssh_public_identity
certificate = load_ssh_public_identity(open(os.environ["JOBKEY_SSH_CERTIFICATE"], "rb").read())
names = ", ".join(name.decode() for name in certificate.valid_principals)
print(f"an SSH certificate for {names}, good for {certificate.valid_before - certificate.valid_after - 60} s, id {certificate.key_id.decode()}")
part = os.environ["JOBKEY_IDENTITY_TOKEN"].split(".")[1]
claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
print(f"an identity token for {claims['aud']}, as {claims['sub']}, good for {claims['exp'] - claims['iat']} s")
print("and if the job prints one by mistake:", os.environ["JOBKEY_IDENTITY_TOKEN"])
"""


def tell() -> int:
    """Tell it; 0 where everything happened as it should."""
    if importlib.util.find_spec("jobkey") is None:
        print("the demo needs the client too: pip install jobkey", file=sys.stderr)  # noqa: T201  a command's own words
        return 1
    with tempfile.TemporaryDirectory(prefix="jobkey-demo-") as folder:
        return asyncio.run(Story(Path(folder)).tell())


def free_port() -> int:
    """A port on loopback that nobody holds now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Story:
    """The steps, over one temporary folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._out = Console(highlight=False, soft_wrap=True)
        self._failed: list[str] = []
        self._url = ""

    async def tell(self) -> int:
        began = time.monotonic()
        ci = PracticeCi()
        await ci.start()
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        config = lay(self._folder, url=self._url, port=port, issuer=ci.url)
        broker: asyncio.subprocess.Process | None = None
        try:
            self._title("A broker, a practice CI and one trust policy")
            await self._show(["policy", "check", "policies", "--config", config.name], program=BROKER)
            broker = await self._serve(config)
            await self._job(ci)
            await self._steps(ci)
            await self._fork(ci)
            await self._change()
            await self._ledger()
        finally:
            if broker is not None:
                broker.terminate()
                await broker.wait()
            await ci.close()
        return self._verdict(time.monotonic() - began)

    async def _serve(self, config: Path) -> asyncio.subprocess.Process:
        with (self._folder / "broker.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *BROKER, "serve", "--config", str(config), stdout=log, stderr=log
            )
        for _ in range(int(PATIENCE / 0.05)):
            await asyncio.sleep(0.05)
            if process.returncode is not None or await asyncio.to_thread(self._answers):
                break
        if process.returncode is not None or not await asyncio.to_thread(self._answers):
            self._failed.append("the broker did not come up")
            self._out.print((self._folder / "broker.log").read_text(), markup=False)
        self._out.print(f"  the broker listens at {self._url}; its ledger is one SQLite file", markup=False)
        return process

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self._url + "/readyz", timeout=1) as answer:  # noqa: S310  our own loopback address
                return bool(answer.status == 200)  # noqa: PLR2004
        except (urllib.error.URLError, OSError):
            return False

    async def _job(self, ci: PracticeCi) -> None:
        self._title("A push to main: the job gets two credentials for one command, and nothing before or after it")
        (self._folder / "job.py").write_text(JOB)
        grants = ["payments/ssh", "payments/deploy"]
        shown = await self._show(
            ["exec", *grants, *self._ssh_key(), "--", sys.executable, "job.py"], env=ci.environment("push")
        )
        for expected in ("an SSH certificate for deploy", "an identity token for https://deploy.acme.example"):
            self._must(expected in shown, f"the job did not get {expected!r}")
        self._must("by mistake: eyJ" not in shown, "a credential stood in the job's log")

    async def _steps(self, ci: PracticeCi) -> None:
        self._title("Steps of one job share a session, until the job gives it back; what cannot be taken back says so")
        env = ci.environment("push")
        await self._show(["get", "payments/deploy", "--format", "file", "--output", "runner/token"], env=env)
        shown = await self._show(["revoke"], env=env)
        self._must("ends by time" in shown, "revoke did not say what became of the token")

    async def _fork(self, ci: PracticeCi) -> None:
        self._title("A pull request from a fork: every id in its token is right, and it is refused all the same")
        shown = await self._show(
            ["exec", "payments/deploy", "--", "true"], env=ci.environment("fork-pull-request"), expected=None
        )
        self._must("case_" in shown, "the refusal has no case number")
        case = next((word.strip(".,:;()") for word in shown.split() if word.startswith("case_")), "")
        self._title("Why, for those who may know: the case number leads to it")
        shown = await self._show(["case", "show", case, "--config", "broker.yaml"], program=BROKER)
        self._must("refs/pull/77/merge" in shown, "the case does not say what came")

    async def _change(self) -> None:
        self._title(
            "Somebody widens the policy by one character. No example notices; the proof finds the job that would get in"
        )
        proposal = self._folder / "proposal"
        proposal.mkdir()
        text = (self._folder / "policies" / "payments.yaml").read_text()
        (proposal / "payments.yaml").write_text(text.replace("refs/heads/main\n", '{glob: "refs/heads/main*"}\n'))
        judged = ["--config", "broker.yaml"]
        shown = await self._show(["policy", "diff", "policies", "proposal", *judged], program=BROKER, expected=1)
        self._must("newly allowed" in shown, "the proof did not find the job")

    async def _ledger(self) -> None:
        self._title("What the ledger says, and that nobody edited it")
        await self._show(["audit", "list", "--data", "data"], program=BROKER)
        shown = await self._show(["audit", "verify", "--data", "data", "--key", "data/log.vkey"], program=BROKER)
        self._must(bool(shown), "verify said nothing")

    async def _show(
        self,
        arguments: list[str],
        *,
        program: tuple[str, ...] = CLIENT,
        env: dict[str, str] | None = None,
        expected: int | None = 0,
    ) -> str:
        """Run one command as a person would, with its output shown and checked; `expected=None` wants a failure."""
        name = "jobkey" if program is CLIENT else "jobkey-broker"
        told = " ".join("python" if word == sys.executable else word for word in arguments)
        self._out.print(f"\n  $ {name} {told}", style="bold", markup=False)
        process = await asyncio.create_subprocess_exec(
            *program, *arguments, cwd=self._folder, env=self._environment(env or {}),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        said = output.decode(errors="replace").rstrip().splitlines()
        masked = [unquote(line.removeprefix(MASK)) for line in said if line.startswith(MASK)]
        text = "\n".join(line for line in said if not line.startswith(MASK))
        if masked:  # a runner takes these lines out of the log, and from then on hides the values by itself too
            self._out.print(
                f"  (the CI was told to mask {len(masked)} value{'s' * (len(masked) > 1)})", style="dim", markup=False
            )
        for line in text.splitlines():
            self._out.print(f"  {line}", markup=False)
        self._must(
            not any(value and value in text for value in masked),
            f"`{name} {arguments[0]}` printed a value after it was masked",
        )
        held = process.returncode == expected if expected is not None else process.returncode != 0
        self._must(held, f"`{name} {arguments[0]}` ended with {process.returncode}")
        return text

    def _environment(self, more: dict[str, str]) -> dict[str, str]:
        keep = {
            name: os.environ[name]
            for name in ("PATH", "HOME", "PYTHONPATH", "VIRTUAL_ENV", "TMPDIR")
            if name in os.environ
        }
        runner = self._folder / "runner"
        runner.mkdir(mode=0o700, exist_ok=True)
        return {
            **keep,
            "JOBKEY_URL": self._url,
            "RUNNER_TEMP": str(runner),
            "COLUMNS": "140",
            "PYTHONIOENCODING": "utf-8",
            **more,
        }

    def _ssh_key(self) -> list[str]:
        """The client makes its key with ssh-keygen; where there is none, the demo brings one."""
        if shutil.which("ssh-keygen"):
            return []
        key = Ed25519PrivateKey.generate()
        path = self._folder / "id_demo"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        path.with_suffix(".pub").write_bytes(
            key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b"\n"
        )
        return ["--ssh-key", str(path)]

    def _title(self, text: str) -> None:
        self._out.print(f"\n{text}", style="bold cyan", markup=False)

    def _must(self, held: bool, otherwise: str) -> None:
        if not held:
            self._failed.append(otherwise)

    def _verdict(self, seconds: float) -> int:
        for problem in self._failed:
            self._out.print(f"\nThis should not have happened: {problem}", style="bold red", markup=False)
        if not self._failed:
            self._out.print(
                f"\nAll of it held, in {seconds:.1f} s. Nothing was left behind; `make dev` keeps such a broker running.",
                style="bold green",
                markup=False,
            )
        return 1 if self._failed else 0
