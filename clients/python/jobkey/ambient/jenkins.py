"""Jenkins with the OpenID Connect Provider plugin: the pipeline binds its id token as JOBKEY_ID_TOKEN, or as a file."""

from __future__ import annotations

from jobkey.ambient.seam import Ambient, from_file, from_variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Jenkins(Ambient):
    name = "jenkins"
    job_variables = ("BUILD_URL", "EXECUTOR_NUMBER", "NODE_NAME")
    temp_variables = ("WORKSPACE_TMP",)
    checkout_variables = ("WORKSPACE",)

    def token(self, env: Mapping[str, str], audience: str, timeout: float) -> str:  # noqa: ARG002 - the token is given
        path = env.get("JOBKEY_ID_TOKEN_FILE")
        if path and not env.get("JOBKEY_ID_TOKEN"):
            return from_file(path)
        return from_variable(
            env,
            ("JOBKEY_ID_TOKEN",),
            "Bind an 'OpenID Connect id token' credential: withCredentials([string(credentialsId: ..., "
            "variable: 'JOBKEY_ID_TOKEN')]). Its audience has to be the broker's URL.",
        )


AMBIENT = Jenkins()
