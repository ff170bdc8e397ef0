"""A real STS and S3 that verifies and enforces: one object inside the session policy, one beside it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from broker.backends.seam import Backend, Minted, Surroundings
from tests.contract.rigs.base import Hostile, Rig
from tests.servers import seaweedfs
from tests.servers.aws import can
from tests.servers.process import free_port
from tests.servers.seaweedfs import SeaweedFS


def session_policy(resource: str = "arn:aws:s3:::art/app/*") -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": resource}],
    }


class AwsStsRig(Rig):
    kind = "aws-sts"
    options: Mapping[str, Any] = {"role_arn": seaweedfs.ROLE, "session_policy": session_policy()}
    hostile = (
        *(Hostile(f"role {arn!r}", options={"role_arn": arn}) for arn in (
            "", "Deploy", "*", "arn:aws:iam::123456789012:role/*", "arn:aws:iam::12345678901:role/Deploy",
            "arn:aws:iam::123456789012:role/Deploy\n", "arn:aws:iam::123456789012:role/{{ job.actor }}",
            "arn:aws:iam::123456789012:user/Deploy", "arn:aws:iam::123456789012:role/D\u0435ploy",
            "arn:aws:iam::123456789012:role/Deploy\0",
        )),
        *(Hostile(f"session {name!r}", options={"session_name": name}) for name in (
            "", "x", "a b", "a\nb", "a/b", "a*", "a\0b", "a" * 65, "\u0430\u0430", "{{ job.ref }}", "a:b",
        )),
        Hostile("source identity with a newline", options={"source_identity": "a\nb"}),
        Hostile("a policy cut short", options={"session_policy": '{"Statement": ['}),
        Hostile("a policy that is a list", options={"session_policy": "[]"}),
        Hostile("a policy with a key twice", options={"session_policy": '{"Statement": [], "Statement": [1]}'}),
        Hostile("a policy with more than a policy", options={"session_policy": {**session_policy(), "Evil": 1}}),
        Hostile("a policy too long", options={"session_policy": session_policy("arn:aws:s3:::" + "a" * 2048)}),
        Hostile("a policy with a template left over", options={"session_policy": session_policy("arn:aws:s3:::{{ job.ref }}")}),
        Hostile("a template in a key", options={"session_policy": {"Statement": [{"{{ job.ref }}": 1}]}}),
        Hostile("a tag with a newline", options={"tags": {"run": "1\n2"}}),
        Hostile("a tag with a wildcard", options={"tags": {"run": "*"}}),
        Hostile("tags that differ in case", options={"tags": {"run": "1", "Run": "2"}}),
        Hostile("a transitive tag that is not set", options={"transitive_tags": ["run"]}),
        Hostile("an external id with a quote", options={"external_id": 'a"b'}),
        Hostile("an audience with a space", options={"audience": "a b"}),
        Hostile("a role that trusts somebody else", options={"role_arn": "arn:aws:iam::123456789012:role/Other"}),
        Hostile("a parameter nobody asked for", params={"role_arn": "x"}),
    )  # fmt: skip

    def __init__(
        self,
        table: Mapping[str, type[Backend]],
        around: Surroundings,
        server: SeaweedFS,
        folder: Path,
        hasty: SeaweedFS | None = None,
    ) -> None:
        self.server, self.hasty, self.folder = server, hasty, folder
        for name, text in zip(("key", "secret"), seaweedfs.BROKER, strict=True):
            with open(os.open(folder / name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
                file.write(text + "\n")
        super().__init__(table, around)

    @property
    def settings(self) -> Mapping[str, Any]:
        keys = {"access_key_id": f"file:{self.folder}/key", "secret_access_key": f"file:{self.folder}/secret"}
        return {"region": "us-east-1", "endpoint_url": self.server.url, "auth": keys}

    @property
    def brief_ttl(self) -> Any:  # type: ignore[override]
        return self.ttl  # STS takes no less; the hasty server ends sessions sooner, and its answer says so

    def brief(self) -> Rig:
        assert self.hasty is not None
        return AwsStsRig(self.table, self.around, self.hasty, self.folder)

    def s3(self, minted: Minted) -> Any:
        values = minted.values
        return self.server.client("s3", values["access_key_id"], values["secret_access_key"], values["session_token"])

    def works(self, minted: Minted) -> bool:
        client = self.s3(minted)
        try:
            return can(client.get_object, Bucket="art", Key="app/x")
        finally:
            client.close()

    def works_outside(self, minted: Minted) -> bool:
        client = self.s3(minted)
        try:
            read, write = ("art", "zzz"), ("art", "app/x")
            return can(client.get_object, Bucket=read[0], Key=read[1]) or can(
                client.put_object, Bucket=write[0], Key=write[1], Body=b"mine"
            )
        finally:
            client.close()

    def unreachable(self) -> Backend:
        return self.build(endpoint_url=f"http://127.0.0.1:{free_port()}", timeout=0.5)
