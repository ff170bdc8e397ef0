"""JSON schemas of the files that people write, made from the models that read them: for editors, never for deciding."""

import json
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

from broker.policy.document import PolicyFile
from broker.policy.guardrails import GuardrailsFile

FILES: Final[Mapping[str, type[BaseModel]]] = {
    "trust-policy.schema.json": PolicyFile,
    "guardrails.schema.json": GuardrailsFile,
}
TITLES: Final = {"trust-policy.schema.json": "Jobkey trust policy", "guardrails.schema.json": "Jobkey guardrails"}


def schema(file: str) -> dict[str, Any]:
    """The schema of one of FILES, JSON Schema 2020-12."""
    made = FILES[file].model_json_schema(by_alias=True, mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": TITLES[file]}


def rendered(file: str) -> str:
    """Its text, as it stands in configs/schemas."""
    return json.dumps(schema(file), indent=2, ensure_ascii=False) + "\n"
