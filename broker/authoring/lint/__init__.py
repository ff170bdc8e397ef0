"""The linter: known traps in trust policies and guardrails, each with a stable id, a reason and what to write instead.

* A rule is a function, one line in RULES and a page, docs/rules/<id>.md, whose bad and good policies are tested.
* Every finding says what an attacker does with it. A rule that is not sure says nothing.
* `# jobkey: allow RULE because REASON` silences one finding and stays in the file; see `silence`.

The order of the table is that of asking: a rule leaves alone what an earlier one has explained better.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from broker.authoring.finding import Finding, Place, Severity
from broker.authoring.lint import (
    escalation,
    expressions,
    grants,
    limits,
    look_alikes,
    names,
    protection,
    redundancy,
    silence,
    subjects,
)
from broker.authoring.lint.seam import Desk, History, Limits, Room, Rule, finding
from broker.authoring.lint.silence import Silence
from broker.authoring.lint.stated import stated
from broker.documents import Document
from broker.policy.guardrails import Guardrails
from broker.policy.load import Checked
from broker.policy.world import World

__all__ = ["RULES", "History", "Rule", "lint_guardrails", "lint_policy", "lint_set"]

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
SILENCE_WITHOUT_REASON: Final = "silence-without-reason"
SILENCE_WITHOUT_EFFECT: Final = "silence-without-effect"

_TABLE: Final = (
    # whose job it is
    Rule(id="open-prefix", severity=ERROR, policy=names.open_prefix, title="A prefix that a stranger can take", summary="A pattern leaves the end of an owner's or project's name, or of an id, open: `acme*`."),
    Rule(id="wildcard-across-owners", severity=ERROR, policy=names.wildcard_across_owners, title="A wildcard that crosses owners", summary="A pattern admits every owner: `*/payments`."),
    Rule(id="wildcard-across-projects", severity=WARNING, policy=names.wildcard_across_projects, title="A wildcard that crosses projects", summary="Every project of an owner is trusted, those not made yet too."),
    Rule(id="name-without-id", severity=ERROR, policy=names.name_without_id, title="A name that can be registered again", summary="Trust rests on a name, with no immutable id beside it."),
    Rule(id="project-name-under-owner-id", severity=WARNING, policy=names.project_name_under_owner_id, title="An owner's id with a project's name", summary="The owner is held by an id, the project by a name that its members can free and take."),
    # what a committer may choose
    Rule(id="subject-pattern", severity=ERROR, policy=subjects.subject_pattern, title="A subject matched by its shape", summary="`sub` is matched by glob or regex on an issuer that lets its shape be changed."),
    Rule(id="one-subject-form", severity=WARNING, policy=subjects.one_subject_form, title="One of GitHub's two subject forms", summary="`sub` is listed only with ids in it, or only without."),
    Rule(id="unsafe-trigger", severity=WARNING, policy=protection.unsafe_trigger, title="A trigger that runs other people's code", summary="`allow_triggers` lets in jobs whose code or start is an outsider's."),
    Rule(id="unprotected-branch", severity=WARNING, policy=protection.unprotected_branch, title="A branch without protection", summary="A branch or tag is trusted by its name, or any is, with nothing that says it is protected."),
    Rule(id="unprotected-environment", severity=WARNING, policy=protection.unprotected_environment, title="An environment without protection", summary="An environment is trusted that a job can simply name."),
    Rule(id="user-chosen-claim", severity=WARNING, policy=protection.user_chosen_claim, title="A claim that the job's author chooses", summary="Text of the author's own, and no fact of the platform beside it."),
    Rule(id="look-alike", severity=ERROR, policy=look_alikes.look_alike, title="A fork or look-alike that passes", summary="A job built from an allowed example with a fork's or a stranger's claims is trusted."),
    # expressions
    Rule(id="cel-type-mismatch", severity=ERROR, policy=expressions.cel_type_mismatch, title="An expression that compares different types", summary="`when` compares a claim with a value of another type, so the answer is always the same."),
    Rule(id="cel-can-fail", severity=WARNING, policy=expressions.cel_can_fail, title="An expression that can fail", summary="`when` converts or names a claim that not every job has in that form."),
    Rule(id="cel-swallows-error", severity=WARNING, policy=expressions.cel_swallows_error, title="An `||` that passes what is missing or fails", summary="`when` passes where a claim is missing, or where one side of an `||` fails."),
    # statements beside each other
    Rule(id="unreachable-statement", severity=WARNING, policy=redundancy.unreachable_statement, title="A statement that no job can meet", summary="Conditions that exclude each other, proved."),
    Rule(id="redundant-statement", severity=WARNING, policy=redundancy.redundant_statement, title="A statement that adds nothing", summary="Another statement trusts every job of this one, proved."),
    Rule(id="too-large-to-prove", severity=NOTE, policy=redundancy.too_large_to_prove, title="Statements too large to compare", summary="Patterns so large together that whether a statement adds anything was not looked at wholly."),
    # what is given
    Rule(id="issuer-audience-shared", severity=NOTE, policy=subjects.issuer_audience_shared, title="An issuer whose audience cannot be chosen", summary="A token for one service is a token for all of them."),
    Rule(id="token-audience-shared", severity=WARNING, policy=subjects.token_audience_shared, needs="targets", title="An identity token for several services", summary="A grant's audience is a list, or one that many services accept by default."),
    Rule(id="template-chosen-by-job", severity=WARNING, policy=grants.template_chosen_by_job, title="A template that the job's author fills", summary="An option holds a value that the author chooses and no statement limits."),
    Rule(id="long-ttl", severity=WARNING, policy=grants.long_ttl, needs="targets", title="A life longer than advised", summary="A ttl above the guardrails' advised_ttl."),
    Rule(id="ttl-beyond-history", severity=WARNING, policy=grants.ttl_beyond_history, needs="history", title="A life longer than ever needed", summary="A ttl more than twice what any job was seen to use."),
    Rule(id="untested-grant", severity=WARNING, policy=grants.untested_grant, title="A grant that no example tries", summary="No example gets the grant, or none is refused it."),
    Rule(id="unresolved-owner", severity=WARNING, policy=grants.unresolved_owner, title="An owner whom nobody can reach", summary="An owner that is a placeholder, no address and no team, or not among the people known."),
    # several policies
    Rule(id="self-escalation", severity=ERROR, together=escalation.self_escalation, needs="targets", title="A grant that leads back to the broker", summary="The holder of a grant could change the policies, a trusted workflow, the broker or another identity."),
    Rule(id="look-alike-policy", severity=WARNING, together=look_alikes.look_alike_policy, title="A policy's name that looks like another's", summary="Two policies of different owners whose names are easily taken for one another."),
    # guardrails.yaml
    Rule(id="guardrails-limit-nothing", severity=WARNING, guardrails=limits.guardrails_limit_nothing, title="Guardrails that limit nothing", summary="The file, or one of its folders, takes nothing away."),
    Rule(id="guardrails-any-owner", severity=WARNING, guardrails=limits.guardrails_any_owner, title="Guardrails that let anybody own a policy", summary="A glob under `owners` admits outsiders."),
    Rule(id="guardrails-no-ttl", severity=WARNING, guardrails=limits.guardrails_no_ttl, needs="targets", title="A backend kind without a longest ttl", summary="A configured backend kind has no entry under `longest_ttl`."),
    Rule(id="guardrails-unsafe-triggers", severity=WARNING, guardrails=limits.guardrails_unsafe_triggers, title="Guardrails that allow strangers' triggers", summary="Triggers that any outsider can pull are not forbidden."),
    Rule(id="guardrails-names-allowed", severity=WARNING, guardrails=limits.guardrails_names_allowed, title="Guardrails that allow names and wildcards", summary="Policies may trust a name without an id, or leave an owner or project to a pattern."),
    Rule(id="guardrails-protect-nothing", severity=WARNING, guardrails=limits.guardrails_protect_nothing, title="A protected object that no backend knows", summary="An entry of `protects` whose system is misspelt."),
    # the linter's own
    Rule(id=SILENCE_WITHOUT_REASON, severity=WARNING, title="A silence without a reason", summary="A `# jobkey:` comment that cannot be read, names no rule, or gives no reason."),
    Rule(id=SILENCE_WITHOUT_EFFECT, severity=WARNING, title="A silence that silences nothing", summary="A `# jobkey: allow` comment above a line where that rule finds nothing."),
)  # fmt: skip
RULES: Final[Mapping[str, Rule]] = MappingProxyType({rule.id: rule for rule in _TABLE})


def lint_policy(
    checked: Checked, world: World, *, history: History | None = None, people: Collection[str] | None = None
) -> Iterator[Finding]:
    """What one policy says that it should not. `history` is the longest use seen of each grant, `people` who there is."""
    desk = Desk(checked=checked, world=world, history=history, people=people, statements=stated(checked, world))
    found = []
    for rule in _TABLE:
        if rule.policy is None:
            continue
        for problem in rule.policy(desk):
            desk.fired.add((rule.id, problem.path))
            found.append(finding(rule, desk.document, problem, checked.policy.name))
    asked = {rule.id for rule in _TABLE if rule.policy and _judged(rule, world, history)}
    text = checked.text.data.decode("utf-8-sig")
    yield from _unsilenced(found, text, desk.document, checked.policy.name, asked, report_unread=True)


def lint_set(all: Sequence[Checked], world: World, *, guardrails: Guardrails) -> Iterator[Finding]:  # noqa: A002  the word for it
    """What only several policies together show."""
    room = Room(all=all, world=world, guardrails=guardrails)
    found: dict[int, list[Finding]] = {}
    seen: set[tuple[str, int, object, str]] = set()
    for rule in _TABLE:
        if rule.together is None:
            continue
        for checked, problem in rule.together(room):
            key = (rule.id, id(checked), problem.path, problem.message)
            if key not in seen:
                seen.add(key)
                made = finding(rule, checked.document, problem, checked.policy.name)
                found.setdefault(id(checked), []).append(made)
    asked = {rule.id for rule in _TABLE if rule.together and _judged(rule, world, None)}
    for checked in all:
        text = checked.text.data.decode("utf-8-sig")
        of_this = found.get(id(checked), [])
        yield from _unsilenced(of_this, text, checked.document, checked.policy.name, asked, report_unread=False)


def lint_guardrails(guardrails: Guardrails, world: World) -> Iterator[Finding]:
    """What guardrails.yaml forgets. Nothing where no file was read: there is no place to point at."""
    document = guardrails.document
    if document is None:
        return
    limited = Limits(guardrails=guardrails, document=document, world=world)
    found = [
        finding(rule, document, problem)
        for rule in _TABLE
        if rule.guardrails is not None
        for problem in rule.guardrails(limited)
    ]
    asked = {rule.id for rule in _TABLE if rule.guardrails and _judged(rule, world, None)}
    yield from _unsilenced(found, guardrails.text.removeprefix("\ufeff"), document, None, asked, report_unread=True)


def _judged(rule: Rule, world: World, history: History | None) -> bool:
    return not ((rule.needs == "targets" and world.targets is None) or (rule.needs == "history" and history is None))


def _unsilenced(
    found: list[Finding], text: str, document: Document, policy: str | None, asked: set[str], *, report_unread: bool
) -> Iterator[Finding]:
    """The findings that no comment silences, and the comments that are themselves findings."""
    comments = silence.silences(text)
    used: set[int] = set()
    good = {(said.covers, said.rule): said for said in comments if said.good}
    for one in found:
        by = good.get((one.place.line, one.rule))
        if by is None:
            yield one
        else:
            used.add(by.line)
    for said in comments:
        unread = not said.good or said.rule not in RULES
        if unread and report_unread:
            if said.rule is not None and said.rule not in RULES:
                why = f"there is no rule {said.rule!r}"
            else:
                why = "it gives no reason" if said.rule else f"it is not of the form {silence.FORM}"
            yield _about(
                RULES[SILENCE_WITHOUT_REASON], said, document, policy, f"this comment silences nothing: {why}",
                f"write `{silence.FORM}`, with what the next reader has to know",
                text,
            )  # fmt: skip
        elif not unread and said.line not in used and said.rule in asked:
            yield _about(
                RULES[SILENCE_WITHOUT_EFFECT], said, document, policy,
                f"{said.rule} finds nothing on line {said.covers}: a silence that is left behind hides the next mistake there",
                "remove the comment, or put it right above the line that the finding points at",
                text,
            )  # fmt: skip


def _about(  # noqa: PLR0917  as above
    rule: Rule, said: Silence, document: Document, policy: str | None, message: str, remedy: str, text: str
) -> Finding:
    return Finding(
        rule=rule.id,
        severity=rule.severity,
        message=message,
        remedy=remedy,
        place=Place(file=document.name, line=said.line, column=said.column),
        policy=policy,
        fix=silence.removal(text, document.name, said) if rule.id == SILENCE_WITHOUT_EFFECT else None,
    )
