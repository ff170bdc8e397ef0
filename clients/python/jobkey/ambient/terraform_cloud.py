"""HCP Terraform: TFC_WORKLOAD_IDENTITY_AUDIENCE_JOBKEY (or ..._AUDIENCE) on the workspace puts one token into the run."""

from __future__ import annotations

from jobkey.ambient.seam import Ambient, from_variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class TerraformCloud(Ambient):
    name = "terraform-cloud"
    job_variables = ("TFC_RUN_ID", "TFC_WORKSPACE_NAME")

    def token(self, env: Mapping[str, str], audience: str, timeout: float) -> str:  # noqa: ARG002 - the token is given
        return from_variable(
            env,
            ("TFC_WORKLOAD_IDENTITY_TOKEN_JOBKEY", "TFC_WORKLOAD_IDENTITY_TOKEN"),
            "Set the workspace variable TFC_WORKLOAD_IDENTITY_AUDIENCE_JOBKEY to the broker's URL.",
        )


AMBIENT = TerraformCloud()
