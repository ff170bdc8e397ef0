"""Policies that each rule finds, and policies near them that it leaves alone: at least three of each."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

# An example that every statement refuses unless it names the trigger, for each kind.
REFUSED = {
    "azure-devops": "azure-devops-pull-request",
    "bitbucket": "bitbucket-branch",
    "buildkite": "buildkite-api",
    "circleci": "circleci-ssh-rerun",
    "forgejo": "forgejo-pull-request-target",
    "github": "github-issue-comment",
    "gitlab": "gitlab-merge-request",
    "google": "google-person",
    "jenkins": "jenkins-pull-request",
    "kubernetes": "kubernetes-token-request",
    "semaphore": "semaphore-debug-job",
    "spacelift": "spacelift-task",
    "terraform-cloud": "terraform-cloud-plan",
}
DEPLOY = "deploy: {backend: token, ttl: 5m, with: {audience: https://deploy.acme.example}}"


@dataclass(frozen=True)
class Sample:
    """What is linted, all of it."""

    policies: tuple[str, ...]
    guardrails: str | None = None
    history: dict[str, timedelta] | None = None
    people: tuple[str, ...] | None = None

    def given(self) -> dict[str, Any]:
        return {"guardrails": self.guardrails, "history": self.history, "people": self.people}


@dataclass(frozen=True)
class Pair:
    fail: tuple[Sample, ...] = field(default=())
    good: tuple[Sample, ...] = field(default=())


def trust(body: str, issuer: str = "github") -> str:
    lines = "\n".join("    " + line for line in body.strip("\n").splitlines())
    return f"  - issuer: {issuer}\n{lines}\n"


def policy(
    *statements: str,
    issuer: str = "github",
    grants: str = DEPLOY,
    examples: str = "",
    name: str = "payments",
    owners: str = "[team-payments@acme.example]",
    refused: str | None = None,
) -> str:
    """A policy that loads. A statement is its YAML without the issuer."""
    given = "\n".join("  " + line for line in grants.strip("\n").splitlines())
    more = "\n".join("  " + line for line in examples.strip("\n").splitlines())
    like = refused or REFUSED[issuer]
    return (
        f"policy: {name}\nowners: {owners}\ntrust:\n{''.join(trust(one, issuer) for one in statements)}"
        f"grants:\n{given}\nexamples:\n  - {{name: no, claims: {{$like: {like}}}, expect: refuse}}\n{more}\n"
    )


def one(*statements: str, **more: Any) -> Sample:
    return Sample((policy(*statements, **more),))


ID = 'project_id: "512345678"'
OWNER = 'owner_id: "9123456"'
MAIN = "ref: refs/heads/main, ref_protected: true"


def many(*bodies: str, **more: Any) -> tuple[Sample, ...]:
    return tuple(one(body, **more) for body in bodies)


def granting(*grants: str) -> tuple[Sample, ...]:
    return tuple(one(f"job: {{{ID}, {MAIN}}}", grants=grant) for grant in grants)


def when(*sources: str, issuer: str = "github", whose: str = ID) -> tuple[Sample, ...]:
    return tuple(one(f"job: {{{whose}}}\nwhen: '{source}'", issuer=issuer) for source in sources)


def owned(*owners: str, **more: Any) -> tuple[Sample, ...]:
    return tuple(Sample((policy(f"job: {{{ID}, {MAIN}}}", owners=owner),), **more) for owner in owners)


def rails(*texts: str) -> tuple[Sample, ...]:
    return tuple(Sample((), guardrails=text) for text in texts)


def together(*sets: tuple[str, ...], guardrails: str | None = None) -> tuple[Sample, ...]:
    return tuple(Sample(texts, guardrails=guardrails) for texts in sets)


def named(name: str, grants: str = DEPLOY, team: str = "team") -> str:
    return policy(
        f"job: {{{ID}, project: acme/{name}, {MAIN}}}", name=name, grants=grants, owners=f"[{team}@acme.example]"
    )


def aws(options: str) -> str:
    return f"g: {{backend: aws, ttl: 15m, with: {{role_arn: arn:aws:iam::111122223333:role/payments{options}}}}}"


PROTECTS = """\
require_immutable_id: false
protects:
  policies: ["github:acme/policies"]
  broker: ["ssh:broker-admin", "vault:secret/data/jobkey/**", "vault-policy:admin", "aws:arn:aws:iam::*:role/jobkey*"]
  identities: ["identity:https://sso.acme.example/**"]
