from pathlib import Path

import pytest

from tests.unit.sources.repository import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")
