"""Credential backends: one file each, one line in the table. The contract test runs over the table."""

from collections.abc import Mapping
from typing import Final

from broker.backends.aws_sts import AwsSts
from broker.backends.identity_token import IdentityToken
from broker.backends.seam import Backend
from broker.backends.ssh_ca import SshCa
from broker.backends.vault import Vault

BACKENDS: Final[Mapping[str, type[Backend]]] = {
    "aws-sts": AwsSts,
    "identity-token": IdentityToken,
    "ssh-ca": SshCa,
    "vault": Vault,
}
