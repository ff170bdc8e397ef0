"""Kubernetes: a projected service-account token at JOBKEY_TOKEN_FILE, its audience set in the pod's volume.

The kubelet rewrites the file at 80 % of the token's life, so it is read again for each request.
"""

from __future__ import annotations

from jobkey.ambient.seam import Ambient, from_file
from jobkey.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Kubernetes(Ambient):
    name = "kubernetes"
    job_variables = ("JOBKEY_TOKEN_FILE", "HOSTNAME")

    def token(self, env: Mapping[str, str], audience: str, timeout: float) -> str:  # noqa: ARG002 - the token is given
        path = env.get("JOBKEY_TOKEN_FILE")
        if not path:
            raise ConfigError(
                "JOBKEY_TOKEN_FILE is not set",
                "Mount a projected serviceAccountToken volume with the broker's URL as its audience, and name its path.",
            )
        return from_file(path)


AMBIENT = Kubernetes()
