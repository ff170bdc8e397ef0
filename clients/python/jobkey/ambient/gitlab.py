"""GitLab CI/CD: `id_tokens:` puts one token into a variable for the whole job; there is no way to a second one."""

from __future__ import annotations

from jobkey.ambient.seam import Ambient, from_variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class GitLab(Ambient):
    name = "gitlab"
    job_variables = ("CI_SERVER_URL", "CI_JOB_ID")
    checkout_variables = ("CI_PROJECT_DIR",)

    def token(self, env: Mapping[str, str], audience: str, timeout: float) -> str:  # noqa: ARG002 - the token is given
        return from_variable(
            env,
            (env.get("JOBKEY_TOKEN_VARIABLE") or "JOBKEY_ID_TOKEN",),
            "Add `id_tokens: {JOBKEY_ID_TOKEN: {aud: <the broker's URL>}}` to the job (a single string, not a list).",
        )

    def temps(self, env: Mapping[str, str]) -> list[str]:
        """Beside the checkout, where the runner keeps its file variables.

        It is the one place outside the checkout that `script` and `after_script` share with every executor: they may
        be two containers with one /builds volume.
        """
        return [env["CI_PROJECT_DIR"] + ".tmp"] if env.get("CI_PROJECT_DIR") else []


AMBIENT = GitLab()
