"""Ten thousand policies: what loading and checking cost next to parsing the same YAML, and deciding next to one signature check."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from bench.many import policies, project_id, world
from bench.measure import resident_megabytes
from bench.report import Goal
from broker.authoring.checking import examine
from broker.authoring.finding import Severity
from broker.cli.policy.linting import lint
from broker.issuers import ISSUERS
from broker.model import GrantRequest, VerifiedToken
from broker.policy import PolicySet, decide
from broker.policy.examples import example_token
from broker.policy.load import Loader, PolicyText, folders_of
from broker.sources.folder import FolderSource

GOAL_LOAD: Final = 3.0
GOAL_CHECK: Final = 6.0
GOAL_AGAIN: Final = 0.5  # seconds
GOAL_DECIDE: Final = 1.0
ROUNDS: Final = 5
CALLS: Final = 2_000
_YAML: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, kw_only=True)
class Report:
    """CPU seconds, microseconds a call, megabytes; `decide` and `named` by number of policies, then by case."""

    count: int
    parse: float
    load: float
    check: float  # as `policy check` does: loading, every example, the linter
    look: float  # the folder, all files unread
    again: float  # one file changed: noticing, reading, compiling, the whole set built
    memory: float
    signature: float
    decide: Mapping[int, Mapping[str, float]]
    named: Mapping[int, float]  # whether a stranger is named by some policy

    @property
    def goals(self) -> list[Goal]:
        """Met where load is a small multiple of parsing, and no decision costs what its signature check costs."""
        slowest = max(cost for cases in self.decide.values() for cost in cases.values())
        return [
            Goal(name=f"loading {self.count} policies to parsing them", value=self.load / self.parse, limit=GOAL_LOAD),
            Goal(
                name=f"checking {self.count} policies to parsing them", value=self.check / self.parse, limit=GOAL_CHECK
            ),
            Goal(name=f"reloading one of {self.count}, seconds", value=self.again, limit=GOAL_AGAIN),
            Goal(name="the slowest decision to one signature check", value=slowest / self.signature, limit=GOAL_DECIDE),
        ]


def measured(folder: Path, *, count: int) -> Report:
    """Everything, in this process; `folder` is for the files."""
    texts = list(policies(count))
    parse = _cpu(lambda: [yaml.load(text.data, Loader=_YAML) for text in texts])
    before = resident_megabytes(os.getpid())
    loader, ground = Loader(), world()
    began = time.process_time()
    found = loader.load(texts, ground, folders=folders_of(texts))
    load = time.process_time() - began
    memory = resident_megabytes(os.getpid()) - before
    look, again = _again(folder, texts, loader)
    check = _cpu(lambda: _checked(texts))
    few = {number: _loaded(number) for number in (1, 100) if number < count} | {count: found}
    return Report(
        count=count,
        parse=parse,
        load=load,
        check=check,
        look=look,
        again=again,
        memory=memory,
        signature=_signature(),
        decide={number: _decisions(loaded, number) for number, loaded in few.items()},
        named={number: _naming(loaded) for number, loaded in few.items()},
    )


def _loaded(count: int) -> PolicySet:
    texts = list(policies(count))
    return Loader().load(texts, world(), folders=folders_of(texts))


def _checked(texts: list[PolicyText]) -> None:
    found = examine(texts, world(), folders=folders_of(texts), lint=lint)
    assert len(found.checked) == len(texts)
    assert all(finding.severity is not Severity.ERROR for finding in found.findings)


def _again(folder: Path, texts: list[PolicyText], loader: Loader) -> tuple[float, float]:
    """(the first look at the folder, the look and the load after one file changed)"""
    for text in texts:
        path = folder / text.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.data)
    source, ground = FolderSource(folder), world()
    time.sleep(2.5)  # a file that changed a moment ago is read again anyway
    look = _cpu(lambda: source.look(anyway=True))
    changed = folder / texts[len(texts) // 2].file
    changed.write_bytes(changed.read_bytes().replace(b"ttl: 10m", b"ttl: 11m"))

    def reload() -> None:
        snapshot = source.look()
        assert snapshot is not None
        loader.load(snapshot.texts, ground, snapshot.problems, folders=folders_of(snapshot.texts))

    return look, _cpu(reload)


def _decisions(loaded: PolicySet, count: int) -> dict[str, float]:
    n = count // 2
    own = {
        "repository": f"acme-{n // 100}/service-{n}",
        "repository_id": project_id(n),
        "ref": "refs/heads/main",
        "ref_protected": "true",
        "environment": "production",
    }
    asked, now = [GrantRequest(grant=f"service-{n}/deploy")], datetime.now(UTC)
    unknown = [GrantRequest(grant="nobody/nothing")]
    token, near = _token(own), _token({**own, "ref": "refs/heads/other"})
    cases: dict[str, tuple[VerifiedToken, list[GrantRequest], str]] = {
        "allowed": (token, asked, "Allowed"),
        "refused, near": (near, asked, "Denied"),
        "refused, a stranger": (_stranger(), asked, "Denied"),
        "no such grant": (token, unknown, "Denied"),
    }
    costs = {}
    for name, (who, requests, expected) in cases.items():
        assert type(decide(loaded, who, requests, now=now)).__name__ == expected
        costs[name] = _each(lambda: decide(loaded, who, requests, now=now))  # noqa: B023  called at once
    return costs


def _naming(loaded: PolicySet) -> float:
    stranger = _stranger()
    assert not loaded.names(stranger)
    return _each(lambda: loaded.names(stranger))


def _token(claims: Mapping[str, Any]) -> VerifiedToken:
    kind = ISSUERS["github"]
    return example_token("github", kind, {**kind.examples["github-environment"], **claims})


def _stranger() -> VerifiedToken:
    return _token(
        {"repository": "evil/x", "repository_id": "1", "repository_owner": "evil", "repository_owner_id": "2"}
    )


def _signature() -> float:
    """One RS256 check as the broker makes it, of a token's usual size."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    algorithm, message = RSAAlgorithm(RSAAlgorithm.SHA256), b"x" * 1500
    signature, public = algorithm.sign(message, key), key.public_key()
    return _each(lambda: algorithm.verify(message, public, signature))


