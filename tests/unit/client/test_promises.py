"""What the package promises about itself: standard library only, Python 3.9, few imports, types, one file."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[3] / "clients" / "python"
MODULES = sorted(
    ".".join(path.relative_to(CLIENT).with_suffix("").parts).removesuffix(".__init__")
    for path in (CLIENT / "jobkey").rglob("*.py")
)
LIST = "import sys, json; before = set(sys.modules); {}; print(json.dumps(sorted(set(sys.modules) - before)))"


def python39() -> str | None:
    """A Python 3.9 that really runs; a version manager's shim without a version behind it does not count."""
    candidates = [*sorted(Path.home().glob(".pyenv/versions/3.9*/bin/python3.9")), "python3.9"]
    for candidate in candidates:
        try:
            done = subprocess.run(
                [candidate, "-c", "import sys, ssl; print(sys.version_info[:2])"],
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError:
            continue
        if done.returncode == 0 and done.stdout.strip() == "(3, 9)":
            return str(candidate)
    return None


def imported(statement: str, python: str = sys.executable) -> set[str]:
    done = subprocess.run(
        [python, "-S", "-c", LIST.format(statement)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(CLIENT), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    return set(json.loads(done.stdout))


def test_importing_it_imports_nothing_else() -> None:
    assert imported("import jobkey") == {"jobkey"}


def test_every_module_needs_the_standard_library_alone() -> None:
    everything = imported("import " + ", ".join(module for module in MODULES if module != "jobkey.__main__"))
    foreign = {name for name in everything if name.split(".")[0] not in {*sys.stdlib_module_names, "jobkey"}}
    assert not foreign
    assert len([name for name in everything if name.startswith("jobkey")]) >= len(MODULES) - 1


@pytest.mark.parametrize(
    "heavy",
    [
        "asyncio",
        "argparse",
        "http.client",
        "email",
        "urllib.request",
        "typing",
        "subprocess",
        "inspect",
        "dataclasses",
        "threading",
        "logging",
    ],
)
def test_exec_starts_without(heavy: str) -> None:
    """Each costs milliseconds that a short command would notice."""
    fast = "import jobkey.cli, jobkey.commands, jobkey.run, jobkey.tls, jobkey.ssh, jobkey.renew, jobkey.environment, jobkey.ambient.github"
    assert heavy not in imported(fast)


def test_declared_for_python_39() -> None:
    """Annotations are never evaluated (each module says so), so they may be newer."""
    vermin = [str(Path(sys.executable).with_name("vermin")), "--target=3.9-", "--violations", "--no-tips"]
    done = subprocess.run([*vermin, str(CLIENT / "jobkey")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    for path in (CLIENT / "jobkey").rglob("*.py"):
        text = path.read_text()
        assert "from __future__ import annotations" in text or "\ndef " not in text, path


def test_python_39_imports_every_module() -> None:
    python = python39()
    if python is None:
        pytest.skip("needs a Python 3.9 (on PATH or in ~/.pyenv/versions)")
    names = [module for module in MODULES if module != "jobkey.__main__"]
    assert "jobkey.cli" in imported("import " + ", ".join(names), python)


def test_no_module_opens_without_its_promises() -> None:
    for path in (CLIENT / "jobkey").rglob("*.py"):
        assert path.read_text().startswith('"""'), path
        assert len(path.read_text().splitlines()) < 320, path


def test_types_are_told() -> None:
    assert (CLIENT / "jobkey" / "py.typed").exists()


def test_the_single_file_is_reproducible_and_runs(tmp_path: Path) -> None:
    built = []
    for name, umask in (("one", 0o022), ("two", 0o077)):
        target = tmp_path / name / "jobkey.pyz"
        target.parent.mkdir()
        subprocess.run(
            [sys.executable, str(CLIENT / "build_pyz.py"), str(target)],
            check=True,
            umask=umask,
            env={**os.environ, "TZ": "Asia/Tokyo" if umask == 0o077 else "UTC"},
            stdout=subprocess.DEVNULL,
        )
        built.append(target)
    assert built[0].read_bytes() == built[1].read_bytes()
    assert all("__pycache__" not in name for name in zipfile.ZipFile(built[0]).namelist())
    done = subprocess.run([str(built[0]), "--version"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert re.fullmatch(r"jobkey \d+\.\d+\.\d+\n", done.stdout)


def test_the_console_script_and_version_agree() -> None:
    import tomllib

    import jobkey

    project = tomllib.loads((CLIENT / "pyproject.toml").read_text())["project"]
    assert project["version"] == jobkey.__version__
    assert project["dependencies"] == []
    assert project["scripts"] == {"jobkey": "jobkey.cli:entry"}


def test_the_wheel_has_the_client_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(CLIENT, source, ignore=shutil.ignore_patterns("__pycache__", "dist"))
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"jobkey/py.typed", "jobkey/ambient/github.py", "jobkey/emit/formats.py"} <= names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"jobkey"}


def test_the_readme_names_every_exit_code_and_setting() -> None:
    readme = (CLIENT / "README.md").read_text()
    from jobkey import errors

    classes = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.JobkeyError)]
    for one in classes:
        assert f"| {one.exit_code} |" in readme, one
    source = "".join(path.read_text() for path in (CLIENT / "jobkey").rglob("*.py"))
    settings = set(re.findall(r'env(?:\.get\(|\[)"(JOBKEY_[A-Z_]+)"', source))
    assert settings
    for name in settings:
        assert f"`{name}`" in readme, name
