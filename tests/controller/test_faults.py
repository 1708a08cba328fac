"""What users see when something dies, hangs or runs out, and that it heals or says what to do."""

from __future__ import annotations

import pytest

from tests.controller.furnish import serves, wait_until_served
from tests.controller.machine import Machine
from tests.controller.people import (
    REGISTRY,
    ca_signed_certificate,
    login,
    make_image,
    push,
    start_runtimes,
    storage_bytes,
    system,
)
from tests.controller.test_deploy import DEPLOY

DAEMONS = ("docker-registry.service", "sysreg-token-server.service", "sysreg-agent.service")


def test_daemons_that_are_killed_come_back_and_serve(deployed: Machine) -> None:
    for unit in DAEMONS:
        before = deployed.show(unit, "MainPID")
        deployed.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", unit)
        deployed.wait_until(
            lambda unit=unit, before=before: (
                deployed.show(unit, "ActiveState") == "active"  # type: ignore[misc]
                and deployed.show(unit, "MainPID") not in ("0", before)
            ),
            f"{unit} runs again",
            30,
        )
    wait_until_served(deployed)
    assert "docker_registry" in system(deployed, "admin", "certificate-list")


def test_a_token_server_that_hangs_is_started_again_by_its_watchdog(deployed: Machine) -> None:
    hung = deployed.show("sysreg-token-server.service", "MainPID")
    deployed.run("kill", "-STOP", hung)
    assert not serves(deployed)
    deployed.wait_until(
        lambda: deployed.show("sysreg-token-server.service", "MainPID") not in ("0", hung),
        "a new one runs",
        90,
    )
    wait_until_served(deployed)
    assert "Watchdog timeout" in deployed.journal("sysreg-token-server.service")


def test_without_its_socket_the_agent_is_missed_and_the_message_says_what_brings_it_back(
    deployed: Machine,
) -> None:
    deployed.run("rm", "/run/sysreg/agent.sock")
    said = system(deployed, "admin", "certificate-list", status=1)
    assert "/run/sysreg/agent.sock" in said
    assert "sysreg-agent" in said
    assert serves(deployed)
    assert "/run/sysreg/agent.sock is gone" in deployed.run(DEPLOY, "--check", status=1).stdout
    deployed.run(DEPLOY)
    assert "docker_registry" in system(deployed, "admin", "certificate-list")


def test_on_a_full_disk_pushes_fail_pulls_go_on_and_space_is_enough_to_heal(deployed: Machine) -> None:
    deployed.shell(
        "systemctl stop docker-registry.service\n"
        "mount -t tmpfs -o size=6m full /var/lib/docker-registry\n"
        "chown docker-registry: /var/lib/docker-registry\n"
        "systemctl start docker-registry.service"
    )
    wait_until_served(deployed)
    start_runtimes(deployed)
    login(deployed, "testuser")
    make_image(deployed, "small", 1_000_000)
    make_image(deployed, "large", 20_000_000)
    push(deployed, "small", "testuser/small:1")
    refused = push(deployed, "large", "testuser/large:1", status=1)
    assert "Traceback" not in refused
    assert deployed.run("docker", "pull", "--quiet", f"{REGISTRY}/testuser/small:1").stdout
    assert "testuser/small" in system(deployed, "admin", "registry-image-list")
    assert storage_bytes(deployed) < 6_500_000
    deployed.run("mount", "-o", "remount,size=100m", "/var/lib/docker-registry")
    push(deployed, "large", "testuser/large:1")


def test_with_a_read_only_etc_it_serves_and_every_change_says_why_it_fails(deployed: Machine) -> None:
    deployed.shell(
        "rm /etc/tmpfiles.d/sysreg.conf\n"  # something for sysreg-deploy to do
        "mount --bind /etc /etc && mount -o remount,bind,ro /etc && systemctl restart sysreg-agent"
    )
    assert serves(deployed)
    ca_signed_certificate(deployed.share, "registry.local", "198.51.100.10")
    said = system(
        deployed, "admin", "certificate-install", "-m", "docker_registry", "/run/share/registry.pem", status=1
    )
    assert "Read-only file system" in said
    assert (deployed.share / "registry.pem").exists(), "nothing was installed, so the key is kept"
    refused = deployed.run(DEPLOY, status=1).stderr
    assert "Read-only file system" in refused
    assert "Traceback" not in refused
    deployed.shell("umount /etc && systemctl restart sysreg-agent")
    deployed.run(DEPLOY)
    assert system(
        deployed, "admin", "certificate-install", "-m", "docker_registry", "/run/share/registry.pem"
    )
    assert serves(deployed)


@pytest.mark.parametrize(
    ("unit", "most"), [("sysreg-token-server.service", 1.5), ("sysreg-agent.service", 4.5)]
)
def test_the_sandbox_is_as_strict_as_promised(deployed: Machine, unit: str, most: float) -> None:
    said = deployed.run("systemd-analyze", "security", "--no-pager", unit).stdout
    exposure = float(said.rpartition(f"for {unit}: ")[2].split()[0])
    assert exposure <= most
