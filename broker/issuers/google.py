"""Google service accounts: Cloud Build, Compute Engine, GKE, Cloud Run (metadata identity, `format=full`).

The issuer vouches for the whole world, people included, and the identity is the service account, not the build: whatever
runs as that account can ask. So `project_id` is the account's unique id, and accounts that are shared by everything in a
project are unsafe triggers. Source: Google Cloud docs, "Verify the identity of a VM".
"""

import re
from datetime import timedelta
from types import MappingProxyType
from typing import Final

from broker.issuers.seam import STANDARD, Claims, IssuerKind, Trust
from broker.issuers.words import ident, inner, text
from broker.model import JobIdentity

DEFAULT_ACCOUNT: Final = "default-service-account"
NOT_A_SERVICE_ACCOUNT: Final = "not-a-service-account"
TRIGGERS: Final = MappingProxyType({
    DEFAULT_ACCOUNT: "a default account: any machine or service of the project that nobody gave an account of its own is it",
    NOT_A_SERVICE_ACCOUNT: "no verified service account's address: a person's token, or one of an account that cannot be told",
})  # fmt: skip
_DEFAULT: Final = re.compile(
    r"[0-9]+-compute@developer\.gserviceaccount\.com|[0-9]+@cloudbuild\.gserviceaccount\.com|[^@]+@appspot\.gserviceaccount\.com"
)


def _email(claims: Claims) -> str | None:
    return text(claims, "email") if claims.get("email_verified") is True else None


def identity(claims: Claims) -> JobIdentity:
    """The service account in the broker's words: `project` is its address, `owner` the Google project it ran in."""
    engine = inner(claims, "google", "compute_engine")
    return JobIdentity(
        project=_email(claims),
        project_id=text(claims, "sub"),
        owner=text(engine, "project_id"),
        owner_id=ident(engine, "project_number"),
        run_id=ident(engine, "instance_id"),
        job_id=text(engine, "instance_name"),
        runner=text(engine, "zone"),
    )


def unsafe_triggers(claims: Claims) -> tuple[str, ...]:
    """Whatever is not known to be a service account of its own."""
    email = _email(claims)
    if email is None or not email.endswith(".gserviceaccount.com"):
        return (NOT_A_SERVICE_ACCOUNT,)
    return (DEFAULT_ACCOUNT,) if _DEFAULT.fullmatch(email) else ()


_RELEASE = {
    "sub": "100000000000000000001",
    "azp": "100000000000000000001",
    "email": "release@acme-build.iam.gserviceaccount.com",
    "email_verified": True,
    "google": {
        "compute_engine": {
            "instance_confidentiality": 1,
            "instance_creation_timestamp": 1789913600,
            "instance_id": "4567890123456789012",
            "instance_name": "builder-1",
            "license_id": ["1000204"],
            "project_id": "acme-build",
            "project_number": 123456789012,
            "zone": "europe-west3-a",
        }
    },
}

GOOGLE: Final = IssuerKind(
    name="google",
    title="Google service accounts",
    url="https://accounts.google.com",
    accepts=r"https://accounts\.google\.com",
    required=frozenset({"sub", "email", "email_verified"}),
    claims=MappingProxyType({
        **STANDARD,
        "sub": Trust.ID,
        "azp": Trust.ID,
        "email": Trust.NAME,
        "email_verified": Trust.FACT,
        "hd": Trust.NAME,
        "at_hash": Trust.FACT,
        "google": Trust.FACT,  # project_number and instance_id in it are ids, instance_name is the user's
    }),
    identity=identity,
    unsafe_triggers=unsafe_triggers,
    trigger_names=TRIGGERS,
    immutable=("project_id", "owner_id"),
    max_age=timedelta(hours=1),  # the metadata server hands out the same token for most of its hour
    docs="https://cloud.google.com/compute/docs/instances/verifying-instance-identity",
    examples=MappingProxyType({
        "google-service-account": _RELEASE,
        "google-default-account": {
            **_RELEASE,
            "sub": "100000000000000000002",
            "azp": "100000000000000000002",
            "email": "123456789012-compute@developer.gserviceaccount.com",
        },
        "google-person": {
            "sub": "110000000000000000003",
            "azp": "32555940559.apps.googleusercontent.com",
            "email": "mallory@gmail.com",
            "email_verified": True,
        },
    }),
)  # fmt: skip
