"""What a policy and an operator may say of `vault`, checked by shape before the server is asked."""

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from broker.backends.options import EnvName, PathBeside, ServiceUrl, whole
from broker.backends.seam import Strict, Templated
from broker.references import SecretReference

SEGMENT: Final = r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*"  # no slash, no two dots: a value stays inside its segment
_PATH: Final = re.compile(rf"{SEGMENT}(/{SEGMENT}){{1,31}}")
_POLICY: Final = re.compile(r"[a-z0-9_-][a-z0-9_./-]{0,127}")
_FIELD: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_-]{1,128}(/[A-Za-z0-9_-]{1,128}){0,15}/?")
_NOT_ENGINES: Final = frozenset({"auth", "cubbyhole", "identity", "sys"})


def _path(path: str) -> str:
    whole(
        _PATH, path, "a path is segments of letters, digits and _ - . without an empty or dotted one, below its engine"
    )
    if path.split("/", 1)[0] in _NOT_ENGINES:
        raise ValueError("this is not the path of a secrets engine")
    return path


def _policy(name: str) -> str:
    if not _POLICY.fullmatch(name) or name == "root":
        raise ValueError("a policy is named with small letters, digits and _ - . /, and is not root")
    return name


def _field(name: str) -> str:
    if not _FIELD.fullmatch(name):
        raise ValueError("a field is named with letters, digits and _ . -")
    return name


def _namespace(name: str) -> str:
    if not _NAMESPACE.fullmatch(name):
        raise ValueError("a namespace is named like team/payments")
    return name


FieldName = Annotated[str, AfterValidator(_field)]
DataText = Annotated[str, Templated(r"[A-Za-z0-9._/@+=-]{1,256}"), Field(max_length=4096)]


class Auth(Strict):
    """The broker's own token, by reference; a file that Vault Agent keeps fresh is the better one."""

    token: Annotated[SecretReference, Field(description="the token, by reference; a file is read again at each use")]


class VaultSettings(Strict):
    """The server."""

    url: Annotated[ServiceUrl, Field(description="the server", examples=["https://vault.acme.example:8200"])]
    auth: Annotated[Auth, Field(description="how the broker itself signs in")]
    namespace: Annotated[
        Annotated[str, AfterValidator(_namespace)] | None,
        Field(description="whose paths these are, where the server has namespaces"),
    ] = None
    ca_file: Annotated[PathBeside | None, Field(description="PEM; the system's authorities if left out")] = None
    timeout: Annotated[
        float, Field(gt=0, le=120, strict=False, description="seconds that one step may take, retries included")
    ] = 10.0
    threads: Annotated[int, Field(ge=1, le=64, description="calls to the server at the same time")] = 8
    token_role: Annotated[
        Annotated[str, AfterValidator(_field)] | None,
        Field(description="make children by auth/token/create/<role>, so that the broker's token may make no others"),
    ] = None


class VaultOptions(Strict):
    """What a policy says: which path, what the child may do, and what of the answer the job gets."""

    path: Annotated[
        str,
        Templated(SEGMENT),
        Field(
            max_length=1024, description="as in the server's own policies", examples=["database/creds/payments-migrate"]
        ),
        AfterValidator(_path),
    ]
    policies: Annotated[
        list[Annotated[str, AfterValidator(_policy)]],
        Field(min_length=1, max_length=16, description="the server's policies that the one-use child token has"),
    ]
    method: Annotated[Literal["read", "write"], Field(description="how the path is asked")] = "read"
    data: Annotated[
        Annotated[dict[FieldName, DataText | bool | int], Field(max_length=32)] | None,
        Field(description="what is sent along with method: write"),
    ] = None
    kv: Annotated[
        Literal[1, 2] | None,
        Field(description="a key-value store of this version; with 2 the path has /data/ in it"),
    ] = None
    fields: Annotated[
        Annotated[list[FieldName], Field(min_length=1, max_length=64)] | None,
        Field(description="which fields of the answer the job gets; all if left out"),
    ] = None
    public: list[FieldName] = Field(
        default_factory=list, description="fields that need no masking, such as a user name", examples=[["username"]]
    )
    env: Annotated[
        Annotated[dict[EnvName, FieldName], Field(max_length=64)] | None,
        Field(description="variable -> field; SECRET_<FIELD> if left out", examples=[{"PGPASSWORD": "password"}]),
    ] = None
