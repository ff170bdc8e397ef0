"""Files that somebody would write to break what reads them: name -> how to make it at a path."""

import json
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

MIB: Final = 1 << 20

GOOD: Final = """\
policy: {name}
owners: [team@acme.example]
trust:
  - issuer: github
    job: {{project: acme/payments, project_id: "512345678", ref: refs/heads/main, ref_protected: true}}
grants:
  deploy: {{backend: token, ttl: 5m, with: {{audience: "https://x.example"}}}}
examples:
  - {{name: main, claims: {{$like: github-branch, repository: acme/payments, repository_id: "512345678"}}, expect: {{allow: [deploy]}}}}
  - {{name: no, claims: {{$like: github-branch, repository_id: "1"}}, expect: refuse}}
"""


def good(name: str = "payments", **changed: Any) -> str:
    """A policy that loads; `changed` replaces lines that begin with the key."""
    return "".join(changed.get(line.partition(":")[0], line) + "\n" for line in GOOD.format(name=name).splitlines())


def policy(trust: Any = None, examples: Any = None, **more: Any) -> str:
    """A policy as JSON, which is YAML."""
    return json.dumps({
        "policy": "payments",
        "owners": ["team@acme.example"],
        "trust": trust or [{"issuer": "github", "job": {"project_id": "512345678"}}],
        "grants": {"deploy": {"backend": "token", "ttl": "5m", "with": {"audience": "https://x.example"}}},
        "examples": examples or [{"name": "no", "claims": {"$like": "github-branch", "repository_id": "1"}, "expect": "refuse"}],
        **more,
    })  # fmt: skip


def conditions(*specs: Any) -> str:
    return policy([{"issuer": "github", "job": {"project_id": "512345678"}, "claims": {f"c{i}": spec for i, spec in enumerate(specs)}}])  # fmt: skip


def when(source: str) -> str:
    return policy([{"issuer": "github", "job": {"project_id": "512345678"}, "when": source}])


_BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(20)
)

