"""Bitbucket Pipelines: `oidc: true` on the step gives one token in BITBUCKET_STEP_OIDC_TOKEN."""

from __future__ import annotations

from jobkey.ambient.seam import Ambient, from_variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Bitbucket(Ambient):
    name = "bitbucket"
    job_variables = (
        "BITBUCKET_REPO_UUID",
        "BITBUCKET_BUILD_NUMBER",
        "BITBUCKET_STEP_UUID",
        "BITBUCKET_STEP_RUN_NUMBER",
    )
    checkout_variables = ("BITBUCKET_CLONE_DIR",)

    def token(self, env: Mapping[str, str], audience: str, timeout: float) -> str:  # noqa: ARG002 - the token is given
        return from_variable(
            env,
            ("BITBUCKET_STEP_OIDC_TOKEN",),
            'Add `oidc: {audiences: ["<the broker\'s URL>"]}` to the step.',
        )


AMBIENT = Bitbucket()
