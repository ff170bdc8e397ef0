"""GitHub Actions and Forgejo Actions: a small HTTP call that the runner's two variables describe.

`GET $ACTIONS_ID_TOKEN_REQUEST_URL&audience=...` with `Authorization: bearer $ACTIONS_ID_TOKEN_REQUEST_TOKEN` answers
`{"value": "<jwt>"}` (actions/toolkit, packages/core/src/oidc-utils.ts). The URL already has a query string.
"""

from __future__ import annotations

from jobkey.ambient.seam import Ambient, from_url
from jobkey.errors import ConfigError
from jobkey.url import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class GitHub(Ambient):
    name = "github"
    chooses_audience = True
    fresh = True
    mask = "github"
    # RUNNER_TRACKING_ID is the runner's own id for one job; the legs of a matrix share all the others.
    job_variables = ("GITHUB_SERVER_URL", "GITHUB_RUN_ID", "GITHUB_RUN_ATTEMPT", "GITHUB_JOB", "RUNNER_TRACKING_ID")
    temp_variables = ("RUNNER_TEMP",)
    checkout_variables = ("GITHUB_WORKSPACE",)

    def token(self, env: Mapping[str, str], audience: str, timeout: float) -> str:
        where = env.get("ACTIONS_ID_TOKEN_REQUEST_URL")
        bearer = env.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
        if not where or not bearer:
            forgejo = bool(env.get("FORGEJO_ACTIONS"))
            raise ConfigError(
                "this job may not ask for an identity token",
                "Add `enable-openid-connect: true` to the job."
                if forgejo
                else "Add `permissions: {id-token: write}` to the job. (A pull request from a fork never gets one.)",
            )
        mark = "&" if "?" in where else "?"
        return from_url(
            "GET",
            f"{where}{mark}audience={quote(audience)}",
            "ACTIONS_ID_TOKEN_REQUEST_URL",
            {"Authorization": f"bearer {bearer}", "Accept": "application/json", "User-Agent": "jobkey"},
            "value",
            timeout=timeout,
            env=env,
        )


AMBIENT = GitHub()
