"""The schema of `broker.yaml`: each backend's own settings by its kind, which the model leaves to the backend."""

from typing import Any

from broker.backends import BACKENDS
from broker.issuers import ISSUERS
from broker.schemas import shape
from broker.schemas.shape import Schema
from broker.settings import BrokerFile, Settings


def service(_: Settings | None) -> Schema:
    """What broker.yaml may hold."""
    made = shape.of(BrokerFile, "Jobkey broker")
    definitions = made["$defs"]
    definitions["IssuerSettings"]["properties"]["kind"]["enum"] = sorted(ISSUERS)
    definitions["BackendEntry"] = {
        "description": "One backend: its kind, and the kind's own settings beside it.",
        "type": "object",
        "required": ["kind"],
        "properties": {"kind": {"enum": sorted(BACKENDS), "description": "what it is"}},
        "allOf": [
            {
                "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
                "then": _settings(kind, definitions),
            }
            for kind in sorted(BACKENDS)
        ],
    }
    return made


def _settings(kind: str, definitions: dict[str, Any]) -> Schema:
    own = shape.of(BACKENDS[kind].Settings, f"{kind} settings")
    own.setdefault("properties", {})["kind"] = {"const": kind}
    return shape.moved(own, kind, definitions)
