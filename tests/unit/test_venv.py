"""tools/venv.py makes an environment out of a lock: tried with wheels of our own from a folder, no network."""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Checkout:
    """A repository with the real tools/venv.py, locks of its own, and an index that is a folder."""

    def __init__(self, place: Path) -> None:
        self.repo, self.index = place / "repo", place / "index"
        (self.repo / "tools").mkdir(parents=True)
        (self.repo / "requirements").mkdir()
        self.index.mkdir()
        shutil.copy(ROOT / "tools/venv.py", self.repo / "tools/venv.py")
        for lock in ("broker", "build", "dev"):
            self.lock(lock)

    def wheel(self, name: str, version: str, says: str) -> str:
        """Put a wheel into the index; the answer is its line in a lock."""
        files = {
            f"{name}.py": f"SAYS = {says!r}\n",
            f"{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{name}-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = [f"{path},sha256={encoded(text)},{len(text)}" for path, text in files.items()]
        files[f"{name}-{version}.dist-info/RECORD"] = "\n".join([*record, f"{name}-{version}.dist-info/RECORD,,"])
        target = self.index / f"{name}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(target, "w") as archive:
            for path, text in files.items():
                archive.writestr(zipfile.ZipInfo(path), text)  # no times: the same wheel has the same hash
        return f"{name}=={version} --hash=sha256:{hashlib.sha256(target.read_bytes()).hexdigest()}"

    def lock(self, name: str, *lines: str) -> None:
        (self.repo / f"requirements/{name}.lock").write_text("".join(f"{line}\n" for line in lines))

    def build(self, wanted: str, **variables: str) -> subprocess.CompletedProcess[str]:
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.repo.parent),
            "PIP_CONFIG_FILE": os.devnull,  # this machine's own settings take no part
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.index),
            **variables,
        }
        command = [sys.executable, "-I", "tools/venv.py", wanted]
        return subprocess.run(command, cwd=self.repo, env=env, capture_output=True, text=True, check=False)

    def says(self, name: str) -> str | None:
        code = f"import {name}; print({name}.SAYS, {name}.__file__)"
        ran = subprocess.run(
            [self.repo / ".venv/bin/python", "-I", "-c", code], capture_output=True, text=True, check=False
        )
        if ran.returncode:
            return None
        said, _, place = ran.stdout.strip().partition(" ")
        assert Path(place).is_relative_to(self.repo / ".venv")
        return said


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_an_environment_follows_its_lock_and_asks_for_nothing_while_it_is_current(checkout: Checkout) -> None:
    product, tool = checkout.wheel("product", "1.0", "one"), checkout.wheel("tool", "1.0", "one")
    checkout.lock("broker", product)
    checkout.lock("dev", product, tool)

    assert checkout.build("broker").returncode == 0
    assert (checkout.says("product"), checkout.says("tool")) == ("one", None)

    assert (
        checkout.build("dev", PIP_USER="1", PIP_TARGET=str(checkout.index), PYTHONPATH="/nonexistent").returncode == 0
    )
    assert (checkout.says("product"), checkout.says("tool")) == ("one", "one")

    shutil.rmtree(checkout.index)  # nothing is fetched from here on, nor needed
    for wanted in ("dev", "broker"):
        current = checkout.build(wanted)
        assert (current.returncode, current.stdout, current.stderr) == (0, "", "")

    checkout.index.mkdir()
    checkout.lock("dev", product := checkout.wheel("product", "2.0", "two"))
    checkout.lock("broker", product)
    assert checkout.build("dev").returncode == 0
    assert (checkout.says("product"), checkout.says("tool")) == ("two", None)  # what left the lock left the environment


def test_a_package_other_than_the_locked_one_is_not_installed(checkout: Checkout) -> None:
    checkout.lock("broker", checkout.wheel("product", "1.0", "genuine"))
    checkout.wheel("product", "1.0", "changed on the index since")
    refused = checkout.build("broker")
    assert refused.returncode == 1
    assert "hash" in refused.stderr.lower()
    assert "could not be built" in refused.stderr
    assert checkout.says("product") is None

    checkout.wheel("product", "1.0", "genuine")
    assert checkout.build("broker").returncode == 0  # an interrupted build is taken up again
    assert checkout.says("product") == "genuine"


def test_an_unknown_set_is_an_error(checkout: Checkout) -> None:
    ran = checkout.build("everything")
    assert ran.returncode == 1
    assert "usage" in ran.stderr
