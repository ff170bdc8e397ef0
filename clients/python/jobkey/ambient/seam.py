"""What one CI has to tell, and the few ways in which they all hand over a token: a variable, a file, a URL, a program.

Tokens are checked for their outer shape only (one word, no controls, bounded): what is inside is the broker's to judge.
"""

from __future__ import annotations

from jobkey import url as urls
from jobkey.errors import ConfigError, Problem, ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TOKEN_LIMIT = 64 * 1024
TOOL_TIMEOUT = 60.0


class Ambient:
    """One CI. Subclasses set the facts and say `token`."""

    name = ""
    chooses_audience = False  # the job may ask for any audience, so for a bound one
    fresh = False  # each call gives a new token; otherwise the job has one for its whole life
    mask = "none"  # a name in jobkey.emit.MASKS
    job_variables: tuple[str, ...] = ()  # together they name this job among all jobs of this CI
    temp_variables: tuple[str, ...] = ()  # directories of the job that are not the checkout
    checkout_variables: tuple[str, ...] = ()

    def here(self, env: Mapping[str, str]) -> bool:  # noqa: ARG002 - the table's variables decide for all but google
        return True

    def token(self, env: Mapping[str, str], audience: str, timeout: float) -> str:
        """The identity token; `audience` matters only where `chooses_audience`.

        Raises:
            ConfigError: this CI gives no token to this job; the remedy says what to change in its file.
            Problem, ConnectionFailed: its token service did not answer well.
        """
        raise NotImplementedError

    def job(self, env: Mapping[str, str]) -> str:
        """One text that later steps of the same job see too, and other jobs do not."""
        return "\n".join(f"{name}={env[name]}" for name in self.job_variables if env.get(name))

    def temps(self, env: Mapping[str, str]) -> list[str]:
        """Directories of this job where a private one may be made; the system's own comes after them."""
        return [env[name] for name in self.temp_variables if env.get(name)]


def from_variable(env: Mapping[str, str], names: Iterable[str], remedy: str) -> str:
    for name in names:
        if env.get(name):
            return one_word(env[name], name)
    raise ConfigError("this job has no identity token", remedy)


def from_file(path: str) -> str:
    """Read anew each time: whoever wrote the file replaces it before the token ends."""
    try:
        with open(path, "rb") as file:
            data = file.read(TOKEN_LIMIT + 1)
    except OSError as error:
        raise ConfigError(
            f"the token file {path} cannot be read: {error.strerror}", "Mount or write it for this job."
        ) from error
    return one_word(data.decode("latin-1"), path)


def from_url(
    method: str,
    where: str,
    what: str,
    headers: Mapping[str, str],
    member: str,
    *,
    timeout: float,
    env: Mapping[str, str],
    plain_hosts: tuple[str, ...] = (),
) -> str:
    """One request to a CI's token service; the token is the answer's JSON `member`, or with "" its whole body."""
    from jobkey import proxy, wire

    target = urls.parse(where, what, plain_hosts)
    tls = None
    if target.scheme == "https":
        from jobkey.tls import Trust

        tls = Trust()  # not JOBKEY_CA_FILE: that one is for the broker
    origin = urls.Url(target.scheme, target.host, target.port, "")
    body = b"" if method == "POST" else None
    for _ in range(2):
        connection = wire.Connection(origin, proxy=proxy.for_url(target, env), tls=tls.wrap if tls else None)
        try:
            response = connection.request(method, target.target, headers, body, timeout=min(timeout, 30.0))
            break
        except wire.ConnectionFailed as error:
            if tls is None or not tls.wider(error.__cause__):
                raise wire.ConnectionFailed(f"{what}: {error}") from error
        finally:
            connection.close()
    else:
        raise wire.ConnectionFailed(f"{what}: no TLS connection")
    if response.status != 200:
        raise Problem(response.status, {"title": f"{target.host} gave this job no identity token"})
    text = response.body.decode("latin-1")
    if member:
        import json

        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            document = None
        value = document.get(member) if isinstance(document, dict) else None
        text = value if isinstance(value, str) else ""
    return one_word(text, what)


def from_program(argv: list[str], env: Mapping[str, str], remedy: str) -> str:
    """The CI's own program prints the token; what it says on stderr goes to ours."""
    import subprocess

    try:
        done = subprocess.run(  # a fixed program name and our own arguments, no shell
            argv, env=dict(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=TOOL_TIMEOUT, check=False
        )
    except FileNotFoundError as error:
        raise ConfigError(f"the program {argv[0]} is not on PATH", remedy) from error
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"{argv[0]} gave no token within {TOOL_TIMEOUT:.0f} s", remedy) from error
    except OSError as error:
        raise ConfigError(f"the program {argv[0]} cannot be run: {error.strerror}", remedy) from error
    if done.returncode:
        raise ConfigError(f"`{' '.join(argv[:3])}` failed with exit code {done.returncode}", remedy)
    return one_word(done.stdout[: TOKEN_LIMIT + 1].decode("latin-1"), argv[0])


def one_word(text: str, where: str) -> str:
    """A token is one word of visible ASCII. Anything else would have to be escaped in a header, so it is refused."""
    token = text.strip(" \t\r\n")
    if not token or len(token) > TOKEN_LIMIT or not (token.isascii() and token.isprintable()) or " " in token:
        raise ProtocolError(
            f"what {where} holds is not an identity token", "It should be one word, header.payload.signature."
        )
    return token
