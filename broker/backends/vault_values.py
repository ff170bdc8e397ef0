"""From a server's answer to what the job gets: the chosen fields, their variables, the text that tells a leak."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from broker.backends.seam import BackendError
from broker.backends.vault_options import VaultOptions

_TELLING: Final = ("password", "token", "secret_key", "secret_access_key", "private_key", "secret", "key", "value")


def values_of(options: VaultOptions, body: Mapping[str, Any]) -> dict[str, Any]:
    data = body.get("data")
    if options.kv == 2 and isinstance(data, dict):  # noqa: PLR2004
        data = data.get("data")
    if not isinstance(data, dict) or not data:
        raise BackendError("the path holds no fields; with kv: 2 it has to be <engine>/data/<name>", retry=False)
    wanted = options.fields or list(data)
    missing = [name for name in wanted if data.get(name) is None]
    if options.fields and missing:
        raise BackendError(f"the path has no field {', '.join(missing)}", retry=False)
    return {name: data[name] for name in wanted if data[name] is not None}


def environment_of(options: VaultOptions, values: Mapping[str, Any]) -> dict[str, str]:
    if options.env is None:
        names = {"SECRET_" + re.sub(r"[^A-Z0-9]", "_", field.upper()): field for field in values}
    else:
        names = dict(options.env)
        if missing := sorted(set(names.values()) - set(values)):
            raise BackendError(f"env names fields that the path does not have: {', '.join(missing)}", retry=False)
    return {name: text for name, field in names.items() if (text := _text(values[field])) is not None}


def _text(value: Any) -> str | None:
    """How a program's environment holds a scalar; lists and objects stay in `values`."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    return value if isinstance(value, str) and "\0" not in value else None


def telling_of(values: Mapping[str, Any]) -> str:
    """The text by which a leak would be recognised: a field named like a secret, or else the longest text."""
    texts = {name.lower(): value for name, value in values.items() if isinstance(value, str)}
    for name in _TELLING:
        if texts.get(name):
            return texts[name]
    return max(texts.values(), key=len, default="") or json.dumps(values, sort_keys=True, default=str)
