"""Every file below configs/ is loaded by what will load it, as far as it can be here."""

import configparser
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from broker.cli.main import app
from broker.settings import load_settings
from tests.system import find
from tools.pages import ROOT

CONFIGS = ROOT / "configs"
BROKERS = sorted(CONFIGS.glob("broker*.yaml"))
UNIT = CONFIGS / "systemd/jobkey-broker.service"


def test_no_file_is_forgotten() -> None:
    tried = {
        *BROKERS,
        UNIT,
        CONFIGS / "guardrails.yaml",
        CONFIGS / "container/compose.yaml",
        CONFIGS / "kubernetes/broker.yaml",
    }
    tried |= {
        *(CONFIGS / "policies").rglob("*.yaml"),
        *(CONFIGS / "schemas").iterdir(),
        *(CONFIGS / "ci").iterdir(),  # run by tests/unit/policy/test_cli_check.py
    }  # loaded with each broker.yaml; tests/unit/policy
    assert {path for path in CONFIGS.rglob("*") if path.is_file()} == tried


@pytest.mark.parametrize("path", BROKERS, ids=lambda path: path.name)
def test_a_broker_loads_with_its_guardrails_and_every_policy(path: Path) -> None:
    checked = CliRunner().invoke(app, ["check", "--config", str(path)])
    assert checked.exit_code == 0, checked.exception
    assert "4 policies" in checked.stdout


def test_the_first_day_listens_on_loopback_and_needs_no_other_system() -> None:
    settings = load_settings(CONFIGS / "broker.yaml")
    assert settings.host == "127.0.0.1"
    assert {kind for kind, _ in settings.backends.values()} == {"identity-token", "ssh-ca"}


def test_production_speaks_tls_and_holds_no_secret() -> None:
    path = CONFIGS / "broker-production.yaml"
    settings = load_settings(path)
    assert settings.certificate is not None
    assert settings.url.startswith("https://")
    assert settings.issuers["github"].bound_audience == "required"


def test_production_behind_a_proxy_loads_as_its_comment_says(tmp_path: Path) -> None:
    value = yaml.safe_load((CONFIGS / "broker-production.yaml").read_text().replace("# behind_proxy", "behind_proxy"))
    del value["tls"]
    (tmp_path / "broker.yaml").write_text(yaml.safe_dump(value))
    settings = load_settings(tmp_path / "broker.yaml")
    assert settings.file.behind_proxy
    assert settings.certificate is None


def test_the_unit_is_sound_and_gives_nothing_away(tmp_path: Path) -> None:
    parser = configparser.RawConfigParser(strict=False, comment_prefixes=("#",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's keys have capitals
    parser.read_string(UNIT.read_text())
    service = parser["Service"]
    assert service["ExecStart"] == "/opt/jobkey/bin/jobkey-broker serve --config /etc/jobkey/broker.yaml"
    assert (service["ProtectSystem"], service["NoNewPrivileges"], service["CapabilityBoundingSet"]) == (
        "strict",
        "yes",
        "",
    )
    analyze = find("systemd-analyze")
    if analyze is None:  # a bonus where systemd is; its own parser says more than ours
        return
    here = tmp_path / UNIT.name
    here.write_text(UNIT.read_text().replace("/opt/jobkey/bin/jobkey-broker", "/bin/true"))
    said = subprocess.run([analyze, "verify", "--man=no", str(here)], capture_output=True, text=True, check=False)
    assert not [line for line in said.stderr.splitlines() if UNIT.name in line], said.stderr


def test_compose_runs_it_read_only_and_without_capabilities() -> None:
    (service,) = yaml.safe_load((CONFIGS / "container/compose.yaml").read_text())["services"].values()
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["user"] == "65532:65532"
    assert "no-new-privileges:true" in service["security_opt"]


def test_kubernetes_runs_one_with_a_broker_yaml_that_loads(tmp_path: Path) -> None:
    stateful, config, service = yaml.safe_load_all((CONFIGS / "kubernetes/broker.yaml").read_text())
    spec = stateful["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert stateful["spec"]["replicas"] == 1
    assert container["securityContext"] == {
        "readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert service["spec"]["selector"] == stateful["spec"]["template"]["metadata"]["labels"]
    (tmp_path / "broker.yaml").write_text(config["data"]["broker.yaml"])
    settings = load_settings(tmp_path / "broker.yaml")
    assert settings.port == container["ports"][0]["containerPort"]
    data = next(mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "data")
    assert settings.data.is_relative_to(data)
    assert settings.data != Path(data)  # the volume's own folder is open to its group