"""
LONG = "require_immutable_id: false\nadvised_ttl: {identity-token: 10m, ssh-ca: 5m, aws-sts: 5m}\n"
STRICT = """\
longest_ttl: {aws-sts: 1h, identity-token: 15m, ssh-ca: 30m, vault: 1h}
no_wildcards: [project, project_id, owner, owner_id]
triggers_never_allowed: [pull_request_target, workflow_run, issue_comment, issues, discussion, discussion_comment, fork]
owners: ["*@acme.example"]
"""


def ssh(*principals: str, ttl: str = "5m") -> str:
    return f"g: {{backend: ssh, ttl: {ttl}, with: {{principals: [{', '.join(principals)}]}}}}"


def vault(path: str, *policies: str, more: str = "") -> str:
    return f'g: {{backend: vault, ttl: 5m, with: {{path: "{path}", policies: [{", ".join(policies)}]{more}}}}}'


def token(audience: str, more: str = "", ttl: str = "5m") -> str:
    return f'g: {{backend: token, ttl: {ttl}, with: {{audience: "{audience}"{more}}}}}'


def allowed(grant: str, like: str, more: str = "") -> str:
    return f"- {{name: yes, claims: {{$like: {like}{more}}}, expect: {{allow: [{grant}]}}}}"


CIRCLE_ID = "project_id: 1c7f0000-bbbb-4bbb-8bbb-0000000000b1"
KUBE = "/kubernetes.io/serviceaccount/uid: aa11bb22-3333-4333-8333-000000000001"

SAMPLES: dict[str, Pair] = {
    "open-prefix": Pair(
        many(
            'job: {owner: {glob: "acme*"}}',
            'job: {project: {glob: "acme/pay*"}}',
            'job: {owner: acme, project_id: {glob: "5123*"}}',
            'claims: {repository: {regex: "acme-.*/payments"}}',
            'job: {project: [acme/payments, {glob: "acm*/x"}]}',
        ),
        many(
            f'job: {{{ID}, project: {{glob: "acme*"}}, {MAIN}}}',
            f'job: {{{OWNER}, project: {{glob: "acme/pay*"}}}}',
            "job: {project: [acme/payments, acme/refunds]}",
            'job: {project: {glob: "acme/*"}}',
        ),
    ),
    "wildcard-across-owners": Pair(
        many(
            'job: {project: {glob: "*/payments"}}',
            'job: {project: {glob: "**"}}',
            "job: {owner: {not: mallory}}",
            'claims: {repository: {regex: ".*/payments"}}',
        ),
        many(
            f'job: {{{ID}, project: {{glob: "*/payments"}}}}',
            'job: {owner: acme, project: {glob: "*/payments"}}',
            f"job: {{{OWNER}, owner: {{not: mallory}}}}",
            'job: {project: {glob: "acme/**"}}',
        ),
    ),
    "wildcard-across-projects": Pair(
        many(
            f'job: {{{OWNER}, project: {{glob: "acme/*"}}}}',
            f"job: {{{OWNER}, {MAIN}}}",
            'job: {project: {glob: "acme/*"}}',
            f'job: {{{OWNER}, project: {{glob: "acme/pay*"}}}}',
        ),
        many(
            f'job: {{{OWNER}, {ID}, project: {{glob: "acme/*"}}}}',
            f"job: {{{OWNER}, project: acme/payments}}",
            'job: {project_id: ["1", "2"]}',
        )
        + many(
            "job: {owner_id: org-Aa11Bb22Cc33Dd44}\nclaims: {terraform_project_id: prj-Ee55Ff66Gg77Hh88}",
            issuer="terraform-cloud",
        ),
    ),
    "name-without-id": Pair(
        many(
            "job: {project: acme/payments}",
            "job: {owner: acme, ref: refs/heads/main}",
            'claims: {sub: "repo:acme/payments:ref:refs/heads/main"}',
            "job: {environment: production}",
        )
        + many("job: {project: acme/payments}", issuer="gitlab"),
        many(f"job: {{project: acme/payments, {ID}}}", 'claims: {repository_id: "512345678"}', f"job: {{{OWNER}}}")
        + many("job: {project: release/payments/main}", issuer="jenkins"),
    ),
    "project-name-under-owner-id": Pair(
        many(
            f"job: {{{OWNER}, project: acme/payments}}",
            f"job: {{{OWNER}}}\nclaims: {{repository: acme/payments}}",
        )
        + many('job: {owner_id: "3100", project: acme/payments}', issuer="gitlab")
        + many("job: {owner_id: org-Aa11Bb22Cc33Dd44, project: acme/payments-prod}", issuer="terraform-cloud"),
        many(
            f"job: {{{OWNER}, {ID}, project: acme/payments}}",
            f"job: {{{OWNER}, {MAIN}}}",
            'job: {project: acme/payments, project_id: "1"}',
        ),
    ),
    "subject-pattern": Pair(
        many(
            f'job: {{{ID}}}\nclaims: {{sub: {{glob: "repo:acme/payments:**"}}}}',
            f'job: {{{ID}}}\nclaims: {{sub: {{regex: "repo:acme/payments:ref:.*"}}}}',
            f'job: {{{ID}}}\nclaims: {{sub: [{{glob: "repo:acme/*"}}, x]}}',
        )
        + many(
            'job: {project_id: "20011"}\nclaims: {sub: {glob: "project_path:acme/payments:ref_type:branch:ref:*"}}',
            issuer="gitlab",
        ),
        many(
            f"job: {{{ID}}}",
            f'job: {{{ID}}}\nclaims: {{sub: "repo:acme/payments:environment:production"}}',
            f'job: {{{ID}}}\nclaims: {{workflow_ref: {{glob: "acme/payments/.github/workflows/*@refs/heads/main"}}}}',
        )
        + many('job: {project_id: "311"}\nclaims: {sub: {glob: "repo:acme-12/payments-311:ref:**"}}', issuer="forgejo"),
    ),
    "one-subject-form": Pair(
        many(
            f'job: {{{ID}}}\nclaims: {{sub: "repo:acme/payments:ref:refs/heads/main"}}',
            f'job: {{{ID}}}\nclaims: {{sub: "repo:acme@9123456/payments@512345678:ref:refs/heads/main"}}',
            'claims: {sub: ["repo:acme/payments:environment:a", "repo:acme/payments:environment:b"]}',
        ),
        many(
            f"job: {{{ID}}}",
            f'job: {{{ID}}}\nclaims: {{sub: ["repo:acme/payments:environment:a", "repo:acme@1/payments@2:environment:a"]}}',
        )
        + many(
            'job: {project_id: "311"}\nclaims: {sub: "repo:acme-12/payments-311:ref:refs/heads/main"}', issuer="forgejo"
        ),
    ),
    "unsafe-trigger": Pair(
        many(
            f"job: {{{ID}}}\nallow_triggers: [pull_request]",
            f"job: {{{ID}, {MAIN}}}\nallow_triggers: [workflow_run]",
        )
        + many(
            'job: {project_id: "20011"}\nallow_triggers: [fork, merge_request_event]',
            issuer="gitlab",
            refused="gitlab-protected-branch, project_id: '1'",
        )
        + many(f"job: {{{CIRCLE_ID}}}\nallow_triggers: [pull-request]", issuer="circleci"),
        many(f"job: {{{ID}}}", f"job: {{{ID}}}\nallow_triggers: []", f"job: {{{ID}, trigger: [push, schedule]}}"),
    ),
    "unprotected-branch": Pair(
        many(
            f"job: {{{ID}, ref: refs/heads/main}}",
            f'job: {{{ID}, ref: {{glob: "refs/tags/v*"}}}}',
            f"job: {{{ID}}}\nclaims: {{ref: refs/heads/main}}",
            f"job: {{{ID}}}",
        )
        + many('job: {project_id: "20011", ref: refs/heads/main}', issuer="gitlab"),
        many(
            f"job: {{{ID}, {MAIN}}}",
            f'job: {{{ID}, ref: refs/heads/main}}\nclaims: {{ref_protected: "true"}}',
            f"job: {{{ID}, ref: refs/heads/main}}\nwhen: job.ref_protected",
            f"job: {{{ID}}}\nallow_triggers: [pull_request]",
        )
        + many(f"job: {{{CIRCLE_ID}, ref: refs/heads/main}}", issuer="circleci"),
    ),
    "unprotected-environment": Pair(
        many(
            f"job: {{{ID}, environment: production}}",
            f"job: {{{ID}, ref: refs/heads/main, environment: [a, b]}}",
            f"job: {{{ID}}}\nclaims: {{environment: production}}",
        )
        + many('job: {project_id: "20011", environment: production}', issuer="gitlab"),
        many(
            f"job: {{{ID}, {MAIN}, environment: production}}",
            f"job: {{{ID}, {MAIN}, environment: {{absent: true}}}}",
        )
        + many('job: {project_id: "20011", environment: production, environment_protected: true}', issuer="gitlab")
        + many(
            'job: {project_id: "{22222222-bbbb-4bbb-8bbb-222222222222}", environment: "{44444444-dddd-4ddd-8ddd-444444444444}"}',
            issuer="bitbucket",
        ),
    ),
    "user-chosen-claim": Pair(
        many(
            f"job: {{{CIRCLE_ID}, ref: refs/heads/main}}",
            issuer="circleci",
        )
        + many(
            "job: {project_id: 0180bbbb-0000-4000-8000-000000000002}\nclaims: {step_key: deploy}", issuer="buildkite"
        )
        + many("job: {project_id: b1b1b1b1-2222-4222-8222-b1b1b1b1b1b1, ref: refs/heads/main}", issuer="azure-devops")
        + many(
            'job: {project_id: "{22222222-bbbb-4bbb-8bbb-222222222222}"}\nclaims: {branchName: main}',
            issuer="bitbucket",
        ),
        many(
            f"job: {{{CIRCLE_ID}, ref: refs/heads/main}}\nclaims: {{oidc.circleci.com/context-ids: {{contains: 3e9f}}}}",
            issuer="circleci",
        )
        + many(
            "job: {project_id: 0180bbbb-0000-4000-8000-000000000002}\nclaims: {step_key: deploy, cluster_id: 0180cccc}",
            issuer="buildkite",
        )
        + many(f"job: {{{ID}, {MAIN}}}\nclaims: {{workflow: Release}}"),
    ),
    "look-alike": Pair(
        many(
            f"job: {{{CIRCLE_ID}}}",
            f"job: {{{CIRCLE_ID}, owner_id: 0b6f0000-aaaa-4aaa-8aaa-0000000000a1}}",
            issuer="circleci",
            examples=allowed("deploy", "circleci-branch"),
        )
        + many(
            f"job: {{{CIRCLE_ID}}}\nclaims: {{oidc.circleci.com/pipeline-definition-id: 50bf0000-ffff-4fff-8fff-0000000000f1}}",
            issuer="circleci",
            examples=allowed("deploy", "circleci-tag"),
        )
        + many(
            f'job: {{{OWNER}, {MAIN}, workflow: {{glob: "acme/ci/.github/workflows/deploy.yml@**"}}}}',
            examples=allowed("deploy", "github-reusable-workflow"),
        ),
        many(
            f"job: {{{CIRCLE_ID}, project: github.com/acme/payments}}",
            issuer="circleci",
            examples=allowed("deploy", "circleci-branch"),
        )
        + many(
            f"job: {{{OWNER}, {MAIN}, workflow: acme/ci/.github/workflows/deploy.yml@refs/tags/v3}}",
            f'job: {{{OWNER}, {MAIN}, workflow: {{glob: "acme/ci/.github/workflows/deploy.yml@refs/tags/v*"}}}}',
            examples=allowed("deploy", "github-reusable-workflow"),
        )
        + many(f"claims: {{{KUBE}}}", issuer="kubernetes", examples=allowed("deploy", "kubernetes-pod"))
        + many(
            f"job: {{{ID}, {MAIN}}}",
            f'job: {{project_id: ["512345677", "512345678", "512345679"], {MAIN}}}',
            examples=allowed("deploy", "github-branch"),
        )
        + many(
            'job: {project_id: "20011", ref_protected: true}',
            issuer="gitlab",
            examples=allowed("deploy", "gitlab-protected-branch"),
        ),
    ),
    "cel-type-mismatch": Pair(
        when(
            "claims.run_attempt < 4",
            "claims.ref_protected != true",
            'job.ref_protected == "true"',
            "claims.repository_id == 512345678",
        )
        + when('claims.runner_id == "42"', issuer="gitlab", whose='project_id: "20011"'),
        when(
            "int(claims.run_attempt) < 4",
            'claims.ref_protected == "true"',
            "job.ref_protected == true",
            "size(claims.ref) > 10",
        )
        + when("claims.runner_id == 42", issuer="gitlab", whose='project_id: "20011"'),
    ),
    "cel-can-fail": Pair(
        when(
            "int(claims.environment) < 4",
            "int(claims.ref) < 4",
            'claims.environment == "production"',
            'claims.reff == "refs/heads/main" || claims.ref == "refs/heads/main"',
        ),
        when(
            "int(claims.run_attempt) < 4",
            'has(claims.environment) && claims.environment == "production"',
            'claims.ref.startsWith("refs/tags/v")',
        ),
    ),
    "cel-swallows-error": Pair(
        when(
            '!has(claims.environment) || claims.environment == "production"',
            'int(claims.run_attempt) < 4 || claims.ref == "refs/heads/main"',
            'claims.ref == "refs/heads/main" || 10 / int(claims.run_attempt) > 4',
        ),
        when(
            'claims.ref == "refs/heads/main" || claims.ref == "refs/heads/next"',
            'has(claims.environment) && claims.environment == "production"',
            'claims.ref != "a || int(b)" && int(claims.run_attempt) < 4',
        ),
    ),
    "unreachable-statement": Pair(
        (
            one(f"job: {{{ID}, {MAIN}, ref_type: tag}}"),
            one(f'job: {{{ID}, {MAIN}}}\nclaims: {{ref: {{glob: "refs/tags/*"}}}}'),
            one(f'job: {{{ID}, {MAIN}}}\nclaims: {{ref: {{not: {{glob: "refs/heads/**"}}}}}}'),
        ),
        (
            one(f"job: {{{ID}, {MAIN}, ref_type: branch}}"),
            one(f'job: {{{ID}, {MAIN}}}\nclaims: {{ref: {{glob: "refs/heads/*"}}}}'),
            one(f'job: {{{ID}, {MAIN}}}\nwhen: claims.ref == "refs/tags/x"'),
        ),
    ),
    "redundant-statement": Pair(
        (
            one(f"job: {{{ID}, ref_protected: true}}", f"job: {{{ID}, {MAIN}}}"),
            one(f"job: {{{ID}, {MAIN}}}", f"job: {{{ID}, {MAIN}}}"),
            one(
                f'job: {{{ID}, ref_protected: true, ref: {{glob: "refs/heads/*"}}}}',
                f"job: {{{ID}, {MAIN}}}\nwhen: int(claims.run_attempt) < 4",
            ),
            one(
                f"job: {{{ID}, ref_protected: true, environment: [staging, review]}}",
                f"job: {{{ID}, ref_protected: true, environment: [production, staging]}}",
                f"job: {{{ID}, ref_protected: true, environment: [production, review]}}",
            ),
        ),
        (
            one(f"job: {{{ID}, {MAIN}}}", 'job: {project_id: "2", ref_protected: true}'),
            one(f'job: {{{ID}, ref_protected: true, ref: {{glob: "refs/heads/r*"}}}}', f"job: {{{ID}, {MAIN}}}"),
            one(
                f"job: {{{ID}, {MAIN}}}\nwhen: int(claims.run_attempt) < 4",
                f"job: {{{ID}, {MAIN}}}\nwhen: int(claims.run_attempt) < 9",
            ),
        ),
    ),
    "too-large-to-prove": Pair(
        tuple(
            one(f"job: {{{ID}, {wide}, ref_protected: true}}", f"job: {{{ID}, {narrow}, ref_protected: true}}")
            for wide, narrow in (
                ('ref: {regex: "refs/.*[ab].{24}"}', 'ref: {regex: "refs/.*a.{24}"}'),
                ('ref: {glob: "**a????????????????????????"}', 'ref: {glob: "**ba????????????????????????"}'),
                ('sha: {regex: ".*[0-4][0-9a-f]{24}"}', 'sha: {regex: ".*[0-3][0-9a-f]{24}"}'),
            )
        ),
        tuple(
            one(f"job: {{{ID}, {wide}, ref_protected: true}}", f"job: {{{ID}, {narrow}, ref_protected: true}}")
            for wide, narrow in (
                ('ref: {regex: "refs/.*[ab].{4}"}', 'ref: {regex: "refs/.*a.{4}"}'),
                ('ref: {glob: "refs/heads/**a????"}', 'ref: {glob: "refs/heads/**b????"}'),
                ('sha: {regex: "[0-4][0-9a-f]{24}"}', 'sha: {regex: "[0-3][0-9a-f]{24}"}'),
            )
        ),
    ),
    "issuer-audience-shared": Pair(
        many("job: {project_id: b1b1b1b1-2222-4222-8222-b1b1b1b1b1b1}", issuer="azure-devops")
        + many("job: {project_id: f5f5f5f5-1111-4111-8111-f5f5f5f5f5f5}", issuer="semaphore")
        + many("job: {project_id: payments, owner_id: production-01AAAA}", issuer="spacelift"),
        many(f"job: {{{ID}, {MAIN}}}")
        + many('job: {project_id: "20011"}', issuer="gitlab")
        + many(f"job: {{{CIRCLE_ID}}}", issuer="circleci"),
    ),
    "token-audience-shared": Pair(
        granting(
            token("sts.amazonaws.com"),
            token("api://AzureADTokenExchange"),
            "g: {backend: token, ttl: 5m, with: {audience: [https://a.example, https://b.example]}}",
        ),
        granting(token("https://a.example"), token("https://sts.amazonaws.com/payments"), aws(", via: web-identity")),
    ),
    "template-chosen-by-job": Pair(
        granting(
            ssh('"deploy-{{ job.environment }}"'),
            vault("kv/data/{{ claims.workflow }}", "kv"),
            token("https://a.example", ', claims: {branch: "{{ claims.head_ref }}"}'),
        ),
        (
            *granting(
                ssh('"deploy-{{ job.run_id }}"'),
                ssh('"deploy-{{ job.ref }}"'),
                vault("kv/data/{{ job.project_id }}", "kv"),
            ),
            one(f"job: {{{ID}, {MAIN}, environment: [a, b]}}", grants=ssh('"deploy-{{ job.environment }}"')),
        ),
    ),
    "long-ttl": Pair(
        tuple(
            Sample((policy(f"job: {{{ID}, {MAIN}}}", grants=grant),), guardrails=LONG)
            for grant in (
                ssh("deploy", ttl="10m"),
                token("https://a.example", ttl="11m"),
                aws("").replace("15m", "30m"),
            )
        ),
        tuple(
            Sample((policy(f"job: {{{ID}, {MAIN}}}", grants=grant),), guardrails=LONG)
            for grant in (ssh("deploy"), token("https://a.example", ttl="10m"), aws(""), vault("kv/data/x", "kv"))
        ),
    ),
    "ttl-beyond-history": Pair(
        tuple(
            Sample((policy(f"job: {{{ID}, {MAIN}}}", grants=grant),), history={"payments/g": longest})
            for grant, longest in (
                (ssh("deploy", ttl="30m"), timedelta(minutes=2)),
                (token("https://a.example", ttl="5m"), timedelta(seconds=40)),
                (aws("").replace("15m", "1h"), timedelta(minutes=1)),
            )
        ),
        tuple(
            Sample((policy(f"job: {{{ID}, {MAIN}}}", grants=grant),), history=longest)
            for grant, longest in (
                (ssh("deploy", ttl="30m"), {"payments/g": timedelta(minutes=16)}),
                (ssh("deploy", ttl="30m"), {"payments/other": timedelta(minutes=1)}),
                (aws(""), {"payments/g": timedelta(minutes=1)}),
                (ssh("deploy", ttl="30m"), None),
            )
        ),
    ),
    "untested-grant": Pair(
        (
            one(f"job: {{{ID}, {MAIN}}}"),
            one(
                f"job: {{{ID}, {MAIN}}}",
                grants=DEPLOY + "\nother: {backend: token, ttl: 5m, with: {audience: https://o.example}}",
                examples=allowed("deploy", "github-branch").replace("expect:", "grant: deploy, expect:"),
            ),
            Sample(
                (
                    policy(
                        f"job: {{{ID}, {MAIN}}}",
                        grants=DEPLOY + "\nother: {backend: token, ttl: 5m, with: {audience: https://o.example}}",
                        examples=allowed("deploy, other", "github-branch"),
                    ).replace("github-issue-comment}, expect", "github-issue-comment}, grant: deploy, expect"),
                )
            ),
        ),
        (
            one(f"job: {{{ID}, {MAIN}}}", examples=allowed("deploy", "github-branch")),
            one(
                f"job: {{{ID}, {MAIN}}}",
                grants=DEPLOY + "\nother: {backend: token, ttl: 5m, with: {audience: https://o.example}}",
                examples=allowed("deploy, other", "github-branch"),
            ),
            one(
                f"job: {{{ID}, {MAIN}}}",
                examples=allowed("deploy", "github-branch").replace("expect:", "grant: deploy, expect:"),
            ),
        ),
    ),
    "unresolved-owner": Pair(
        owned("[TODO]", "[team@example.com]", "[payments]", "[dana@localhost]", "[your-team@acme.example]", '["@you"]')
        + owned("[gone@acme.example]", people=("dana@acme.example",)),
        owned("[team-payments@acme.example]", '["@acme/payments"]', "[dana@acme.example]", "[todor@acme.example]")
        + owned("[payments]", people=("payments",))
        + owned("[payments]", guardrails="owners: [payments]"),
    ),
    "self-escalation": Pair(
        together(
            (named("a-one", ssh("broker-admin")),),
            (named("a-one", ssh('"broker-{{ job.environment }}"')),),
            (named("a-one", vault("secret/data/jobkey/keys", "app")),),
            (named("a-one", vault("kv/data/x", "admin")),),
            (named("a-one", vault("team/sys/policies/acl/x", "app")),),
            (named("a-one", token("https://sso.acme.example/realms/x")),),
            (named("a-one", aws("").replace("role/payments", "role/jobkey")),),
            (named("a-one", aws(", policy_arns: [arn:aws:iam::aws:policy/IAMFullAccess]")),),
            (named("a-one", token("https://broker.acme.example")),),
            (
                named("a-one", token("https://a.example", ", subject: victim-deploy")),
                named("victim", token("https://a.example", ", subject: victim-deploy")),
            ),
            guardrails=PROTECTS,
        ),
        together(
            (named("a-one", ssh("deploy")),),
            (named("a-one", vault("secret/data/payments/keys", "app")),),
            (named("a-one", token("https://sso.acme.example.evil.example")),),
            (named("a-one", aws(", policy_arns: [arn:aws:iam::aws:policy/ReadOnlyAccess]")),),
            (
                named("a-one", token("https://a.example", ", subject: victim-deploy")),
                named("victim", token("https://b.example", ", subject: victim-deploy")),
            ),
            (
                named("a-one", token("https://a.example", ', subject: "{{ job.project }}"')),
                named("victim", token("https://a.example")),
            ),
            (
                named("a-one", token("https://a.example", ', subject: "a-{{ job.run_id }}"')),
                named("victim", token("https://a.example", ', subject: "b-{{ job.run_id }}"')),
            ),
            guardrails=PROTECTS,
        ),
    ),
    "look-alike-policy": Pair(
        together(
            (named("payments"), named("payment5", team="other")),
            (named("payments"), named("paymenst", team="other")),
            (named("pay-ments"), named("payments", team="other")),
            (named("modern"), named("modem", team="other")),
        ),
        together(
            (named("payments"), named("paymenst")),
            (named("payments"), named("storefront", team="other")),
            (named("service-1"), named("service-2", team="other")),
            (named("api"), named("ap1", team="other")),
        ),
    ),
    "guardrails-limit-nothing": Pair(
        rails("require_immutable_id: false", "folders: {a: {}}", "require_immutable_id: false\nfolders: {.: {}}"),
        rails(STRICT, "owners: ['*@acme.example']", "folders: {a: {issuers: [github]}}"),
    ),
    "guardrails-any-owner": Pair(
        rails("owners: ['*']", "owners: ['*@acme.example', '**']", "owners: ['*@*']", "owners: ['mallory*']"),
        rails("owners: ['*@acme.example']", "owners: [team-payments]", "owners: ['@acme/*']", STRICT),
    ),
    "guardrails-no-ttl": Pair(
        rails("owners: ['*@acme.example']", "longest_ttl: {ssh-ca: 5m}", STRICT.replace("vault: 1h", "vlt: 1h")),
        rails(STRICT, STRICT + "advised_ttl: {vault: 5m}\n", STRICT.replace("1h", "12h")),
    ),
    "guardrails-unsafe-triggers": Pair(
        rails("owners: ['*@acme.example']", STRICT.replace("fork", "plan"), "triggers_never_allowed: [workflow_run]"),
        rails(STRICT, STRICT.replace("fork]", "fork, plan]"), STRICT.replace("1h", "2h")),
    ),
    "guardrails-names-allowed": Pair(
        rails(STRICT + "require_immutable_id: false\n", STRICT.replace("project_id, ", ""), "owners: [a]"),
        rails(STRICT, STRICT + "require_immutable_id: true\n", STRICT.replace("[project,", "[claims.sub, project,")),
    ),
    "guardrails-protect-nothing": Pair(
        rails(
            "protects: {policies: ['git:acme/policies']}",
            "protects: {broker: ['ssh:a', 'vualt:sys/**']}",
            "protects: {identities: ['https://sso.acme.example']}",
        ),
        rails(PROTECTS, "protects: {policies: ['gitlab:acme/policies']}", STRICT),
    ),
    "silence-without-reason": Pair(
        many(
            f"# jobkey: allow unprotected-branch\njob: {{{ID}}}",
            f"# jobkey: allow unprotected-branch because ...\njob: {{{ID}}}",
            f"# jobkey: allow no-such-rule because it is fine\njob: {{{ID}, {MAIN}}}",
            f"job: {{{ID}, {MAIN}}} # jobkey: ignore everything",
        ),
        many(
            f'# jobkey: allow unprotected-branch because the ruleset "all" covers it\njob: {{{ID}, ref: refs/heads/main}}',
            f"# jobkey is the broker\njob: {{{ID}, {MAIN}}}",
            f'job: {{{ID}, {MAIN}, workflow: "a # jobkey: allow"}}',
        ),
    ),
    "silence-without-effect": Pair(
        many(
            f"# jobkey: allow unprotected-branch because of the ruleset\njob: {{{ID}, {MAIN}}}",
            f"job: {{{ID}, {MAIN}}}\nallow_triggers: [] # jobkey: allow unsafe-trigger because of reasons",
            f"# jobkey: allow look-alike-policy because of history\njob: {{{ID}, {MAIN}}}",
        ),
        many(
            f"# jobkey: allow unprotected-branch because of the ruleset\njob: {{{ID}, ref: refs/heads/main}}",
            f"job: {{{ID}, ref: refs/heads/main}} # jobkey: allow unprotected-branch because of the ruleset",
            f"# jobkey: allow ttl-beyond-history because the year's end takes longer\njob: {{{ID}, {MAIN}}}",
            f"# jobkey: allow unprotected-branch\njob: {{{ID}, ref: refs/heads/main}}",
        ),
    ),
}
