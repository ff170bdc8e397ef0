"""`people:` as text, checked the way broker.yaml is."""

from typing import Any

import yaml

from broker.documents import parse, validated
from broker.errors import ConfigError
from broker.people.settings import People, PeopleSettings, people


def checked(text: str = "", *, jobs: dict[str, str] | None = None, **more: Any) -> People:
    """Raises ConfigError."""
    written = {"issuer": "https://login.acme.example", "client_id": "jobkey", **yaml.safe_load(text or "{}"), **more}
    document = parse(yaml.safe_dump(written, sort_keys=False), "people.yaml")
    problems: list[str] = []
    made = people(
        validated(PeopleSettings, document),
        jobs=jobs or {},
        report=lambda path, message: problems.append(document.problem(path, message)),
    )
    if made is None:
        raise ConfigError(*problems)
    assert not problems
    return made
