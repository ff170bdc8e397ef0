"""CircleCI: `circleci run oidc get` gives a token for an audience of ours.

CIRCLE_OIDC_TOKEN_V2 is not used: its audience is the organisation, so whoever else takes it could show it to the broker.
The program prints the token unmasked, so its output is read here and goes nowhere else.
"""

from __future__ import annotations

import json

from jobkey.ambient.seam import Ambient, from_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class CircleCI(Ambient):
    name = "circleci"
    chooses_audience = True
    fresh = True
    job_variables = ("CIRCLE_WORKFLOW_JOB_ID", "CIRCLE_BUILD_URL", "CIRCLE_NODE_INDEX")
    checkout_variables = ("CIRCLE_WORKING_DIRECTORY",)

    def token(self, env: Mapping[str, str], audience: str, timeout: float) -> str:  # noqa: ARG002 - the program has its own
        claims = json.dumps({"aud": audience}, separators=(",", ":"))
        return from_program(
            ["circleci", "run", "oidc", "get", "--claims", claims],
            env,
            "Run the step in a job whose image has the CircleCI CLI (cimg images do), with OIDC available to it.",
        )


AMBIENT = CircleCI()
