"""A first policy, written from one job: it trusts that job and its like, and nothing that is merely near.

* Conditions are what the CI vouches for: the name with its immutable ids, the ref with its protection, the environment, the
  workflow's definition. What belongs to one run, and what a committer may word freely, is left out.
* No trigger that runs other people's code is allowed. A job that such a trigger started is no model (`NoModel`).
* What comes out loads, and both of its examples come out as they say: tried here, before anybody sees it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from pydantic import ValidationError

from broker.authoring.write.origins import TRIGGERS, Leaf, at, origins, put
from broker.authoring.write.record import as_token, title, written_claims
from broker.authoring.write.sibling import dangerous_sibling
from broker.authoring.write.subject import Subject, knowing
from broker.authoring.write.yamltext import example_lines, flow, member, scalar
from broker.documents import suggestion
from broker.durations import render
from broker.errors import ConfigError
from broker.issuers.seam import Claims, IssuerKind, Trust
from broker.model import JobIdentity
from broker.policy.load import PolicyText, check_text
from broker.policy.policyset import Target
from broker.policy.world import World

TTL: Final = timedelta(minutes=5)
SCHEMA: Final = "../schemas/trust-policy.schema.json"
_IDS: Final = ("project_id", "owner_id")
_WORDS: Final = ("change-me", ["change-me"])  # for a required option whose model shows no example


class NoModel(Exception):
    """No policy should be written from this job; the text says why, and what to show instead."""


@dataclass(frozen=True, slots=True)
class First:
    """A policy file's text, and what its author has to know before using it."""

    text: str
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class _Condition:
    word: str
    spec: Any
    why: str


def first_policy(
    subject: Subject,
    world: World,
    *,
    name: str,
    owners: Sequence[str],
    grant: str,
    backend: str,
    schema: str = SCHEMA,
    file: str | None = None,
) -> First:
    """Write it. Raises NoModel where the job should not be trusted, and ConfigError where it would not load in this world.

    With `world.targets`, `backend` has to be one of them, and its required options are filled with examples. `file` is
    where the policy will stand, relative to the folder of policies: guardrails can differ by folder.
    """
    if world.targets is not None and backend not in world.targets:
        raise ConfigError(f"no backend {backend!r} is configured{suggestion(backend, world.targets)}")
    kind, notes = subject.kind, list[str]()
    _must_be_a_model(subject)
    claims = _as_it_should_be(subject, notes)
    job = kind.identity(claims)
    conditions = list(_conditions(kind, claims, job, notes))
    words = frozenset({condition.word for condition in conditions} | {TRIGGERS, "trigger"})
    here = knowing(world, subject)
    lines = [
        *_head(subject, name, owners, schema),
        *_trust(subject.issuer, conditions, shared=kind.fixed_audience is not None),
        *_grant(grant, backend, here, notes),
        *_examples(subject, claims, words, grant, here),
    ]
    text = "\n".join(lines) + "\n"
    place = file or f"{name}.yaml"
    check_text(PolicyText(place, place, text.encode()), here)
    return First(text, tuple(notes))


def _must_be_a_model(subject: Subject) -> None:
    kind, job = subject.kind, subject.token.job
    for trigger in subject.token.unsafe_triggers:
        raise NoModel(
            f"this job came from {trigger!r}: {kind.trigger_names.get(trigger, 'an unsafe trigger')}. Its like would be refused; "
            "show a job of the branch, tag or environment that is to be trusted"
        )
    ids = kind.immutable or ("project",)
    if not any(getattr(job, word) for word in ids):
        raise NoModel(
            f"the token has no immutable id ({' or '.join(ids)}), and a name alone can be registered again by somebody else; "
            f"have {kind.title} sign one ({kind.docs or 'see its own documentation'})"
        )
    signed = {word for example in kind.examples.values() for word in kind.identity(example).present()}
    if job.ref is None and "ref" in signed:
        raise NoModel(
            "the token does not say which branch or tag it ran on, so a policy could not tell them apart; "
            "show a job of the branch or tag that is to be trusted"
        )


