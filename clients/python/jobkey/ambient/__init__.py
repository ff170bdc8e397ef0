"""Which CI this is, and where this job's identity token comes from. One file per CI, one line in `TABLE`.

Two questions, because they can have two answers: a GitHub job may be handed a token by other means
(`JOBKEY_SUBJECT_TOKEN`), and its log is GitHub's all the same.

* `place`: the CI whose log, temporary directory and job number these are.
* `source`: who gives the token. What the user says explicitly wins; then the CI; then the machine (Google).

A CI that is there and gives no token is an error with its remedy, never a reason to look further: falling through to
another identity of the same machine would present the wrong one.
"""

from __future__ import annotations

from jobkey.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobkey.ambient.seam import Ambient

# name -> the variables of which any one, not empty, tells that it is this one. Order decides; google has its own test.
TABLE: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("generic", ("JOBKEY_SUBJECT_TOKEN", "JOBKEY_SUBJECT_TOKEN_FILE")),
    ("kubernetes", ("JOBKEY_TOKEN_FILE",)),
    ("github", ("GITHUB_ACTIONS", "FORGEJO_ACTIONS", "ACTIONS_ID_TOKEN_REQUEST_URL")),
    ("gitlab", ("GITLAB_CI",)),
    ("circleci", ("CIRCLECI",)),
    ("buildkite", ("BUILDKITE",)),
    ("bitbucket", ("BITBUCKET_BUILD_NUMBER", "BITBUCKET_STEP_OIDC_TOKEN")),
    ("azure_devops", ("TF_BUILD", "SYSTEM_OIDCREQUESTURI")),
    ("terraform_cloud", ("TFC_RUN_ID", "TFC_WORKLOAD_IDENTITY_TOKEN", "TFC_WORKLOAD_IDENTITY_TOKEN_JOBKEY")),
    ("jenkins", ("JENKINS_URL",)),
    ("google", ()),
)
NOT_A_PLACE = ("generic", "kubernetes", "google")


def load(name: str) -> Ambient:
    """The one file that is needed: importing all of them would cost more than the request."""
    found: Ambient = __import__(f"jobkey.ambient.{name}", fromlist=["AMBIENT"]).AMBIENT
    return found


def place(env: Mapping[str, str]) -> Ambient | None:
    """The CI around us, or None on a machine that is none."""
    for name, markers in TABLE:
        if name not in NOT_A_PLACE and any(env.get(marker) for marker in markers):
            return load(name)
    return None


def source(env: Mapping[str, str]) -> Ambient:
    """Who gives the token.

    Raises:
        ConfigError: nobody, or JOBKEY_CI names none of the table.
    """
    forced = env.get("JOBKEY_CI", "").replace("-", "_")
    if forced:
        if forced not in [name for name, _ in TABLE]:
            raise ConfigError(
                "JOBKEY_CI names no CI that jobkey knows",
                "Use one of: " + ", ".join(name.replace("_", "-") for name, _ in TABLE),
            )
        return load(forced)
    for name, markers in TABLE:
        if any(env.get(marker) for marker in markers):
            return load(name)
    google = load("google")
    if google.here(env):
        return google
    raise ConfigError(
        "no identity token: this is no CI that jobkey knows",
        "Give the job's OIDC token in JOBKEY_SUBJECT_TOKEN, or its file in JOBKEY_SUBJECT_TOKEN_FILE.",
    )
