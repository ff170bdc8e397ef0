"""What was typed, checked. A parser of its own, in a few lines: argparse takes longer than the request it would start."""

from __future__ import annotations

from jobkey.errors import UsageError

USAGE = """\
jobkey: credentials that live as long as the job.

  jobkey exec GRANT... [--ttl 5m] [--ssh-key FILE] [--prefix] -- COMMAND...
      Run COMMAND with the credentials in its environment and nowhere else; revoke them when it ends.
  jobkey get GRANT... --format json|env|dotenv|github-env|file [--output PATH] [--field NAME]
             [--ttl 5m] [--ssh-key FILE] [--prefix] [--allow-print]
      Write credentials for later steps; `jobkey revoke` ends them.
  jobkey whoami [--json]
      What this job presents, and how the broker names it.
  jobkey revoke
      End everything that this job was given. Never fails the job.

Options for all: --broker URL (or JOBKEY_URL), --verbose, --help, --version.
Environment: JOBKEY_URL, JOBKEY_CA_FILE (PEM, instead of the system's authorities), JOBKEY_PATIENCE (seconds, 60),
  JOBKEY_DIR (private directory), JOBKEY_CI (force one CI), JOBKEY_AUDIENCE (a fixed audience),
  JOBKEY_SUBJECT_TOKEN or JOBKEY_SUBJECT_TOKEN_FILE, HTTPS_PROXY, NO_PROXY.
Exit codes: the command's own; 64 usage, 69 unavailable, 74 local files, 76 bad answer, 77 refused, 78 configuration.
"""

COMMON = {"broker": True, "verbose": False}
GIVEN = {"ttl": True, "ssh-key": True, "prefix": False}
OPTIONS: dict[str, dict[str, bool]] = {  # option -> takes a value
    "exec": {**COMMON, **GIVEN},
    "get": {**COMMON, **GIVEN, "format": True, "output": True, "field": True, "allow-print": False},
    "whoami": {**COMMON, "json": False},
    "revoke": COMMON,
}


class Arguments:
    """A checked command line."""

    def __init__(self) -> None:
        self.name = ""
        self.grants: list[str] = []
        self.command: list[str] = []
        self._options: dict[str, str] = {}

    def option(self, name: str) -> str:
        return self._options.get(name, "")

    def flag(self, name: str) -> bool:
        return name in self._options


def parse(argv: list[str]) -> Arguments:
    """Raises UsageError. Errors never repeat a value: it may be a secret given to the wrong option."""
    found = Arguments()
    words = iter(argv)
    for word in words:
        if word == "--" and found.name == "exec":
            found.command = list(words)
        elif word.startswith("-") and word != "-":
            name, equals, value = word.lstrip("-").partition("=")
            takes = OPTIONS.get(found.name, COMMON).get(name) if word.startswith("--") else None
            if takes is None:
                raise UsageError(f"{found.name or 'jobkey'} has no option {'-' * (2 - (word[1] != '-'))}{name}", HINT)
            if takes and not equals:
                value = next(words, "")
            if (takes and not value) or (equals and not takes):
                raise UsageError(f"--{name} takes {'a' if takes else 'no'} value", HINT)
            found._options[name] = value  # noqa: SLF001 - its own builder
        elif not found.name:
            if word not in OPTIONS:
                raise UsageError("there is no such command", HINT)
            found.name = word
        else:
            found.grants.append(word)
    _complete(found)
    return found


HINT = "See `jobkey --help`."


def _complete(found: Arguments) -> None:
    if not found.name:
        raise UsageError("no command is given", HINT)
    if found.name in ("exec", "get"):
        if not found.grants:
            raise UsageError(
                f"{found.name} takes at least one grant", f"For example `jobkey {found.name} payments/deploy`."
            )
        for grant in found.grants:
            policy, slash, name = grant.partition("/")
            if not (slash and policy and name) or not grant.isprintable() or " " in grant:
                raise UsageError("a grant is written policy/grant", "The command to run comes after `--`.")
        if len(set(found.grants)) != len(found.grants):
            raise UsageError("a grant is named twice")
    elif found.grants:
        raise UsageError(f"{found.name} takes no grants", HINT)
    if found.name == "exec" and not found.command:
        raise UsageError(
            "exec needs a command after `--`", "For example `jobkey exec payments/deploy -- terraform apply`."
        )