def _as_it_should_be(subject: Subject, notes: list[str]) -> Claims:
    """The job's claims, its ref protected where this CI says such things: a policy is written for that, never for less."""
    kind, job, claims = subject.kind, subject.token.job, subject.claims
    if job.ref_protected:
        return claims
    for example in kind.examples.values():
        if kind.identity(example).ref_protected:
            for leaf in origins(kind, example).get("ref_protected", ()):
                protected = put(claims, leaf, at(example, leaf))
                if kind.identity(protected).ref_protected:
                    notes.append(
                        f"this job would be refused: its ref ({job.ref}) is not protected, and whoever can push there could take "
                        "its credentials; protect it, or show a job of one that is"
                    )
                    return protected
    return claims


def _conditions(kind: IssuerKind, claims: Claims, job: JobIdentity, notes: list[str]) -> Iterator[_Condition]:
    if job.project:
        yield _Condition(
            "project", job.project, "its name, for people" if kind.immutable else "the whole name: this CI signs no id"
        )
    for word, why in zip(
        _IDS,
        ("an id is given to nobody else; a name can be", "and the project did not move to another owner"),
        strict=True,
    ):
        if word in kind.immutable and (value := getattr(job, word)):
            yield _Condition(word, value, why)
    released = _released(job)
    if job.ref:
        yield _Condition(
            "ref",
            {"glob": released} if released else job.ref,
            "any release tag; `*` stays inside one segment"
            if released
            else "the whole ref: a tag of that name is another",
        )
    if released:
        yield _Condition("ref_type", "tag", "and no branch")
    if job.ref_protected:
        yield _Condition("ref_protected", True, "so not everybody who may push")
    if job.environment and job.environment_protected is not False:
        yield _Condition("environment", job.environment, "the CI's own rules say who may use it")
    elif job.environment:
        notes.append(f"the environment {job.environment} is not protected: any job may name it, so it is no condition")
    if job.environment and job.environment_protected:
        yield _Condition("environment_protected", True, "and it has such rules")
    asserted = bool(job.ref_protected)
    if job.workflow and _vouched_for(kind, claims, "workflow"):
        asserted = True
        whole = f"@{job.ref}"
        if released and job.workflow.endswith(whole) and not set(job.workflow) & set("*?"):
            spec: Any = {"glob": job.workflow.removesuffix(whole) + "@" + released}
        else:
            spec = job.workflow
        yield _Condition("workflow", spec, "this definition, no other that somebody adds")
    if job.ref and job.trigger and not asserted and _vouched_for(kind, claims, "trigger"):
        yield _Condition("trigger", job.trigger, "the platform's own word: the ref alone is what somebody wrote")


def _released(job: JobIdentity) -> str | None:
    """A glob over release tags, where the job ran on a protected one: each release has another."""
    version = (job.ref or "").removeprefix("refs/tags/")
    if (
        job.ref_type == "tag"
        and job.ref_protected
        and version[:1] == "v"
        and version[1:2].isdecimal()
        and "/" not in version
    ):
        return "refs/tags/v*"
    return None


def _vouched_for(kind: IssuerKind, claims: Claims, word: str) -> bool:
    """Whether the platform itself says this word. A step's key or a display name is the committer's to choose."""
    made: frozenset[Leaf] = origins(kind, claims).get(word, frozenset())
    return bool(made) and all(kind.trust(leaf[0]) not in {Trust.USER, None} for leaf in made)


def _head(subject: Subject, name: str, owners: Sequence[str], schema: str) -> Iterator[str]:
    whose = subject.token.job.project or subject.token.job.project_id or "this project"
    yield f"# yaml-language-server: $schema={schema}"
    yield "#"
    yield f"# A first policy, written by `jobkey-broker policy new` from a job of {_comment(subject.kind.title)}."
    yield "# Try a change with: jobkey-broker policy check, and what its examples prove with: jobkey-broker policy test --mutate"
    yield f"policy: {scalar(name)}"
    yield from member("description", f"What jobs of {whose} may have.", 0)
    yield f"owners: {flow(list(owners))}"


