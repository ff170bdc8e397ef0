"""The schemas for editors: those of the models, true of every shipped file, and with words on everything one can hover."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import jsonschema_rs
import pytest
from typer.testing import CliRunner

from broker.cli.main import app
from broker.documents import parse
from broker.errors import ConfigError
from broker.model import JOB_FIELDS
from broker.schemas import SCHEMAS, rendered, schema
from broker.schemas.parts import WORDS
from broker.settings import load_settings
from tools.pages import blocks

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
SHIPPED = [
    *(("trust-policy", path) for path in sorted((CONFIGS / "policies").rglob("*.yaml"))),
    ("guardrails", CONFIGS / "guardrails.yaml"),
    *(("broker", path) for path in sorted(CONFIGS.glob("broker*.yaml"))),
]
ROLES = {"policy": "trust-policy", "guardrails": "guardrails", "broker": "broker"}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WRITTEN = [
    pytest.param(ROLES[role], block.text, id=f"{page.relative_to(ROOT)}:{block.line}")
    for page in PAGES
    for block in blocks(page.read_text())
    if block.language == "yaml"
    for role in block.info.split()[1:2]
    if role in ROLES
]


def problems(name: str, value: Any, config: Path | None = None) -> list[str]:
    """What two validators say that no one here wrote; they have to agree."""
    made = schema(name, None if config is None else load_settings(config))
    jsonschema.Draft202012Validator.check_schema(made)
    found = [error.message for error in jsonschema.Draft202012Validator(made).iter_errors(value)]
    assert bool(found) is not jsonschema_rs.Draft202012Validator(made).is_valid(value)
    return found


def payments() -> dict[str, Any]:
    value = parse((CONFIGS / "policies/payments.yaml").read_text(), "p").value
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_shipped_schema_is_that_of_its_model(name: str) -> None:
    shipped = (CONFIGS / f"schemas/{name}.schema.json").read_text()
    assert shipped == rendered(name), f"jobkey-broker schema {name} > configs/schemas/{name}.schema.json"


@pytest.mark.parametrize(("name", "path"), SHIPPED, ids=lambda value: getattr(value, "name", value))
def test_a_shipped_file_fits_the_schema_it_names(name: str, path: Path) -> None:
    text = path.read_text()
    named = (path.parent / text.partition("$schema=")[2].partition("\n")[0]).resolve()
    assert named == CONFIGS / f"schemas/{name}.schema.json", "the first line names the schema for editors"
    assert not problems(name, parse(text, path.name).value)


@pytest.mark.parametrize("path", [path for name, path in SHIPPED if name == "trust-policy"], ids=lambda path: path.name)
def test_a_shipped_policy_fits_the_schema_of_its_broker(path: Path) -> None:
    assert not problems("trust-policy", parse(path.read_text(), path.name).value, CONFIGS / "broker-production.yaml")


@pytest.mark.parametrize(("name", "text"), WRITTEN)
def test_what_the_documentation_shows_fits(name: str, text: str) -> None:
    assert not problems(name, parse(text, "page").value)


@pytest.mark.parametrize(
    "change",
    [
        {"ownrs": []}, {"mode": "observed"}, {"policy": "Payments"}, {"trust": []}, {"examples": []},
        {"trust": [{"issuer": "github", "job": {"reff": "refs/heads/main"}}]},
        {"trust": [{"issuer": "github", "job": {"ref_protected": "true"}}]},
        {"trust": [{"issuer": "github", "job": {"ref": {"glob": "a*", "regex": "a"}}}]},
        {"trust": [{"issuer": "github", "claims": {"ref": {"not": {"globb": "a*"}}}}]},
        {"grants": {"deploy": {"backend": "token", "ttl": "five minutes"}}},
    ],
    ids=str,
)  # fmt: skip
def test_the_schema_refuses_what_the_loader_refuses(change: dict[str, Any]) -> None:
    assert problems("trust-policy", {**payments(), **change})


@pytest.mark.parametrize(
    ("change", "good"),
    [
        ({"trust": [{"issuer": "github", "job": {"project_id": "1"}}]}, True),
        ({"trust": [{"issuer": "circleci", "job": {"project_id": "1"}}]}, False),
        ({"grants": {"a": {"backend": "token", "ttl": "5m", "with": {"audience": "https://a.example"}}}}, True),
        ({"grants": {"a": {"backend": "token", "ttl": "5m", "with": {"audiance": "https://a.example"}}}}, False),
        ({"grants": {"a": {"backend": "token", "ttl": "5m"}}}, False),
        ({"grants": {"a": {"backend": "bao", "ttl": "5m", "with": {"audience": "https://a.example"}}}}, False),
        ({"grants": {"a": {"backend": "ssh", "ttl": "5m", "with": {"principals": ["x"]}, "params": {"q": "a"}}}}, False),
    ],
    ids=str,
)  # fmt: skip
def test_with_a_broker_yaml_the_schema_knows_its_names(change: dict[str, Any], good: bool) -> None:
    value = {**payments(), "examples": [{"name": "x", "claims": {"a": "b"}, "expect": "refuse"}], **change}
    assert bool(problems("trust-policy", value, CONFIGS / "broker-production.yaml")) is not good


@pytest.mark.parametrize(
    ("change", "good"),
    [
        ({}, True),
        ({"backends": {"x": {"kind": "ssh-ca", "principals": []}}}, False),
        ({"backends": {"x": {"kind": "ssh"}}}, False),
        ({"issuers": {"x": {"kind": "githubb"}}}, False),
        ({"listn": "127.0.0.1:1"}, False),
    ],
    ids=str,
)
def test_the_schema_of_the_service_knows_each_kind(change: dict[str, Any], good: bool) -> None:
    value = parse((CONFIGS / "broker.yaml").read_text(), "b").value
    assert bool(problems("broker", {**value, **change})) is not good


@pytest.mark.parametrize("name", SCHEMAS)
def test_everything_one_can_hover_over_has_words(name: str) -> None:
    assert not [
        path for path, part in _members(schema(name), name) if not part.get("description") and "const" not in part
    ]


def test_every_word_of_a_job_is_told() -> None:
    assert tuple(WORDS) == JOB_FIELDS


def test_an_example_in_a_schema_fits_it() -> None:
    for name in SCHEMAS:
        made = schema(name)
        for path, part in _members(made, name):
            for example in part.get("examples", ()):
                whole = {"$schema": made["$schema"], "$defs": made["$defs"], **part}
                assert jsonschema_rs.Draft202012Validator(whole).is_valid(example), (path, example)


def test_an_unknown_schema_is_named_with_the_nearest() -> None:
    result = CliRunner().invoke(app, ["schema", "trust-polcy"])
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception) == "no schema 'trust-polcy'; did you mean 'trust-policy'?"
    assert CliRunner().invoke(app, ["schema", "broker"]).stdout == rendered("broker")


def _members(part: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every named member anywhere in a schema."""
    if isinstance(part, list):
        for number, item in enumerate(part):
            yield from _members(item, f"{path}[{number}]")
    if not isinstance(part, dict):
        return
    for name, value in part.get("properties", {}).items():
        if "if" not in path.split("."):
            yield f"{path}.{name}", value
    for name, value in part.items():
        if name not in {"examples", "default"}:
            yield from _members(value, f"{path}.{name}")
