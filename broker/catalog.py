"""What the policy engine has to know of the configured issuers and backends, and where its policies come from."""

from collections.abc import Mapping
from functools import partial

from broker.backends import BACKENDS
from broker.issuers.seam import IssuerKind
from broker.policy import Target
from broker.settings import Settings
from broker.sources import Source
from broker.sources.folder import FolderSource
from broker.sources.repository import RepositorySource


def policy_inputs(settings: Settings) -> tuple[Mapping[str, IssuerKind], Mapping[str, str], Mapping[str, Target]]:
    """(issuer name -> kind, issuer name -> URL, backend name -> Target), as `broker.policy.load_policies` takes them."""
    kinds = {name: issuer.kind for name, issuer in settings.issuers.items()}
    urls = {name: issuer.url for name, issuer in settings.issuers.items()}
    targets = {}
    for name, (kind, own) in settings.backends.items():
        backend = BACKENDS[kind]
        targets[name] = Target(
            backend=name, kind=kind, options=backend.Options, params=backend.Params,
            shortest=backend.shortest, longest=backend.longest, describe=backend.describe,
            writes=partial(backend.writes, settings=own, url=settings.url),
        )  # fmt: skip
    return kinds, urls, targets


def policy_source(settings: Settings) -> Source:
    """The folder or the repository of `policies:`."""
    if settings.repository is None:
        return FolderSource(settings.policies, settings.guardrails)
    return RepositorySource(
        settings.repository,
        mirror=settings.data / "policies.git",
        folder=settings.folder,
        guardrails=settings.guardrails,
    )
