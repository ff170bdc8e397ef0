"""Buildkite: `buildkite-agent oidc request-token`, with the immutable ids that a good policy pins.

`--claim organization_id,pipeline_id`: they stand in the token only when the job asks for them.
"""

from __future__ import annotations

from jobkey.ambient.seam import Ambient, from_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Buildkite(Ambient):
    name = "buildkite"
    chooses_audience = True
    fresh = True
    mask = "buildkite"
    job_variables = ("BUILDKITE_JOB_ID",)
    checkout_variables = ("BUILDKITE_BUILD_CHECKOUT_PATH",)

    def token(self, env: Mapping[str, str], audience: str, timeout: float) -> str:  # noqa: ARG002 - the program has its own
        argv = ["buildkite-agent", "oidc", "request-token", "--audience", audience]
        return from_program(
            [*argv, "--claim", "organization_id,pipeline_id"],
            env,
            "Run jobkey inside a Buildkite job, where buildkite-agent can reach its API.",
        )


AMBIENT = Buildkite()
