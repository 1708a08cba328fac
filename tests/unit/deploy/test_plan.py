"""What a controller is to have, as a function of its settings and what is there."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from sysreg_cli.deploy import plan, templates
from sysreg_cli.deploy.items import Block, File
from sysreg_cli.deploy.units import Enabled, Running
from sysreg_cli.errors import SysregError
from sysreg_cli.settings import Settings, load


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "sysreg.conf"
    path.write_text("[keystone]\nauth_url = http://192.0.2.1:5000/v3\n")
    return load(path)


def facts(containerd: str | None = None, systemd: int = 252) -> plan.Facts:
    return plan.Facts(Path("/opt/sysreg/bin"), "192.0.2.2", systemd, containerd, "digest")


def desired(settings: Settings, facts: plan.Facts) -> list[object]:
    files = templates.render(plan.template_values(settings, facts))
    return list(plan.desired(settings, facts, files, adopt=False))


@pytest.mark.parametrize(
    "present",
    [
        "",
        "version = 2\n",
        "version = 3\n",
        'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\nsandbox_image = "pause"\n',
    ],
)
def test_containerd_reads_the_trust_after_our_lines_were_added(settings: Settings, present: str) -> None:
    block = plan.containerd_block(present, settings)
    read = tomllib.loads(f"{present}{block}")
    plugin = "io.containerd.cri.v1.images" if read["version"] == 3 else "io.containerd.grpc.v1.cri"
    assert read["plugins"][plugin]["registry"]["config_path"] == "/etc/containerd/certs.d"
    # and they are found again, not added twice
    again = f"{present}# begin sysreg-deploy\n{block}# end sysreg-deploy\n"
    assert plan.containerd_block(again, settings) == block


def test_a_containerd_that_reads_the_trust_already_is_left_alone(settings: Settings) -> None:
    table = '[plugins."io.containerd.grpc.v1.cri".registry]\n'
    paths = 'config_path = "/etc/containerd/certs.d:/etc/docker/certs.d"\n'
    assert plan.containerd_block(f"version = 2\n{table}{paths}", settings) == ""


@pytest.mark.parametrize(
    ("present", "words"),
    [
        ("version = ", "not TOML"),
        ('root = "/var/lib/containerd"\n', "has no version"),
        (
            'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "/etc/mine"\n',
            "does not read /etc/containerd/certs.d",
        ),
    ],
)
def test_a_containerd_that_we_cannot_extend_is_named_with_what_to_do(
    settings: Settings, present: str, words: str
) -> None:
    with pytest.raises(SysregError, match=words) as refused:
        plan.containerd_block(present, settings)
    assert "then run" in refused.value.next_step


def test_the_registry_has_no_cache_of_descriptors_and_only_a_file_for_its_secret(settings: Settings) -> None:
    storage = plan.registry_config(settings)["storage"]
    assert isinstance(storage, dict)
    assert "cache" not in storage, "with one, a push after a collection stores nothing"
    assert storage["delete"] == {"enabled": True}
    assert "secret" not in str(plan.registry_config(settings))


def test_units_run_after_everything_they_read_was_laid_down(settings: Settings) -> None:
    items = desired(settings, facts(containerd=""))
    first = min(index for index, item in enumerate(items) if isinstance(item, Enabled | Running))
    assert all(not isinstance(item, File | Block) for item in items[first:])
    running = [item.unit for item in items if isinstance(item, Running)]
    assert running == [
        "docker-registry.service",
        "sysreg-token-server.service",
        "sysreg-agent.socket",
        "sysreg-agent.service",
    ]


@pytest.mark.parametrize(("systemd", "steps"), [(252, False), (254, True)])
def test_restarts_back_off_where_systemd_can(settings: Settings, systemd: int, steps: bool) -> None:
    files = [item for item in desired(settings, facts(systemd=systemd)) if isinstance(item, File)]
    units = [file.content.decode() for file in files if file.path.name.endswith(".service")]
    assert units
    for unit in units:
        assert ("RestartSteps=" in unit) == steps
        assert "RestartSec=" in unit


def test_without_containerd_nothing_of_it_is_planned(settings: Settings) -> None:
    assert not [item for item in desired(settings, facts()) if "containerd/config" in str(item)]
