"""What a controller consists of, from settings and facts alone."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sysreg_cli.addresses import HostPort
from sysreg_cli.deploy.certificate import ServerCertificate
from sysreg_cli.deploy.client_trust import ClientTrust
from sysreg_cli.deploy.daemons import AGENT, TOKEN_SERVER
from sysreg_cli.deploy.deployment import Deployment
from sysreg_cli.deploy.file import File, Link
from sysreg_cli.deploy.host_facts import HostFacts
from sysreg_cli.deploy.storage import StorageRights
from sysreg_cli.deploy.system_files import Accounts, Tmpfiles
from sysreg_cli.deploy.token_keys import SigningPair
from sysreg_cli.deploy.units import ETCD, RELOAD, RunningUnit
from sysreg_cli.settings import ClusterSettings, Settings

FACTS = HostFacts(programs=Path("/opt/sysreg/bin"), address="198.51.100.10", systemd=252, containerd=None)


def build(facts: HostFacts = FACTS) -> Deployment:
    return Deployment.build(Settings(), facts)


def files(facts: HostFacts = FACTS) -> dict[Path, bytes]:
    """The files whose content is known beforehand."""
    resources = [resource for resource in build(facts).on_disk if isinstance(resource, File)]
    return {file.path: file.content for file in resources if isinstance(file.content, bytes)}


def test_what_others_need_comes_before_them() -> None:
    deployment = build()
    kinds = [type(resource) for resource in deployment.resources]
    order = [File, Accounts, Tmpfiles, SigningPair, ServerCertificate, ClientTrust, StorageRights]
    assert sorted(order, key=kinds.index) == order
    assert not any(isinstance(resource, RunningUnit) for resource in deployment.on_disk)


def test_every_restart_is_of_a_unit_that_is_started_afterwards() -> None:
    deployment = build(dataclasses.replace(FACTS, containerd=""))
    started = {RELOAD} | {getattr(service, "unit", "") for service in deployment.services}
    for resource in deployment.on_disk:
        assert set(resource.restarts) <= started, resource
    assert {unit for resource in deployment.on_disk for unit in resource.restarts} > {
        AGENT.unit,
        TOKEN_SERVER.unit,
    }


def test_systemd_reads_each_unit_file_that_is_written() -> None:
    deployment = Deployment.build(
        Settings(cluster=ClusterSettings(listen=HostPort("192.0.2.1", 2479))), FACTS
    )
    written = [
        one for one in deployment.on_disk if isinstance(one, File) and "/systemd/system/" in str(one.path)
    ]
    assert len(written) >= 7
    assert [one.path for one in written if RELOAD not in one.restarts] == []


def test_no_placeholder_is_left_in_any_file() -> None:
    for path, content in files().items():
        assert not re.search(rb"@[a-z_]+@", content), path


def test_no_unit_writes_core_dumps_which_would_hold_keys() -> None:
    services = [content for content in files().values() if b"[Service]" in content]
    assert len(services) == 4
    assert all(b"\nLimitCORE=0\n" in content for content in services)


def test_the_registry_has_the_sandbox_of_the_token_server() -> None:
    units = {path.name: content.decode() for path, content in files().items() if b"[Service]" in content}
    kinds = "Protect|Private|Restrict|Proc|NoNew|Lock|MemoryDeny|Device|Capab|Ambient|RemoveIPC|SystemCallA"
    registry, token_server = (
        set(re.findall(rf"^(?:{kinds})\w*=.*$", units[name], re.MULTILINE))
        for name in ("sysreg.conf", "sysreg-token-server.service")
    )
    assert len(token_server) > 20
    # It may have its storage below /home, which is mounted then.
    assert token_server - registry == {"ProtectHome=yes"}
    assert "ProtectHome=tmpfs" in registry
    assert "SystemCallFilter=@system-service" in units["sysreg.conf"]


def test_programs_of_a_distribution_need_no_links() -> None:
    links = {str(link.path) for link in build().resources if isinstance(link, Link)}
    assert links >= {"/usr/local/bin/system", "/usr/local/share/man/man1/system.1"}
    packaged = build(dataclasses.replace(FACTS, programs=Path("/usr/bin")))
    assert not [resource for resource in packaged.resources if isinstance(resource, Link)]


@pytest.mark.parametrize(("systemd", "steps"), [(252, False), (254, True)])
def test_restarts_back_off_where_systemd_can(systemd: int, steps: bool) -> None:
    contents = files(dataclasses.replace(FACTS, systemd=systemd)).values()
    units = [content for content in contents if b"RestartSec=" in content]
    assert units
    assert all((b"RestartSteps=" in unit) == steps for unit in units)


def test_without_containerd_nothing_of_it_is_planned() -> None:
    assert not [resource for resource in build().resources if "containerd/config" in str(resource)]


def test_without_a_cluster_nothing_of_etcd_is_planned_or_imported() -> None:
    script = (
        "import sys; from pathlib import Path; from tests.unit.deploy.test_deployment import build;"
        " print([type(one).__name__ for one in build().all if 'sysreg-etcd' in str(one)]);"
        " print([name for name in sys.modules if name.startswith('sysreg_cli.cluster')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    planned, imported = done.stdout.splitlines()
    assert planned == "['WithdrawnUnit']"
    assert imported == "[]"


def test_a_cluster_s_etcd_starts_before_the_agent() -> None:
    settings = Settings(cluster=ClusterSettings(listen=HostPort("192.0.2.1", 2479)))
    deployment = Deployment.build(settings, FACTS)
    running = [one.unit for one in deployment.services if isinstance(one, RunningUnit)]
    assert running.index(ETCD) < running.index(AGENT.unit)
    assert [type(one).__name__ for one in deployment.resources[:3]] == ["MaskedUnit", "Installed", "File"]