def _trust(issuer: str, conditions: Sequence[_Condition], *, shared: bool) -> Iterator[str]:
    yield ""
    yield "trust:                                  # any one of these statements is enough"
    if shared:  # the linter's own note, answered where it would stand: no policy can change it
        yield "  # jobkey: allow issuer-audience-shared because this CI lets no job choose its audience; age and single use are what is left"
    yield f"  - issuer: {scalar(issuer)}"
    yield "    job:                                # every condition has to hold; a claim that is missing satisfies none"
    written = [(f"      {condition.word}: {flow(condition.spec)}", condition.why) for condition in conditions]
    width = min(64, max(len(line) for line, _ in written))
    for line, why in written:
        yield f"{line.ljust(width)}  # {why}"
    yield "    # No allow_triggers: jobs that run other people's code (pull requests and their like) are refused."


def _grant(name: str, backend: str, world: World, notes: list[str]) -> Iterator[str]:
    target = (world.targets or {}).get(backend)
    ttl = (
        TTL
        if target is None
        else max(target.shortest, min(TTL, target.longest, world.guardrails.longest(target.kind, TTL)))
    )
    yield ""
    yield "grants:"
    yield f"  {scalar(name)}:"
    yield f"    backend: {scalar(backend)}"
    yield f"    ttl: {render(ttl)}                             # the longest a job may have it for"
    if target is None:
        yield "    # with: {...}                       # what narrows it: the options of this backend's kind, docs/backends.md"
        if world.targets is None:
            notes.append(
                f"what the backend {backend!r} takes under `with:` is not known; give --config broker.yaml to have it filled in"
            )
        return
    options, missing = placeholders(target)
    if options:
        yield "    with:                               # placeholders: write what this job needs, and no more"
        for key, value in options.items():
            yield from member(key, value, 6)
        notes.append(f"grants.{name}.with holds placeholders: {', '.join(options)}")
    for key in missing:
        yield f"    # {_comment(key)} is required under `with:`; docs/backends.md says what it is"
    needed = [info.alias or key for key, info in target.params.model_fields.items() if info.is_required()]
    if needed:
        yield f"    # The job sends {', '.join(map(_comment, needed))} itself; `params:` can limit what."


def placeholders(target: Target) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Values for the options that a backend requires: its own model's examples, or a word that fits; and those without."""
    options: dict[str, Any] = {}
    missing: list[str] = []
    for key, info in target.options.model_fields.items():
        if not info.is_required():
            continue
        name = info.alias or key
        fitting = [value for value in [*(info.examples or ()), *_WORDS] if _takes(target, name, value)]
        if fitting:
            options[name] = fitting[0]
        else:
            missing.append(name)
    return options, tuple(missing)


def _takes(target: Target, name: str, value: Any) -> bool:
    """Whether the model has nothing to say against this value of this option; the others are not looked at."""
    try:
        target.options.model_validate_json(json.dumps({name: value}))
    except ValidationError as error:
        return all(item["loc"][:1] != (name,) for item in error.errors(include_url=False, include_input=False))
    return True


def _examples(subject: Subject, claims: Claims, words: frozenset[str], grant: str, world: World) -> Iterator[str]:
    kind, issuer = subject.kind, subject.issuer
    reading = {"issuer": issuer, "world": world}

    def keep(leaf: Leaf, made: Mapping[str, frozenset[Leaf]]) -> bool:
        return any(leaf in made.get(word, ()) for word in words)

    allowed = written_claims(kind, claims, **reading, keep=keep)  # type: ignore[arg-type]  # the two that it names
    sibling, named = dangerous_sibling(
        kind, allowed, as_token(issuer, kind, world, allowed), words - {TRIGGERS, "trigger"}
    )
    name = title(as_token(issuer, kind, world, {**claims}), lambda _: False)
    yield ""
    yield "examples:                               # tried whenever the policy loads; without a refusal it does not"
    yield from example_lines({"name": name, "claims": allowed, "expect": {"allow": [grant]}}, 2)
    yield ""
    yield from example_lines({"name": named, "claims": sibling, "expect": "refuse"}, 2)


def _comment(text: str) -> str:
    """Text that stays on the line of its comment."""
    return "".join(character if character.isprintable() else "?" for character in text)[:120]
