"""`policy explain`: asked by claims, a token, an event or a case; the smallest edit; what of then decided."""

import asyncio
import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from broker import ids
from broker.cli.policy import app
from broker.issuers import ISSUERS
from broker.ledger import events
from broker.ledger.records import Entry, PolicyVersion
from broker.policy.examples import example_token
from broker.policy.guardrails import Guardrails
from broker.policy.load import load_policies
from tests.unit.ledger.story import open_ledger

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
BROKER = """\
url: https://broker.acme.example
data: ./data
policies: ./policies
issuers:
  github: {kind: github}
backends:
  safe: {kind: identity-token}
"""
POLICY = """\
policy: payments
owners: [team@acme.example]
trust:
  - issuer: github
    job: {project_id: "512345678", ref: refs/heads/main, ref_protected: true, environment: production}
grants:
  deploy: {backend: safe, ttl: 15m, with: {audience: "https://deploy.acme.example"}}
  look: {backend: safe, ttl: 5m, with: {audience: "https://look.acme.example"}}
examples:
  - {name: a stranger, claims: {$like: github-branch, repository_id: "1"}, expect: refuse}
"""
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run() -> Run:
    def invoke(*arguments: str | Path, stdin: str | None = None) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["explain", *map(str, arguments)], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return invoke


class Place:
    """A broker's own files."""

    def __init__(self, folder: Path) -> None:
        self.config, self.file = folder / "broker.yaml", folder / "policies" / "payments.yaml"
        self.data = folder / "data"
        self.file.parent.mkdir()
        self.data.mkdir(mode=0o700)
        self.config.write_text(BROKER)
        self.file.write_text(POLICY)

    def claims(self, **changed: Any) -> dict[str, Any]:
        return {**ISSUERS["github"].examples["github-environment"], **changed}

    def refuse(self, *, keep_text: bool = True, edit: tuple[str, str] = ("", ""), **changed: Any) -> tuple[str, str]:
        """Record the policies of now and a refusal by them; (event, case)."""
        loaded = load_policies(self.file.parent, issuers=ISSUERS, issuer_urls={}, targets=None, guardrails=Guardrails())
        policy = loaded.policies["payments"]
        digest = policy.version.removeprefix("sha256:")
        token = example_token("github", ISSUERS["github"], self.claims(**changed))
        case = ids.new("case")
        refused = events.refused(
            case=case, code="no-statement", grants=["payments/deploy"], issuer="github", job=token.job.present(),
            claims=dict(token.claims), reason="no", policy_set=loaded.version, now=NOON,
        )  # fmt: skip
        versions = (PolicyVersion(sha256=digest, name="payments", text=policy.text.replace(*edit)),)

        async def write() -> None:
            ledger = await open_ledger(self.data)
            changes = events.policy_changed(
                policy_set=loaded.version, policies={"payments": policy.version}, removed=["old"], now=NOON
            )
            await ledger.write(Entry(policies=versions if keep_text else (), events=(*changes, refused)))
            await ledger.close()

        asyncio.run(write())
        return refused.id, case


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def jwt(claims: dict[str, Any]) -> str:
    parts = ({"alg": "RS256", "kid": "k"}, claims)
    return (
        ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + ".c2ln"
    )


def test_the_smallest_edit_is_shown_with_its_place_and_who_comes_in(run: Run, place: Place) -> None:
    claims = json.dumps(place.claims(ref="refs/heads/release"))
    code, out = run("--claims", "-", "-g", "payments/deploy", "-c", place.config, stdin=claims)
    assert code == 1
    assert "miss job.ref: expected refs/heads/main, got refs/heads/release  <- first miss" in out
    assert f"{place.file}:5" in out
    assert "ref: [refs/heads/main, refs/heads/release]" in out
    assert "it would give payments/deploy, payments/look to" in out
    assert (
        "  jobs of the project with id 512345678 on GitHub Actions, if they run from the protected branch release in the"
        " environment production\n"
    ) in out
    assert out.endswith("and to nobody else who does not have it: proved\n")


