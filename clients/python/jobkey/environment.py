"""Names and values on their way into an environment. Both come from a remote server, so both are checked.

A variable such as LD_PRELOAD, PATH or BASH_ENV is code execution in whatever reads it, and a GITHUB_ or RUNNER_ one
speaks to the runner. A credential never needs them.
"""

from __future__ import annotations

from jobkey.errors import ProtocolError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobkey.exchange import Credential

LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
DIGITS = frozenset("0123456789")
FORBIDDEN = frozenset(
    (
        *(
            "PATH",
            "HOME",
            "IFS",
            "ENV",
            "BASH_ENV",
            "SHELL",
            "SHELLOPTS",
            "BASHOPTS",
            "PS4",
            "PROMPT_COMMAND",
            "CDPATH",
        ),
        *(
            "PYTHONPATH",
            "PYTHONHOME",
            "PYTHONSTARTUP",
            "PYTHONINSPECT",
            "NODE_OPTIONS",
            "NODE_PATH",
            "PERL5OPT",
            "PERL5LIB",
        ),
        *(
            "RUBYOPT",
            "RUBYLIB",
            "JAVA_TOOL_OPTIONS",
            "_JAVA_OPTIONS",
            "JDK_JAVA_OPTIONS",
            "CLASSPATH",
            "GIT_SSH",
            "GIT_ASKPASS",
        ),
        *(
            "GIT_SSH_COMMAND",
            "GIT_EXEC_PATH",
            "GIT_CONFIG_COUNT",
            "EDITOR",
            "VISUAL",
            "PAGER",
            "GIT_PAGER",
            "GIT_EDITOR",
        ),
        *("SSH_ASKPASS", "SSLKEYLOGFILE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "GCONV_PATH", "NLSPATH", "TMPDIR"),
    )
)
FORBIDDEN_PREFIXES = ("LD_", "DYLD_", "BASH_FUNC_", "GITHUB_", "RUNNER_", "ACTIONS_", "GIT_CONFIG_", "INPUT_")


def checked(name: str, value: str) -> None:
    """Raises ProtocolError for a name that is none or that steers programs, and for a value no environment can hold."""
    if not name or name[0] not in LETTERS or not (LETTERS | DIGITS).issuperset(name) or len(name) > 256:
        raise ProtocolError("the broker's answer names an environment variable that cannot be one")
    upper = name.upper()
    if upper in FORBIDDEN or upper.startswith(FORBIDDEN_PREFIXES):
        raise ProtocolError(f"the broker's answer wants to set {name}, which would steer programs instead of a login")
    if "\0" in value:
        raise ProtocolError(f"the broker's value for {name} holds a NUL")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ProtocolError(f"the broker's value for {name} is not text") from error


def merged(credentials: Iterable[Credential], *, prefix: bool = False) -> dict[str, str]:
    """All variables of all credentials. With `prefix`, each name starts with its grant's: PAYMENTS_DEPLOY_.

    Raises:
        UsageError: two credentials want the same name, and their values differ.
    """
    result: dict[str, str] = {}
    owner: dict[str, str] = {}
    for credential in credentials:
        for plain, value in credential.env.items():
            checked(plain, value)
            name = prefix_of(credential.grant) + plain if prefix else plain
            checked(name, value)
            if name in owner and result[name] != value:
                raise UsageError(
                    f"{owner[name]} and {credential.grant} both set {name}",
                    "Use them in two commands, or add --prefix to put the grant's name before each variable.",
                )
            owner[name], result[name] = credential.grant, value
    return result


def prefix_of(grant: str) -> str:
    """`payments/deploy-eu` -> `PAYMENTS_DEPLOY_EU_`."""
    text = "".join(c if c in LETTERS or c in DIGITS else "_" for c in grant).upper()
    return ("" if text[:1] in LETTERS else "_") + text + "_"
