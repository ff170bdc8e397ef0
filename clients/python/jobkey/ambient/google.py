"""Google Cloud (Cloud Build, GCE, GKE, Cloud Run): the metadata server signs for the machine's service account.

The one plain-HTTP exception: metadata.google.internal has no TLS and is reachable from the machine alone.
`Metadata-Flavor: Google` is the header that keeps server-side request forgery from using it.
"""

from __future__ import annotations

from jobkey.ambient.seam import Ambient, from_url
from jobkey.url import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

HOSTS = ("metadata.google.internal", "169.254.169.254")
PRODUCT = "/sys/class/dmi/id/product_name"
PATH = "/computeMetadata/v1/instance/service-accounts/default/identity"


class Google(Ambient):
    name = "google"
    chooses_audience = True
    fresh = True
    job_variables = ("BUILD_ID", "CLOUD_RUN_EXECUTION", "CLOUD_RUN_TASK_INDEX", "HOSTNAME")

    def here(self, env: Mapping[str, str]) -> bool:
        """By the machine's own name or an explicit host; nothing is asked of a network that may not be Google's."""
        if env.get("GCE_METADATA_HOST") or env.get("CLOUD_RUN_JOB"):
            return True
        try:
            with open(PRODUCT, encoding="ascii", errors="replace") as file:
                return file.read(64).strip() in ("Google", "Google Compute Engine")
        except OSError:
            return False

    def token(self, env: Mapping[str, str], audience: str, timeout: float) -> str:
        host = env.get("GCE_METADATA_HOST") or HOSTS[0]
        return from_url(
            "GET",
            f"http://{host}{PATH}?audience={quote(audience)}&format=full",
            "GCE_METADATA_HOST",
            {"Metadata-Flavor": "Google", "User-Agent": "jobkey"},
            "",
            timeout=timeout,
            env=env,
            plain_hosts=HOSTS,
        )


AMBIENT = Google()