def test_the_patch_applies_and_lets_the_job_in(run: Run, place: Place) -> None:
    claims = json.dumps(place.claims(ref="refs/heads/release"))
    _, out = run("--claims", "-", "-g", "payments/deploy", "-c", place.config, "-f", "json", stdin=claims)
    patch = json.loads(out)["edit"]["patch"]
    old, new = (next(line[1:] for line in patch if line[0] == sign and line[1] == " ") for sign in "-+")
    place.file.write_text(place.file.read_text().replace(old, new))
    code, out = run("--claims", "-", "-g", "payments/deploy", "-c", place.config, stdin=claims)
    assert (code, "allowed: payments/deploy, by trust[0]; safe, 900s at most" in out) == (0, True), out


def test_json_has_the_decision_the_checks_and_the_edit(run: Run, place: Place) -> None:
    claims = json.dumps(place.claims(environment=""))
    code, out = run("--claims", "-", "-g", "payments/deploy", "-c", place.config, "--format", "json", stdin=claims)
    found = json.loads(out)
    assert code == 1
    assert found["allowed"] is False
    assert [(one["grant"], one["outcome"], one["code"]) for one in found["grants"]] == [
        ("payments/deploy", "refused", "no-statement")
    ]
    (near,) = found["statements"]
    assert near["first_miss"] == "job.environment"
    assert [check["key"] for check in near["checks"]] == [
        "issuer", "job.project_id", "job.ref", "job.ref_protected", "job.environment",
    ]  # fmt: skip
    assert found["edit"]["line"] == 5
    assert found["edit"]["proved"] is True


def test_without_a_grant_every_grant_of_the_nearest_policy_is_tried(run: Run, place: Place) -> None:
    code, out = run("--claims", "-", "-c", place.config, stdin=json.dumps(place.claims()))
    assert code == 0, out
    assert "allowed: payments/deploy" in out
    assert "allowed: payments/look" in out
    code, out = run("--claims", "-", "-c", place.config, stdin=json.dumps(place.claims(ref="refs/heads/x")))
    assert code == 1
    assert out.count("refused: payments/") == 2


@pytest.mark.parametrize("grant", [[], ["-g", "payments/deploy"]], ids=["near", "named"])
def test_what_whoami_prints_is_taken_too(run: Run, place: Place, grant: list[str]) -> None:
    shown = json.dumps({"named": None, "presents": place.claims()})
    code, out = run("--claims", "-", "-c", place.config, *grant, stdin=shown)
    assert code == 0, out
    assert "allowed: payments/deploy" in out


def test_a_token_is_decoded_and_never_printed(run: Run, place: Place, tmp_path: Path) -> None:
    token = jwt(place.claims(ref="refs/heads/release"))
    file = tmp_path / "token.jwt"
    file.write_text(token + "\n")
    for source, stdin in ((file, None), ("-", token)):
        code, out = run("--token", source, "-c", place.config, stdin=stdin)
        assert code == 1, out
        assert "signature was not checked" in out
        assert "first miss" in out
        assert not any(part in out for part in token.split("."))


@pytest.mark.parametrize("token", ["a.b.c", "not a token", "eyJhbGciOiJub25lIn0.x.y", '{"iss": "x"}', ""])
def test_what_is_no_token_is_a_wrong_question_and_is_not_repeated(run: Run, place: Place, token: str) -> None:
    code, out = run("--token", "-", "-c", place.config, stdin=token)
    assert code == 2, out
    assert not token or token not in out


@pytest.mark.parametrize("by", ["event", "case"])
def test_an_event_or_a_case_of_the_ledger(run: Run, place: Place, by: str) -> None:
    event, case = place.refuse(ref="refs/heads/release")
    before = sorted(path.name for path in place.data.iterdir())
    code, out = run(f"--{by}", event if by == "event" else case, "-c", place.config)
    assert code == 1, out
    assert "of the ledger, whose broker verified the token" in out
    assert "policies have changed" not in out
    assert "refused: payments/deploy (no-statement)" in out
    assert "refused: payments/look" not in out
    assert sorted(path.name for path in place.data.iterdir()) == before


def test_a_policy_that_changed_since_is_said_and_that_of_then_can_be_asked(run: Run, place: Place) -> None:
    event, _ = place.refuse(ref="refs/heads/release")
    place.file.write_text(POLICY.replace("refs/heads/main", "refs/heads/release"))
    code, out = run("--event", event, "-c", place.config)
    assert code == 0, out
    assert "the policies have changed since: judged by those of now" in out
    code, out = run("--event", event, "-c", place.config, "--then")
    assert code == 1, out
    assert "the policies have changed since: judged by those of then" in out
    assert "miss job.ref: expected refs/heads/main, got refs/heads/release" in out
    assert "smallest edit" not in out
    _, out = run("--event", event, "-c", place.config, "--then", "-f", "json")
    found = json.loads(out)
    assert (found["changed_since"], found["judged_by"], found["edit"]) == (True, "then", None)


