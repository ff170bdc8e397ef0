"""Who can reach what, over a set."""

from typing import Any

import pytest

from broker.authoring.describe.matrix import COLUMNS, Filters, Matrix, matrix, table
from broker.documents import parse, validated
from broker.errors import ConfigError
from broker.policy.document import PolicyFile
from broker.policy.world import World
from tests.unit.policy.world import world

TEAMS = {
    "payments.yaml": """\
policy: payments
owners: [pay@acme.example]
trust:
  - issuer: github
    job: {project: acme/payments, project_id: "512345678", ref: refs/heads/main}
  - issuer: github
    job: {project_id: "777", environment: production}
grants:
  deploy: {backend: safe, ttl: 15m, with: {role: payments-deploy, hosts: ["1"]}}
  shell: {backend: needy, ttl: 5m, with: {role: "x-{{ job.ref_type }}"}}
examples: [{name: no, claims: {$like: github-branch}, expect: refuse}]
""",
    "web.yaml": """\
policy: web
owners: [web@acme.example, pay@acme.example]
mode: observe
trust:
  - issuer: gitlab
    job: {owner: acme, owner_id: "9"}
  - issuer: gitlab
    job: {project: acme/web, project_id: "1"}
grants:
  publish: {backend: safe, ttl: 1h, with: {role: web}}
examples: [{name: no, claims: {$like: gitlab-tag}, expect: refuse}]
""",
}


def made(filters: Filters | None = None, files: dict[str, str] = TEAMS, of: World | None = None) -> Matrix:
    return matrix(
        [(name, validated(PolicyFile, parse(text, name))) for name, text in files.items()], of or world(), filters
    )


def grants(**filters: Any) -> set[tuple[str, int]]:
    return {(one.grant, one.statement) for one in made(Filters(**filters)).entries}


EVERY = {
    ("payments/deploy", 0), ("payments/deploy", 1), ("payments/shell", 0), ("payments/shell", 1), ("web/publish", 0),
    ("web/publish", 1),
}  # fmt: skip


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, EVERY),
        ({"backend": "needy"}, {("payments/shell", 0), ("payments/shell", 1)}),
        ({"issuer": "gitlab"}, {("web/publish", 0), ("web/publish", 1)}),
        ({"owner": "web@acme.example"}, {("web/publish", 0), ("web/publish", 1)}),
        ({"owner": "nobody@acme.example"}, set()),
        ({"options": (("role", "payments-deploy"),)}, {("payments/deploy", 0), ("payments/deploy", 1)}),
        ({"options": (("hosts", "1"),)}, {("payments/deploy", 0), ("payments/deploy", 1)}),
        ({"options": (("role", "x-branch"),)}, {("payments/shell", 0), ("payments/shell", 1)}),
        ({"options": (("role", "y-branch"),)}, set()),
        ({"options": (("nope", "x"),)}, set()),
        ({"reaches": "DEPLOY"}, {("payments/deploy", 0), ("payments/deploy", 1)}),
        ({"reaches": "x-tag"}, {("payments/shell", 0), ("payments/shell", 1)}),
        ({"project": "acme/payments"}, {("payments/deploy", 0), ("payments/shell", 0), ("web/publish", 0)}),
        ({"project": "777"}, {("payments/deploy", 1), ("payments/shell", 1), ("web/publish", 0)}),
        ({"project": "evil/payments"}, set()),
        ({"project": "acme/payments", "backend": "needy"}, {("payments/shell", 0)}),
    ],
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value),  # one order in every process
)
def test_filters(filters: dict[str, Any], found: set[tuple[str, int]]) -> None:
    assert grants(**filters) == found


def test_what_a_project_filter_cannot_tell_is_counted() -> None:
    assert made(Filters(project="acme/payments")).by_id_alone == 1
    assert made(Filters(project="777")).by_id_alone == 0


def test_the_order_depends_on_the_words_alone() -> None:
    turned = dict(reversed(TEAMS.items()))
    renamed = {f"z{name}": text for name, text in turned.items()}
    orders = [[(one.jobs, one.cell) for one in made(files=files).entries] for files in (TEAMS, turned, renamed)]
    assert orders[0] == orders[1] == orders[2] == sorted(orders[0], key=lambda one: one[0])


def test_rows_are_jobs_and_columns_backends() -> None:
    headings, rows = table(made())
    assert headings == ("Jobs", "needy", "safe")
    first = rows[0]
    assert first[0] == "jobs of acme/payments (id 512345678) on GitHub Actions, if they run from the branch main"
    assert first[1] == "a credential of the backend needy for 5m (payments/shell)"
    assert "15m (payments/deploy)" in first[2]
    web = next(row for row in rows if "acme/web" in row[0])
    assert web[1:] == ("", "a credential of the backend safe for 1h (web/publish, on trial: nothing is given)")


def test_a_record_has_every_column() -> None:
    for entry in made().entries:
        assert tuple(entry.record()) == COLUMNS


@pytest.mark.parametrize(
    "job", ["nope: x", "ref: {glob: a, regex: b}", "ref: {}"], ids=["field", "two forms", "no form"]
)  # fmt: skip
def test_what_has_no_words_is_an_error_and_not_a_gap(job: str) -> None:
    text = TEAMS["web.yaml"].replace('{owner: acme, owner_id: "9"}', f"{{{job}}}")
    with pytest.raises(ConfigError, match=r"web\.yaml:1:1: this does not load"):
        made(files={"web.yaml": text})
