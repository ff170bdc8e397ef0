"""A real STS and S3 (SeaweedFS): verifies web identity tokens and enforces trust and session policies."""

import base64
import contextlib
import functools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.servers import aws
from tests.servers.process import Launch, Running, free_port, script, started

ADMIN = ("ADMINKEY00000001", "adminsecret")
BROKER = ("BROKERKEY0000001", "brokersecret")
BUCKET = "art"
ROLE = "arn:aws:iam::123456789012:role/Deploy"
AUDIENCE = "sts.amazonaws.com"


@dataclass(frozen=True)
class SeaweedFS:
    url: str
    running: Running

    def client(self, service: str, key: str = ADMIN[0], secret: str = ADMIN[1], session: str | None = None) -> Any:
        return aws.client(service, self.url, key, secret, session)


def _configuration(issuer_url: str, subjects: str, longest: str) -> dict[str, Any]:
    everything = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject", "s3:ListBucket"],
                  "Resource": [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"]}  # fmt: skip
    trust = [
        {"Effect": "Allow", "Principal": {"Federated": "jobkey"}, "Action": ["sts:AssumeRoleWithWebIdentity"],
         "Condition": {"StringLike": {"oidc:sub": subjects}}},
        {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:user/broker"}, "Action": ["sts:AssumeRole"]},
    ]  # fmt: skip
    return {
        "sts": {"tokenDuration": "1h", "maxSessionLength": longest, "issuer": "seaweedfs-sts",
                "signingKey": base64.b64encode(os.urandom(32)).decode()},
        "providers": [{"name": "jobkey", "type": "oidc", "enabled": True,
                       "config": {"issuer": issuer_url, "clientId": AUDIENCE, "jwksUri": issuer_url + "/jwks.json"}}],
        "policy": {"defaultEffect": "Deny"},
        "policies": [{"name": "RW", "document": {"Version": "2012-10-17", "Statement": [everything]}}],
        "roles": [{"roleName": "Deploy", "roleArn": ROLE, "attachedPolicies": ["RW"],
                   "trustPolicy": {"Version": "2012-10-17", "Statement": trust}}],
    }  # fmt: skip


def _start(launch: Launch, issuer_url: str, subjects: str, longest: str) -> SeaweedFS:
    folder = launch.folder
    ports = {name: free_port() for name in ("master", "volume", "filer", "s3", "admin")}
    grpc = {name: free_port() for name in ports}  # the default is the port + 10000, which can pass 65535
    (folder / "iam.json").write_text(json.dumps(_configuration(issuer_url, subjects, longest)))
    identities = [
        {"name": "admin", "credentials": [{"accessKey": ADMIN[0], "secretKey": ADMIN[1]}],
         "actions": ["Admin", "Read", "Write", "List", "Tagging"]},
        {"name": "broker", "credentials": [{"accessKey": BROKER[0], "secretKey": BROKER[1]}], "actions": ["Read:none"]},
    ]  # fmt: skip
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    running = launch.spawn([
        script("weed"), f"-logdir={folder}", "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        "-master.telemetry=false", "-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
        f"-s3.config={folder}/s3.json", f"-s3.iam.config={folder}/iam.json",
        *(f"-{name}.port={port}" for name, port in ports.items()),
        *(f"-{name}.port.grpc={port}" for name, port in grpc.items()),
    ])  # fmt: skip
    server = SeaweedFS(f"http://127.0.0.1:{ports['s3']}", running)
    admin = server.client("s3")
    launch.wait(running, lambda: admin.create_bucket(Bucket=BUCKET))
    # the first write fails until a volume is there
    launch.wait(running, lambda: admin.put_object(Bucket=BUCKET, Key="app/x", Body=b"hi"))
    launch.wait(running, lambda: admin.put_object(Bucket=BUCKET, Key="zzz", Body=b"no"))
    admin.close()
    return server


@contextlib.contextmanager
def seaweedfs(issuer_url: str, *, subjects: str = "grant:*", longest: str = "12h") -> Iterator[SeaweedFS]:
    """Trusts `issuer_url` (its /jwks.json) for role Deploy where the token's subject is like `subjects`."""
    with started(functools.partial(_start, issuer_url=issuer_url, subjects=subjects, longest=longest)) as server:
        yield server
