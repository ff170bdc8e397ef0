"""The schema of a trust policy."""

from broker.policy.document import PolicyFile
from broker.schemas import shape
from broker.schemas.parts import improve, kinds, offered
from broker.schemas.shape import Schema
from broker.settings import Settings


def trust_policy(settings: Settings | None) -> Schema:
    """What a trust policy may hold; with `settings`, what this broker takes."""
    made = shape.of(PolicyFile, "Jobkey trust policy")
    improve(made["$defs"], settings)
    example = made["$defs"]["ExamplePart"]["properties"]
    likes = {
        name if name.startswith(kind.name) else f"{kind.name}-{name}"
        for kind in kinds(settings)
        for name in kind.examples
    }
    example["claims"]["properties"] = {"$like": {"description": "claims to begin with", **offered(likes)}}
    if settings is not None:
        example["issuer"] |= {"enum": sorted(settings.issuers)}
    return made