@pytest.mark.parametrize(
    ("kept", "edit"), [(False, ("", "")), (True, ("refs/heads/main", "refs/heads/evil"))], ids=["missing", "edited"]
)
def test_texts_that_are_not_those_of_then_are_not_used(
    run: Run, place: Place, kept: bool, edit: tuple[str, str]
) -> None:
    event, _ = place.refuse(keep_text=kept, edit=edit, ref="refs/heads/release")
    code, out = run("--event", event, "-c", place.config, "--then")
    assert code == 2
    assert "the ledger does not hold this text" in out


def test_claims_cannot_move_the_cursor(run: Run, place: Place) -> None:
    claims = place.claims(ref="refs/heads/\x1b[2J\u202ex", actor="\x1b]0;x\x07")
    code, out = run("--claims", "-", "-g", "payments/deploy", "-c", place.config, stdin=json.dumps(claims))
    assert code == 1
    assert all(char.isprintable() or char == "\n" for char in out)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give one of --claims"),
        (["--claims", "-", "--case", "case_00000000000000000000000000"], "give one of --claims"),
        (["--case", "evt_00000000000000000000000000"], "--case takes an id that begins with case_"),
        (["--event", "nonsense"], "--event takes an id that begins with evt_"),
        (["--claims", "-", "--then"], "--then goes with --event or --case"),
    ],
)
def test_wrong_questions(run: Run, place: Place, arguments: list[str], says: str) -> None:
    code, out = run(*arguments, "-c", place.config, stdin="{}")
    assert code == 2
    assert says in out


def test_an_id_that_the_ledger_does_not_know(run: Run, place: Place) -> None:
    place.refuse()
    code, out = run("--case", ids.new("case"), "-c", place.config)
    assert code == 2
    assert "the ledger holds nothing of this id" in out


def test_a_broker_that_follows_a_repository_is_explained_by_the_working_copys_guardrails(
    run: Run, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.config.parent)
    followed = '{git: "https://git.acme.example/policies.git", path: policies, guardrails: limits.yaml}'
    place.config.write_text(BROKER.replace("./policies", followed))
    Path("limits.yaml").write_text("triggers_never_allowed: [issue_comment]\n")
    claims = json.dumps(place.claims(event_name="issue_comment"))
    code, out = run("--claims", "-", "-g", "payments/deploy", "-c", place.config, stdin=claims)
    assert code == 1
    assert "the guardrails never allow this trigger" in out
    Path("limits.yaml").unlink()
    code, out = run("--claims", "-", "-g", "payments/deploy", "-c", place.config, stdin=claims)
    assert code == 2
    assert "limits.yaml:1:1: cannot be read" in out


@pytest.mark.parametrize(
    ("environment", "changed", "says"),
    [
        ("staging", "staging", "its version on trial decides otherwise: payments/deploy would be allowed"),
        (
            "staging",
            "production",
            "its version on trial decides otherwise: payments/deploy would be refused: next trust[0] job.environment: expected staging, got production",
        ),
        ("production", "production", ""),
    ],
)
def test_a_version_on_trial_that_decides_otherwise_is_told(
    run: Run, place: Place, environment: str, changed: str, says: str
) -> None:
    trial = f"""\
next:
  trust: [{{issuer: github, job: {{project_id: "512345678", environment: {environment}}}}}]
  examples: [{{name: nobody, claims: {{$like: github-fork, repository_id: "1"}}, expect: refuse}}]
"""
    place.file.write_text(POLICY + trial)
    claims = json.dumps(place.claims(environment=changed))
    asked = ("--claims", "-", "--grant", "payments/deploy", "--policies", place.file.parent)
    _, out = run(*asked, stdin=claims)
    assert [line for line in out.splitlines() if "on trial" in line] == ([says] if says else [])
    told = json.loads(run(*asked, "--format", "json", stdin=claims)[1])["next"]
    would = {"staging": "allow", "production": "refuse"}[changed]
    assert [(change["grant"], change["would"]) for change in told] == ([("payments/deploy", would)] if says else [])
