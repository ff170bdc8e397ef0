"""A real sshd that trusts one CA, or some keys, and the ssh client that a job would use."""

import contextlib
import functools
import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.servers.process import Launch, Running, free_port, started
from tests.system import require

USER = pwd.getpwuid(os.geteuid()).pw_name  # without root, sshd lets in only who runs it


@dataclass(frozen=True)
class Login:
    """What one ssh command did."""

    code: int
    output: str
    error: str

    @property
    def worked(self) -> bool:
        return self.code == 0


@dataclass(frozen=True)
class Sshd:
    port: int
    host_key: str
    running: Running

    def log(self) -> str:
        return self.running.log.read_text(errors="replace")

    def login(
        self, private_key: Path, certificate: str, *, command: str = "echo in", options: Sequence[str] = ()
    ) -> Login:
        """Log in as a job does: the certificate in a file beside its key, nothing else of the user's."""
        with tempfile.TemporaryDirectory(prefix="jobkey-ssh-") as home:
            folder = Path(home)
            (folder / "certificate.pub").write_text(certificate + "\n")
            (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {self.host_key}\n")
            done = subprocess.run(
                ["ssh", "-F", "none", "-p", str(self.port), "-i", str(private_key),
                 "-o", f"CertificateFile={folder}/certificate.pub", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
                 "-o", f"UserKnownHostsFile={folder}/known_hosts", "-o", "StrictHostKeyChecking=yes",
                 "-o", "ConnectTimeout=10", "-o", "IdentityAgent=none", *options, f"{USER}@127.0.0.1", command],
                capture_output=True, text=True, env={"HOME": home, "PATH": os.environ["PATH"]},
                stdin=subprocess.DEVNULL, timeout=60, check=False,
            )  # fmt: skip
        return Login(done.returncode, done.stdout.strip(), done.stderr.strip())


def key_pair(folder: Path, kind: str = "ed25519", *more: str) -> tuple[Path, str]:
    """A job's key pair by ssh-keygen: the private key's path and the public line."""
    path = folder / f"id_{kind}"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, *more, "-N", "", "-C", "job@ci", "-f", str(path)],
        check=True,
        capture_output=True,
    )
    return path, path.with_suffix(".pub").read_text()


def _start(launch: Launch, ca: str, principals: Sequence[str], keys: Sequence[str]) -> Sshd:
    (program,) = require("sshd")
    folder, port = launch.folder, free_port()
    folder.chmod(0o755)
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "host")], check=True, capture_output=True
    )
    (folder / "ca.pub").write_text(ca + "\n")
    (folder / "keys").write_text("".join(key.strip() + "\n" for key in keys))
    (folder / "principals").mkdir()
    (folder / "principals" / USER).write_text("".join(name + "\n" for name in principals))
    # StrictModes looks at the folders above, and /tmp is everybody's
    (folder / "config").write_text(f"""Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
PidFile {folder}/pid
TrustedUserCAKeys {folder}/ca.pub
AuthorizedPrincipalsFile {folder}/principals/%u
AuthorizedKeysFile {folder}/keys
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PermitRootLogin yes
StrictModes no
MaxStartups 100
LogLevel VERBOSE
""")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd drops its rights
    # 9.8 and newer shut out an address after a few refusals, and refusals are what these tests are about
    patient = ["-o", "PerSourcePenalties=no"]
    knows = subprocess.run([program, "-t", "-f", str(folder / "config"), *patient], capture_output=True, check=False)
    running = launch.spawn([program, "-D", "-e", "-f", folder / "config", *(patient if knows.returncode == 0 else [])])

    def banner() -> None:
        import socket

        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            if not connection.recv(64).startswith(b"SSH-2.0-"):
                raise OSError("no banner yet")

    launch.wait(running, banner)
    host_key = " ".join((folder / "host.pub").read_text().split()[:2])
    return Sshd(port, host_key, running)


@contextlib.contextmanager
def sshd(ca: str = "", *, principals: Sequence[str] = ("deploy",), keys: Sequence[str] = ()) -> Iterator[Sshd]:
    """Lets certificates of `ca` (a public key line) with one of `principals` in as USER, and whoever has one of `keys`."""
    require("sshd", "ssh", "ssh-keygen")
    with started(functools.partial(_start, ca=ca, principals=principals, keys=keys)) as server:
        yield server
