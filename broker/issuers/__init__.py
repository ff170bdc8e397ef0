"""The CIs whose tokens the broker understands. A new one is one file, one line here and its fixtures in tests/contract/claims.

Owns what claims mean. Signatures and keys belong to broker.tokens, who may get what to broker.policy.

* Pure: claims in, a JobIdentity and the names of unsafe triggers out; the same claims always give the same words.
* What a token does not say is absent; a kind never guesses in a job's favour.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from broker.issuers.azure_devops import AZURE_DEVOPS
from broker.issuers.bitbucket import BITBUCKET
from broker.issuers.buildkite import BUILDKITE
from broker.issuers.circleci import CIRCLECI
from broker.issuers.forgejo import FORGEJO
from broker.issuers.generic import GENERIC
from broker.issuers.github import GITHUB
from broker.issuers.gitlab import GITLAB
from broker.issuers.google import GOOGLE
from broker.issuers.jenkins import JENKINS
from broker.issuers.kubernetes import KUBERNETES
from broker.issuers.seam import Claims, IssuerKind, Trust
from broker.issuers.semaphore import SEMAPHORE
from broker.issuers.spacelift import SPACELIFT
from broker.issuers.terraform_cloud import TERRAFORM_CLOUD
from broker.issuers.trusted import TrustedIssuer

__all__ = ["ISSUERS", "Claims", "IssuerKind", "Trust", "TrustedIssuer", "example"]

ISSUERS: Final[Mapping[str, IssuerKind]] = MappingProxyType({
    "azure-devops": AZURE_DEVOPS,
    "bitbucket": BITBUCKET,
    "buildkite": BUILDKITE,
    "circleci": CIRCLECI,
    "forgejo": FORGEJO,
    "generic": GENERIC,
    "github": GITHUB,
    "gitlab": GITLAB,
    "google": GOOGLE,
    "jenkins": JENKINS,
    "kubernetes": KUBERNETES,
    "semaphore": SEMAPHORE,
    "spacelift": SPACELIFT,
    "terraform-cloud": TERRAFORM_CLOUD,
})  # fmt: skip


def example(name: str, kinds: Mapping[str, IssuerKind] = ISSUERS) -> tuple[IssuerKind, Claims]:
    """The kind and the claims behind a policy's `$like: <name>`. Raises KeyError; names are unique over all kinds."""
    for kind in kinds.values():
        if name in kind.examples:
            return kind, kind.examples[name]
    raise KeyError(name)
