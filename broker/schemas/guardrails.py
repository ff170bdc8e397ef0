"""The schema of `guardrails.yaml`."""

from broker.backends import BACKENDS
from broker.issuers import ISSUERS
from broker.model import JOB_FIELDS
from broker.policy.guardrails_file import GuardrailsFile
from broker.schemas import shape
from broker.schemas.parts import improve, offered
from broker.schemas.shape import Schema
from broker.settings import Settings


def guardrails(settings: Settings | None) -> Schema:
    """Names are offered, never demanded: one file may serve several brokers."""
    made = shape.of(GuardrailsFile, "Jobkey guardrails")
    improve(made["$defs"], settings)
    properties = made["properties"]
    properties["longest_ttl"]["propertyNames"] = offered(BACKENDS)
    properties["advised_ttl"]["propertyNames"] = offered(BACKENDS)
    properties["no_wildcards"]["items"] |= offered(JOB_FIELDS)
    properties["triggers_never_allowed"]["items"] |= offered(
        {name for kind in ISSUERS.values() for name in kind.trigger_names}
    )
    if settings is not None:
        folder = made["$defs"]["FolderPart"]["properties"]
        folder["issuers"]["items"] |= offered(settings.issuers)
        folder["backends"]["items"] |= offered(settings.backends)
    return made
