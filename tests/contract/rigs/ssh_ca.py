"""A real sshd that trusts the CA, and a job's key pair."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from broker.backends.seam import Backend, Minted, Surroundings
from tests.contract.rigs.base import Hostile, Rig
from tests.servers.sshd import Sshd, key_pair

GOOD = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3HXIh2XtmHeu7Nd2CwNyHmfHFvS1hTL9wd2dCqb1hT"


class SshCaRig(Rig):
    kind = "ssh-ca"
    ttl = timedelta(minutes=5)
    settings: Mapping[str, Any] = {}
    options: Mapping[str, Any] = {"principals": ["deploy"]}
    hostile = (
        Hostile("no principals", options={"principals": []}),
        Hostile("an empty principal", options={"principals": [""]}),
        Hostile("two principals in one", options={"principals": ["deploy,root"]}),
        Hostile("a principal with a space", options={"principals": ["deploy root"]}),
        Hostile("a principal with a newline", options={"principals": ["deploy\nroot"]}),
        Hostile("a principal with NUL", options={"principals": ["deploy\0"]}),
        Hostile("a principal as a wildcard", options={"principals": ["*"]}),
        Hostile("a principal as an option", options={"principals": ["-oProxyCommand=x"]}),
        Hostile("a principal that looks alike", options={"principals": ["r\u043e\u043et"]}),
        Hostile("a template left over", options={"principals": ["{{ job.actor }}"]}),
        Hostile("an unknown extension", options={"extensions": ["permit-everything"]}),
        Hostile("an address that is none", options={"source_addresses": ["0.0.0.0/0,::/0"]}),
        Hostile("an address with host bits", options={"source_addresses": ["10.0.0.1/8"]}),
        Hostile("a command of two lines", options={"force_command": "true\nid"}),
        Hostile("no public key", params={"public_key": ""}),
        Hostile("two keys", params={"public_key": GOOD + "\n" + GOOD}),
        Hostile("options before the key", params={"public_key": 'command="id" ' + GOOD}),
        Hostile("a key with NUL", params={"public_key": GOOD + "\0"}),
        Hostile("a key with a carriage return", params={"public_key": GOOD + "\r\n"}),
        Hostile("a comment with a newline", params={"public_key": GOOD + " a\nb"}),
        Hostile(
            "a certificate", params={"public_key": GOOD.replace("ssh-ed25519 ", "ssh-ed25519-cert-v01@openssh.com ")}
        ),
        Hostile("a hardware key", params={"public_key": GOOD.replace("ssh-ed25519 ", "sk-ssh-ed25519@openssh.com ")}),
        Hostile("another type's blob", params={"public_key": GOOD.replace("ssh-ed25519 ", "ssh-rsa ")}),
        Hostile("a key cut short", params={"public_key": GOOD[:-8]}),
        Hostile("bytes after the key", params={"public_key": GOOD + "AAAA"}),
        Hostile("a private key", params={"public_key": "-----BEGIN OPENSSH PRIVATE KEY-----"}),
        Hostile("a parameter nobody asked for", params={"principals": ["root"]}),
    )

    def __init__(self, table: Mapping[str, type[Backend]], around: Surroundings, server: Sshd, folder: Path) -> None:
        self.server = server
        self.key, self.public = key_pair(folder)
        super().__init__(table, around)

    @property
    def params(self) -> Mapping[str, Any]:
        return {"public_key": self.public}

    def works(self, minted: Minted) -> bool:
        return self.server.login(self.key, minted.values["certificate"]).output == "in"

    def works_outside(self, minted: Minted) -> bool:
        """A forwarded port, which the grant gives no extension for."""
        forward = ("-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:9")
        return self.server.login(self.key, minted.values["certificate"], options=forward).worked
