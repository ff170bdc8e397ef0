"""Azure Pipelines: a POST with an empty body to SYSTEM_OIDCREQUESTURI. The audience is Microsoft's, always the same.

The step has to map the pipeline's access token: `env: {SYSTEM_ACCESSTOKEN: $(System.AccessToken)}`.
"""

from __future__ import annotations

from jobkey.ambient.seam import Ambient, from_url
from jobkey.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class AzureDevOps(Ambient):
    name = "azure-devops"
    fresh = True
    mask = "azure"
    job_variables = ("SYSTEM_COLLECTIONURI", "BUILD_BUILDID", "SYSTEM_JOBID", "SYSTEM_JOBATTEMPT")
    temp_variables = ("AGENT_TEMPDIRECTORY",)
    checkout_variables = ("BUILD_SOURCESDIRECTORY",)

    def token(self, env: Mapping[str, str], audience: str, timeout: float) -> str:  # noqa: ARG002 - it is fixed
        where = env.get("SYSTEM_OIDCREQUESTURI")
        bearer = env.get("SYSTEM_ACCESSTOKEN")
        if not where or not bearer:
            raise ConfigError(
                "this step may not ask for an identity token",
                "Add `env: {SYSTEM_ACCESSTOKEN: $(System.AccessToken)}` to the step.",
            )
        mark = "&" if "?" in where else "?"
        headers = {
            "Authorization": f"Bearer {bearer}",
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": "jobkey",
            "X-TFS-FedAuthRedirect": "Suppress",  # a failure is an answer, not a redirect to a login page
        }
        return from_url(
            "POST",
            f"{where}{mark}api-version=7.1",
            "SYSTEM_OIDCREQUESTURI",
            headers,
            "oidcToken",
            timeout=timeout,
            env=env,
        )


AMBIENT = AzureDevOps()
