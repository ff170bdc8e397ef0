"""No rule finds anything in what the project ships: configs, the demo, and the policies and guardrails of its pages."""

from dataclasses import replace
from pathlib import Path

import pytest

from broker.authoring.finding import Finding
from broker.authoring.lint import lint_guardrails, lint_policy, lint_set
from broker.catalog import policy_inputs
from broker.demo import ground
from broker.policy.guardrails import load_guardrails, read_guardrails
from broker.policy.load import Checked, PolicyText, check_text, read_folder
from broker.policy.world import World
from broker.settings import load_settings
from tools.pages import blocks

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "configs"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def world_of(config: Path) -> World:
    settings = load_settings(config)
    issuers, urls, targets = policy_inputs(settings)
    limits = load_guardrails(settings.guardrails)
    return World(issuers=issuers, issuer_urls=urls, targets=targets, guardrails=limits)


def everything(checked: list[Checked], world: World) -> list[str]:
    found: list[Finding] = [one for each in checked for one in lint_policy(each, world)]
    found += lint_set(checked, world, guardrails=world.guardrails)
    found += lint_guardrails(world.guardrails, world)
    return [f"{one.place.file}:{one.place.line}: {one.rule}: {one.message}" for one in found]


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("broker*.yaml")), ids=lambda path: path.name)
def test_nothing_in_configs(config: Path) -> None:
    world = world_of(config)
    checked = [check_text(text, world) for text in read_folder(CONFIGS / "policies", [])]
    assert len(checked) == 4
    assert not everything(checked, world)


def test_nothing_in_the_demo(tmp_path: Path) -> None:
    config = ground.lay(tmp_path, url="http://127.0.0.1:8400", port=8400, issuer="http://127.0.0.1:9400")
    world = world_of(config)
    checked = [check_text(text, world) for text in read_folder(tmp_path / "policies", [])]
    assert checked
    assert not everything(checked, world)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_nothing_on_a_page(path: Path) -> None:
    """A page that shows what the linter finds writes `finding` beside the block's role."""
    world = world_of(CONFIGS / "broker-production.yaml")
    for block in blocks(path.read_text()):
        words = block.info.split()
        if "finding" in words or words[:1] != ["yaml"]:
            continue
        if "policy" in words:
            text = PolicyText(f"{path.name}:{block.line}", "page.yaml", block.text.encode())
            assert not everything([check_text(text, world)], world)
        elif "guardrails" in words:
            limits = read_guardrails(block.text, f"{path.name}:{block.line}")
            # A page shows some limits, not all; what it shows must not be wrong.
            whole = {one.rule for one in lint_guardrails(limits, replace(world, guardrails=limits))}
            assert not whole - {"guardrails-no-ttl", "guardrails-unsafe-triggers", "guardrails-names-allowed"}
