"""A version on trial in a real broker: jobs notice nothing, the ledger does, and `policy rollout` says when to switch."""

import json
from pathlib import Path

import aiohttp

from tests.e2e.broker_process import JOB, BrokerProcess, ask, until
from tests.e2e.issuer_process import IssuerProcess

NEXT = """
next:
  trust:
    - issuer: ci
      job: {project_id: "512345678", ref: refs/heads/main, environment: [production, staging]}
      claims: {actor: dana-acme}
  examples:
    - {name: somebody else, claims: {$like: github-environment, repository_id: "1"}, expect: refuse}
"""


async def test_a_version_on_trial_from_save_to_switch(
    http: aiohttp.ClientSession, ci: IssuerProcess, tmp_path: Path
) -> None:
    with BrokerProcess(tmp_path, issuer=ci.url) as broker:
        enforced = broker.policy.read_text()

        async def push(**claims: str) -> int:
            token = ci.sign({**JOB, **claims}, audience=broker.url)
            return (await ask(http, broker, token, "payments/deploy"))[0]

        def report(*more: str) -> tuple[int, dict[str, object]]:
            done = broker.command("policy", "rollout", "--format", "json", *more, "-c", "broker.yaml", check=False)
            return done.returncode, {trial["policy"]: trial for trial in json.loads(done.stdout)}

        assert report() == (0, {})
        broker.policy.write_text(enforced + NEXT)

        async def loaded() -> bool:
            return len(broker.events(type="policy-changed")) == 2

        await until(loaded)
        assert await push() == 200
        assert await push(actor="somebody-else") == 200, "what decides is what decided before"
        assert await push(environment="staging") == 403
        differences = broker.events(type="next-differs")
        assert [change["would"] for event in differences for change in event["changes"]] == ["refuse", "allow"]
        assert "case" in differences[1]
        assert "issuance" in differences[0]

        code, trials = report("--days", "0")
        trial = trials["payments"]
        assert isinstance(trial, dict)
        assert (code, trial["standing"], trial["asked"]) == (1, "look", {"payments/deploy": 3, "payments/ssh": 0})
        assert [(one["would"], one["count"]) for one in trial["differ"]] == [("refuse", 1), ("allow", 1)]
        text = broker.command("policy", "rollout", "payments", "-c", "broker.yaml", check=False).stdout
        assert "would refuse 1 job: project=acme/payments ref=refs/heads/main environment=production" in text
        assert "look: jobs would come out otherwise" in text

        # The second try: a new text, a new trial; the old differences count no more.
        broker.policy.write_text(enforced + NEXT.replace("      claims: {actor: dana-acme}\n", ""))

        async def again() -> bool:
            return len(broker.events(type="policy-changed")) == 3

        await until(again)
        for grant in ("payments/deploy", "payments/ssh"):
            token = ci.sign(JOB, audience=broker.url)
            params = {"public_key": SSH_KEY}
            asked = {"grant": grant, "params": params} if grant.endswith("ssh") else grant
            assert (await ask(http, broker, token, asked))[0] == 200
        code, trials = report("--days", "0")
        assert (code, trials["payments"]["standing"]) == (0, "safe")  # type: ignore[index]
        assert report("--days", "1")[0] == 1
        assert broker.verify().returncode == 0


SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl job"
