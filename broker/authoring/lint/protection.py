"""Rules about what a committer may choose: branches, environments, triggers, and other text of the pusher's own."""

from collections.abc import Iterator, Mapping
from typing import Final

from broker.authoring.lint import edits
from broker.authoring.lint.seam import Desk, Problem
from broker.authoring.lint.stated import Said, Stated, can_say
from broker.issuers.seam import Trust

_IDENTITY: Final = frozenset(
    {"project", "project_id", "owner", "owner_id", "actor", "actor_id", "run_id", "job_id", "attempt"}
)
# What each CI without a word for protected refs offers instead.
_BESIDE: Final[Mapping[str, str]] = {
    "azure-devops": "write the pipeline's definition out beside it, `def_id: \"17\"`, and let an environment's branch check guard it",
    "bitbucket": 'ask for a deployment environment that only this branch may use, `environment: "{...}"`, instead',
    "buildkite": "write out the cluster whose agents only this pipeline may use, `cluster_id: ...`, beside it",
    "circleci": "ask for a restricted context beside it, `oidc.circleci.com/context-ids: {contains: ...}`",
    "semaphore": "ask for `ref_type: branch` and `job_type: pipeline_job` beside it, and restrict who may push the branch",
}
_TOKEN: Final = frozenset({"sub", "jti", "iss", "aud", "iat", "exp", "nbf"})  # say nothing of the code that runs


def _guarded(stated: Stated) -> bool:
    return stated.requires("ref_protected") or stated.requires("environment_protected")


def _text_of(said: Said, flag: str) -> tuple[str, ...]:
    """The line that asks for a flag, beside a condition under `job`, or under `claims` where CIs sign text."""
    return (f'{flag}: "true"' if said.raw else f"{flag}: true",)


def unprotected_branch(desk: Desk) -> Iterator[Problem]:
    """A ref that anybody who may push can make."""
    for stated in desk.statements:
        if not can_say(stated.kind, "ref_protected") or _guarded(stated) or stated.statement.allow_triggers:
            continue
        refs = [said for said in stated.about("ref") if not said.only_absent]
        if not refs and any(stated.about("environment")):
            continue  # unprotected-environment says it
        if refs:
            said = refs[0]
            yield Problem(
                path=said.path,
                message=f"{said.condition.shown} is a name that a pusher chooses: nothing here says that the ref is "
                "protected, so one account with write access, or one stolen token of it, gets every grant here",
                remedy=f"ask for the platform's word beside it, `{_text_of(said, 'ref_protected')[0]}`, and protect "
                "the branch or tag there",
                fix=edits.beside(desk.checked, said.path, _text_of(said, "ref_protected"), "ask for a protected ref"),
            )
        elif not any(said.field == "workflow" and said.condition.exact is not None for said in stated.said):
            yield Problem(
                path=stated.path,
                message="nothing here says which branch: whoever may push any branch of the project runs what they like "
                "on it, and gets every grant here",
                remedy="write the branch out, `ref: refs/heads/main`, and `ref_protected: true` beside it",
            )


def unprotected_environment(desk: Desk) -> Iterator[Problem]:
    """An environment that a workflow can simply name."""
    for stated in desk.statements:
        if _guarded(stated) or stated.statement.allow_triggers:
            continue
        said = next((said for said in stated.about("environment") if not said.only_absent), None)
        if said is None or said.trust is not Trust.USER:
            continue
        if can_say(stated.kind, "environment_protected"):
            flag = "environment_protected"
            why = "a job names its environment in its own YAML, and one that is not there yet is made"
        elif can_say(stated.kind, "ref_protected"):
            flag = "ref_protected"
            why = (
                "a workflow on any branch may name it, one that is not there yet is made without rules, "
                "and no claim tells whether this one has any"
            )
        else:
            continue
        line = _text_of(said, flag)
        yield Problem(
            path=said.path,
            message=f"the environment protects nothing here: {why}; whoever may push a branch gets every grant here",
            remedy=f"ask for `{line[0]}` beside it"
            + (
                ", or silence this with the name of the rule that guards the environment"
                if flag == "ref_protected"
                else ""
            ),
            fix=edits.beside(desk.checked, said.path, line, "ask for protection"),
        )


def unsafe_trigger(desk: Desk) -> Iterator[Problem]:
    """`allow_triggers` names one at all."""
    for stated in desk.statements:
        for number, trigger in enumerate(stated.part.allow_triggers):
            yield Problem(
                path=("trust", stated.number, "allow_triggers", number),
                message=f"{trigger}: {stated.kind.trigger_names[trigger]}; it gets every grant of this policy",
                remedy="take it out of `allow_triggers`; where such a job has to have something, give it a policy of its own "
                "whose grants can do no harm",
            )


def user_chosen_claim(desk: Desk) -> Iterator[Problem]:
    """Text of the pusher's own, and no fact of the platform beside it."""
    for stated in desk.statements:
        if stated.part.when is not None or desk.found(
            stated.number, "unprotected-branch", "unprotected-environment", "subject-pattern"
        ):
            continue
        chosen = [said for said in stated.said if said.trust is Trust.USER and not said.only_absent]
        if not chosen or any(_asserted(said) for said in stated.said):
            continue
        said = chosen[0]
        yield Problem(
            path=said.path,
            message=f"{said.name} is text that the job's author chooses, and nothing beside it is the platform's word: "
            "whoever may start a job of this project writes the expected text and gets every grant here",
            remedy=_beside(stated),
        )


def _asserted(said: Said) -> bool:
    """Whether a condition rests on what the platform itself says about this run, not just about whose it is."""
    if said.name in _TOKEN or said.field in _IDENTITY or said.only_absent:
        return False
    return said.trust in {Trust.FACT, Trust.ID, Trust.NAME}


def _beside(stated: Stated) -> str:
    if can_say(stated.kind, "ref_protected"):
        return "ask for `ref_protected: true`, or for the workflow file that runs, beside it"
    return _BESIDE.get(stated.kind.name, f"put a claim beside it that {stated.kind.title} sets itself for this run")
