"""JSON Schemas (2020-12) of the files that people write, made from the models that read them.

For editors, never for deciding: what a schema lets through is still judged by the loader, and a test holds every
shipped file to both. With a broker.yaml at hand a schema knows more: the names of its issuers and backends, and which
keys `with:` takes for each of them.

One file a schema, one line in the table.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from broker.schemas.guardrails import guardrails
from broker.schemas.service import service
from broker.schemas.shape import Schema
from broker.schemas.trust_policy import trust_policy
from broker.settings import Settings

SCHEMAS: Final[Mapping[str, Callable[[Settings | None], Schema]]] = {
    "trust-policy": trust_policy,
    "guardrails": guardrails,
    "broker": service,
}
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema(name: str, settings: Settings | None = None) -> dict[str, Any]:
    """The schema of one of SCHEMAS."""
    return {"$schema": DIALECT, **SCHEMAS[name](settings)}


def rendered(name: str, settings: Settings | None = None) -> str:
    """Its text; without settings, as it stands in configs/schemas/NAME.schema.json."""
    return json.dumps(schema(name, settings), indent=2, ensure_ascii=False) + "\n"
