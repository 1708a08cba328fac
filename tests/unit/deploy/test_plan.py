"""What a controller is made of, from settings and facts alone."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from sysreg_cli import settings as settings_module
from sysreg_cli.deploy import plan, templates
from sysreg_cli.deploy.items import File, Item, Link
from sysreg_cli.deploy.keys import SigningPair, TokenTrust
from sysreg_cli.deploy.units import Loaded, Running
from sysreg_cli.errors import SettingsError, SysregError
from sysreg_cli.settings import Settings

FACTS = plan.Facts(
    programs=Path("/opt/sysreg/bin"), address="198.51.100.10", systemd=252, containerd=None, taken="x"
)


def desired(settings: Settings, facts: plan.Facts = FACTS) -> list[Item]:
    files = templates.render(plan.template_values(settings, facts))
    return plan.desired(settings, facts, files, adopt=False)


def test_what_others_need_comes_before_them() -> None:
    items = desired(Settings())
    order = [type(item) for item in items]
    assert order.index(SigningPair) < order.index(TokenTrust) < order.index(Loaded)
    last_file = max(number for number, item in enumerate(items) if isinstance(item, (File, Link)))
    first_running = min(number for number, item in enumerate(items) if isinstance(item, Running))
    assert last_file < first_running, "no unit is started before all its files are there"


def test_every_restart_is_of_a_unit_that_is_started_afterwards() -> None:
    items = desired(Settings(), dataclasses.replace(FACTS, containerd=""))
    for number, item in enumerate(items):
        later = {one.unit for one in items[number:] if hasattr(one, "unit")}
        assert set(item.restarts) <= later, item


def test_no_placeholder_is_left_in_any_file() -> None:
    for item in desired(Settings()):
        if isinstance(item, File):
            assert not re.search(rb"@[a-z_]+@", item.content), item.path


def test_the_settings_reach_the_registrys_configuration() -> None:
    text = (
        "[registry]\nhost_names = r.example 198.51.100.7\nport = 9443\nmetrics = 127.0.0.1:9555\n"
        "[token_server]\nport = 9444\n"
    )
    config = plan.registry_config(settings_module.parse(text, "x"))
    assert config["http"]["addr"] == ":9443"  # type: ignore[index]
    assert config["http"]["debug"]["addr"] == "127.0.0.1:9555"  # type: ignore[index]
    token = config["auth"]["token"]  # type: ignore[index]
    assert token["realm"] == "https://r.example:9444/token/"
    assert token["service"] == "r.example:9443"
    assert "cache" not in config["storage"]  # type: ignore[operator]


def test_programs_of_a_distribution_need_no_links() -> None:
    links = [item for item in desired(Settings()) if isinstance(item, Link)]
    assert {str(link.path) for link in links} >= {
        "/usr/local/bin/system",
        "/usr/local/share/man/man1/system.1",
    }
    packaged = dataclasses.replace(FACTS, programs=Path("/usr/bin"))
    assert not [item for item in desired(Settings(), packaged) if isinstance(item, Link)]


@pytest.mark.parametrize(
    ("present", "block"),
    [
        ("", 'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\n'),
        ("version = 2\n", '[plugins."io.containerd.grpc.v1.cri".registry]\n'),
        ("version = 3\n", '[plugins."io.containerd.cri.v1.images".registry]\n'),
    ],
)
def test_containerd_is_told_where_the_trust_is(present: str, block: str) -> None:
    lines = f'{block}  config_path = "/etc/containerd/certs.d"\n'
    assert plan.containerd_block(present, Settings()) == lines
    ours = f"{present}# begin sysreg-deploy\n{lines}# end sysreg-deploy\n"
    assert plan.containerd_block(ours, Settings()) == lines, "our own lines are not in our way"


def test_a_containerd_that_reads_the_directory_anyhow_is_left_alone() -> None:
    table = 'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\n'
    assert plan.containerd_block(f'{table}config_path = "/etc/containerd/certs.d:/x"\n', Settings()) == ""


@pytest.mark.parametrize(
    ("present", "says"),
    [
        ("version = ", "is not TOML"),
        ("oom_score = 1\n", "has no version"),
        (
            'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "/x"\n',
            "does not read",
        ),
    ],
)
def test_a_containerd_that_cannot_be_told_is_an_error_that_says_what_to_do(present: str, says: str) -> None:
    with pytest.raises(SysregError, match=says) as caught:
        plan.containerd_block(present, Settings())
    assert caught.value.next_step


@pytest.mark.parametrize(("systemd", "steps"), [(252, False), (254, True)])
def test_restarts_back_off_where_systemd_can(systemd: int, steps: bool) -> None:
    items = desired(Settings(), dataclasses.replace(FACTS, systemd=systemd))
    units = [item.content.decode() for item in items if isinstance(item, File) and "RestartSec=" in str(item)]
    assert units
    assert all(("RestartSteps=" in unit) == steps for unit in units)


def test_without_containerd_nothing_of_it_is_planned() -> None:
    assert not [item for item in desired(Settings()) if "containerd/config" in str(item)]


def test_a_unit_that_is_not_deployed_cannot_be_asked_for() -> None:
    plan.demand_supported(Settings())
    settings = settings_module.parse("[registry]\nunit = other.service\nconfig = /srv/config.yml\n", "x")
    with pytest.raises(SettingsError) as refused:
        plan.demand_supported(settings)
    assert [problem.split(":")[1].split()[0] for problem in refused.value.problems] == ["config", "unit"]


def test_without_the_registrys_package_it_is_said_what_to_install() -> None:
    plan.demand_registry("root")
    with pytest.raises(SysregError, match="there is no user no-such-user; install it"):
        plan.demand_registry("no-such-user")