# What a text file may hold. Each one is tried as a policy, as guardrails.yaml and as broker.yaml.
TEXTS: Final[Mapping[str, str | bytes]] = {
    "empty": "",
    "alias bomb": _BOMB,
    "alias to itself": "policy: &p [*p]\n",
    "merge keys": "a: &a {b: c}\npolicy:\n  <<: *a\n",
    "a tag that runs code": "policy: !!python/object/apply:os.system [id]\n",
    "10^5 brackets": "[" * 100_000,
    "10^6 brackets": "[" * 1_000_000,
    "10^5 closed brackets": "[" * 100_000 + "]" * 100_000,
    "10^5 braces": '{"a":' * 100_000,
    "a block of 10^3 levels": "".join(" " * i + "a:\n" for i in range(1_000)),
    "10^5 dashes": "- " * 100_000,
    "10^5 question marks": "? " * 100_000,
    "500 000 empty lines": "\n" * 500_000,
    "10^6 lines": "- x\n" * 1_000_000,
    "200 000 lines": "- x\n" * 200_000,
    "a mebibyte on one line": "policy: " + "x" * (MIB - 100),
    "a key of half a mebibyte": "x" * (MIB // 2) + ": 1\n",
    "20 000 unknown keys": "".join(f"key{i}: 1\n" for i in range(20_000)),
    "a key 50 000 times": "policy: payments\n" * 50_000,
    "a digit 10^6 times": "policy: " + "9" * 1_000_000,
    "a float of 10^6 digits": "policy: 0." + "9" * 1_000_000,
    "an exponent": "policy: 1e" + "9" * 1_000,
    "NUL bytes": b"policy: pay\x00ments\n",
    "only NUL bytes": bytes(1_000),
    "control characters": "policy: \x1b[31m\x07\x08\n",
    "escaped control characters": '"pol\\e[2J\\u202eicy": "\\a\\0"\n"x\\ny": "::error::x"\n',
    "not UTF-8": b"policy: \xff\xfe\xfa\n",
    "UTF-16": "policy: payments\n".encode("utf-16"),
    "UTF-32": "policy: payments\n".encode("utf-32"),
    "a byte-order mark": "\ufeffpolicy: payments\n",
    "a lone surrogate": '"\\ud800": "\\udfff"\n',
    "a lone surrogate in bytes": b"policy: \xed\xa0\x80\n",
    "other line breaks": "policy: a\u2028owners: b\x85trust: c\u2029",
    "many documents": "---\n" * 100_000,
    "a directive": "%YAML 9.9\n%TAG ! tag:evil.example,2000:\n---\npolicy: x\n",
    "comments only": "# x\n" * 200_000,
    "50 000 unclosed quotes": '"' * 50_000,
    "a number where a mapping is": "7\n",
    "a list where a mapping is": "[1, 2]\n",
    "nothing where a mapping is": "null\n",
}

# What only a policy may hold.
POLICIES: Final[Mapping[str, str | bytes]] = {
    "a regex of nested repeats": conditions({"regex": "(a{1000}){1000}"}, {"regex": "((((a{100}){100}){100}){100}){100}"}),
    "a regex made to explode": conditions({"regex": "(a*)*(a*)*(a|a)*$"}, {"regex": "(.*.*.*.*.*.*.*.*=)+"}),
    "512 unclosed groups": conditions({"regex": "(" * 512}),
    "a regex with a big class": conditions({"regex": r"[\x{0}-\x{10FFFF}]{200}"}, {"regex": r"\pL{300}"}),
    "256 large regexes": conditions(*([{"regex": f"({'a{9}' * 50}){{4}}{i}"} for i in range(256)] for _ in range(8))),
    "a glob of stars": conditions({"glob": "a**" * 170}, {"glob": "*?" * 256}, {"glob": "***"}, {"glob": "**/" * 170}),
    "conditions within conditions": conditions(json.loads('{"not":' * 60 + "1" + "}" * 60)),
    "lists within lists": conditions(json.loads("[" * 60 + "1" + "]" * 60)),
    "24 statements of 24 globs": policy([{"issuer": "github", "job": {"project_id": "512345678"}, "claims": {f"c{i}": {"glob": f"**a**b**{j}**{i}*"} for i in range(24)}} for j in range(24)]),
    "64 globs that overlap": policy([{"issuer": "github", "job": {"project_id": "512345678", "ref": {"glob": "**" + "".join(f"{chr(97 + (i * j) % 26)}*" for i in range(20)) + "**"}}} for j in range(64)]),
    "an expression of brackets": when("(" * 500 + "true" + ")" * 500),
    "an expression of negations": when("!" * 990 + "true"),
    "an expression of sums": when("1" + "+1" * 490 + " == 491"),
    "an expression of ors": when(" || ".join(["claims.a == 'x'"] * 50)),
    "an expression of lists": when("[" * 400 + "]" * 400 + " == []"),
    "an expression of indices": when("claims" + ".a" * 490 + " == 1"),
    "an expression with a wide number": when("9" * 900 + " == 1"),
    "an expression with control characters": when("claims.a == '\x1b[31m'"),
    "200 examples that come out otherwise": policy(examples=[{"name": f"e{i}", "claims": {"$like": "github-branch", "repository_id": "1", "ref": "\u202e::error::\n" * 50}, "expect": {"allow": ["deploy"]}} for i in range(200)]),
    "examples of any shape": policy(examples=[{"name": "x", "claims": {"$like": like}, "expect": "refuse"} for like in (1, None, [], {}, "x" * 10_000, "\x1b")]),
    "claims of any shape": policy(examples=[{"name": "x", "claims": {"$like": "github-branch", name: value}, "expect": "refuse"} for name in ("ref", "repository", "event_name", "sub", "environment", "run_id") for value in (1, True, [], {}, [[[]]], {"a": {}}, "x" * 10_000, 1e308, -1)]),
    "claims 60 deep": policy(examples=[{"name": "x", "claims": {"$like": "github-branch", "x": json.loads("[" * 55 + "]" * 55)}, "expect": "refuse"}]),
    "names that turn text around": policy(policy="pay\u202estnem"),
    "names with nothing in them": policy(policy="pay\u200bments", owners=["\u200b", "a\u2060b@c"]),
    "names that look alike": policy(policy="p\u0430yments", owners=["te\u0430m@acme.example"]),
    "names in two forms": policy([{"issuer": "github", "job": {"project_id": "1", "ref": "refs/heads/\u00e9"}}, {"issuer": "github", "job": {"project_id": "1", "ref": "refs/heads/e\u0301"}}]),
    "conditions that turn text around": policy([{"issuer": "github", "job": {"project_id": "512345678", "ref": "refs/heads/\u202emain\u2066"}}], description="\u202e::error::\r\n\x1b[2J"),
    "a ttl without end": policy(grants={"deploy": {"backend": "token", "ttl": "9" * 400 + "h"}}),
    "templates of braces": policy(grants={"deploy": {"backend": "token", "ttl": "5m", "with": {"audience": "{{" * 5_000 + "job.ref" + "}}" * 5_000}}}),
    "options of any shape": policy(grants={"deploy": {"backend": "token", "ttl": "5m", "with": json.loads('{"a":' * 50 + "1" + "}" * 50)}}),
    "grants named to be shown": policy(grants={"\x1b[31m": {"backend": "\u202e", "ttl": "5m"}}),
    "a silence of comments": good() + "# jobkey: allow x because \x85 y\n" * 5_000,
    "a next version that is none": policy(next={"trust": 7}),
    "a next version of its own": policy(next={"trust": [{"issuer": "github", "job": {"project_id": {"regex": "(a{1000}){1000}"}}}], "examples": []}),
}  # fmt: skip

# What only guardrails.yaml may hold.
GUARDRAILS: Final[Mapping[str, str]] = {
    "owners made to explode": json.dumps({"owners": ["**a" * 150, "*" * 500]}),
    "10 000 owners": json.dumps({"owners": [f"*{i}*@acme.example" for i in range(10_000)]}),
    "folders out of the folder": json.dumps(
        {"folders": {"../..": {}, "/etc": {}, "a/../../b": {}, "": {}, "\u202e": {}}}
    ),
    "a ttl without end": json.dumps({"longest_ttl": {"x" * 10_000: "9" * 400 + "h"}}),
    "a wildcard of any shape": json.dumps({"no_wildcards": ["", "job.", "claims.", "\x1b", "x" * 10_000]}),
}

# What only a JSON file of claims may hold.
CLAIMS: Final[Mapping[str, str | bytes]] = {
    "empty": "",
    "10^6 brackets": "[" * 1_000_000,
    "10^5 objects": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "a list": "[]",
    "a digit 10^6 times": '{"iat": ' + "9" * 1_000_000 + "}",
    "a digit 5 000 times": '{"iat": ' + "9" * 5_000 + "}",
    "an exponent": '{"iat": 1e999999999}',
    "no number": '{"iat": NaN, "exp": -Infinity}',
    "a name twice": '{"sub": "a", "sub": "b"}',
    "a lone surrogate": '{"$like": "github-branch", "ref": "\\ud800", "\\udfff": 1}',
    "escaped control characters": '{"$like": "github-branch", "ref": "\\u001b[2J\\n::error::x\\u202e", "\\u0000": 1}',
    "NUL bytes": b'{"ref": "\x00"}',
    "not UTF-8": b'{"ref": "\xff"}',
    "UTF-16": '{"ref": "x"}'.encode("utf-16"),
    "a byte-order mark": '\ufeff{"$like": "github-branch"}',
    "values of any shape": json.dumps({"$like": "github-branch", "repository": [1], "repository_id": {"a": []}, "ref": True, "event_name": 7, "iss": [], "exp": "x", "aud": {}}),
    "100 000 claims": json.dumps({f"c{i}": i for i in range(60_000)}),
    "a long claim": json.dumps({"$like": "github-branch", "ref": "x" * 900_000}),
    "an unknown like": json.dumps({"$like": ["\u202e"]}),
    "a token's beginning": "eyJhbGciOiJub25lIn0.eyJpc3MiOiJ4In0.",
    "a token of dots": "." * 100_000,
    "a token that is none": "eyJ" + "A" * 500_000 + "." + "eyJ" + "B" * 200_000 + ".c",
}  # fmt: skip


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(50 * MIB)


def _large(path: Path) -> None:
    path.write_bytes(b"policy: payments\n" * (50 * MIB // 17))


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path is at most 108 bytes
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


# What is no file of text at all.
THINGS: Final[Mapping[str, Callable[[Path], object]]] = {
    "50 MB of text": _large,
    "50 MB of nothing": _sparse,
    "a FIFO": os.mkfifo,
    "a link to a FIFO": lambda path: (os.mkfifo(path.with_suffix(".fifo")), path.symlink_to(path.with_suffix(".fifo"))),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a link out": lambda path: path.symlink_to("/etc/passwd"),
    "a folder": lambda path: path.mkdir(),
    "a socket": _socket,
}

# Names that a file may have, to be shown.
NAMES: Final = (
    "::error file=x::forged.yaml",
    "##[add-mask]x.yaml",
    "\x1b[31mred.yaml",
    "new\nline.yaml",
    "a.yaml:1:1: forged.yaml",
    "\u202elmay.yaml",
    "e\u0301.yaml",
    "\u00e9.yaml",
    "[red]markup[bold].yaml",
    "-rf.yaml",
    "%0A.yaml",
    "x" * 250 + ".yaml",
    os.fsdecode(b"\xff\xfe.yaml"),
)


def write(path: Path, what: str | bytes | Callable[[Path], object]) -> None:
    """Make it at `path`."""
    if callable(what):
        what(path)
    else:
        path.write_bytes(what if isinstance(what, bytes) else what.encode("utf-8", "surrogatepass"))
