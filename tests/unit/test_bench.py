"""The bench's own instruments, against its own constant server: a wrong ruler would make every number wrong."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest

from bench import server
from bench.issuer import Algorithm, BenchIssuer
from bench.load import Plan, drive
from bench.many import policies, project_id, world
from bench.measure import cpu_seconds, percentile, resident_megabytes
from bench.report import Goal
from broker.policy.load import Loader


def plan(port: int, **changed: object) -> Plan:
    settings = {
        "port": port,
        "connections": 3,
        "body": "{}",
        "bearers": [str(n) for n in range(50)],
        "expect": "issuance",
    }
    return Plan(**settings | changed)  # type: ignore[arg-type]  # a test's table of changes


def test_every_request_is_answered_once_on_every_number_of_connections() -> None:
    with server.constant(size=3000) as target:
        for connections in (1, 3, 64):
            result = drive(plan(target.port, connections=connections))
            assert (result.answered, result.bytes, result.failures) == (50, 3000, {})
            assert 0 < result.p50 <= result.p99


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        pytest.param({"path": "/nowhere"}, "404", id="a refusal"),
        pytest.param({"expect": "something else"}, "not what was expected", id="another answer"),
        pytest.param({"body": "x" * 2_000_000, "path": "/nowhere"}, "404", id="a large body"),
    ],
)
def test_an_answer_that_is_not_the_one_asked_for_stops_the_bench(changed: dict[str, object], said: str) -> None:
    with server.constant(size=100) as target, pytest.raises(RuntimeError, match=said):
        drive(plan(target.port, bearers=["a", "b"], connections=1, **changed))


def test_a_server_that_is_not_there_stops_the_bench() -> None:
    with pytest.raises(RuntimeError, match="load generator failed"):
        drive(plan(server.free_port()))


def test_cpu_time_is_the_other_process_s_own() -> None:
    burn = "import sys, time\nwhile time.process_time() < 0.2: pass\nprint(time.process_time(), flush=True)\nsys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", burn], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        said = float(child.stdout.readline())
        time.sleep(0.05)  # waiting costs it nothing
        assert said <= cpu_seconds(child.pid) < said + 0.04
        assert resident_megabytes(child.pid) > 1
        child.stdin.close()


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_tokens_are_genuine_and_distinct(algorithm: Algorithm) -> None:
    issuer = BenchIssuer()
    with ThreadPoolExecutor(1) as workers, issuer.served() as url:
        tokens = issuer.tokens(3, audience="https://broker.example", workers=workers, algorithm=algorithm)
        key = next(jwt.PyJWK(key) for key in issuer.documents()["/jwks"]["keys"] if key["alg"] == algorithm)
        claims = [
            jwt.decode(token, key, algorithms=[algorithm], audience="https://broker.example", issuer=url)
            for token in tokens
        ]
    assert len({claim["jti"] for claim in claims}) == 3


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_percentiles_are_nearest_rank(share: float, value: int) -> None:
    assert percentile(range(1, 101), share) == value


def test_a_goal_is_met_at_its_limit() -> None:
    assert Goal(name="x", value=3.0, limit=3.0).met
    assert not Goal(name="x", value=3.01, limit=3.0).met


def test_the_many_policies_are_all_good_and_all_different() -> None:
    found = Loader().load(list(policies(120)), world())
    assert len(found.policies) == 120
    assert {len(policy.statements) for policy in found.policies.values()} == {5}
    assert len({policy.version for policy in found.policies.values()}) == 120
    assert project_id(7) in found.policies["service-7"].text
