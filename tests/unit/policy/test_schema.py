"""The shipped schemas are those of the models, and the shipped files fit them."""

import json
from pathlib import Path

import jsonschema
import pytest

from broker.documents import parse
from broker.policy.schema import FILES, rendered

CONFIGS = Path(__file__).parents[3] / "configs"
SHIPPED = [*sorted((CONFIGS / "policies").rglob("*.yaml")), CONFIGS / "guardrails.yaml"]


@pytest.mark.parametrize("file", FILES)
def test_a_shipped_schema_is_that_of_its_model(file: str) -> None:
    assert (CONFIGS / "schemas" / file).read_text() == rendered(file), "write broker.policy.schema.rendered(file) there"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_file_fits_the_schema_it_names(path: Path) -> None:
    text = path.read_text()
    named = path.parent / text.partition("$schema=")[2].partition("\n")[0]
    jsonschema.validate(parse(text, path.name).value, json.loads(named.read_text()))


def test_the_schema_refuses_what_the_loader_refuses() -> None:
    schema = json.loads((CONFIGS / "schemas/trust-policy.schema.json").read_text())
    value = parse((CONFIGS / "policies/payments.yaml").read_text(), "p").value
    for change in ({"ownrs": []}, {"mode": "observed"}, {"policy": "Payments"}, {"trust": []}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**value, **change}, schema)