def _cpu(act: Callable[[], object]) -> float:
    began = time.process_time()
    act()
    return time.process_time() - began


def _each(act: Callable[[], object]) -> float:
    """Microseconds a call, the best of some rounds: neighbours only ever add."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(CALLS):
            act()
        rounds.append((time.process_time() - began) / CALLS)
    return min(rounds) * 1e6


def table(report: Report) -> str:
    """Plain text."""
    ratio = report.load / report.parse
    out = [
        "",
        f"{report.count} policies of five statements, CPU",
        f"  {'parsing, libyaml':<28}{report.parse:>9.2f} s",
        f"  {'loading':<28}{report.load:>9.2f} s{ratio:>8.2f} x",
        f"  {'checking, with the linter':<28}{report.check:>9.2f} s{report.check / report.parse:>8.2f} x",
        f"  {'looking at the folder':<28}{report.look:>9.2f} s",
        f"  {'one file changed':<28}{report.again:>9.2f} s{report.again / report.parse:>8.2f} x",
        f"  {'memory':<28}{report.memory:>9.0f} MB",
        "",
        f"deciding, µs (one RS256 check: {report.signature:.1f})",
        f"  {'':<22}" + "".join(f"{number:>9}" for number in report.decide),
    ]
    out += [
        f"  {case:<22}" + "".join(f"{costs[case]:>9.1f}" for costs in report.decide.values())
        for case in next(iter(report.decide.values()))
    ]
    out.append(f"  {'is a stranger named':<22}" + "".join(f"{cost:>9.1f}" for cost in report.named.values()))
    return "\n".join([*out, ""])
