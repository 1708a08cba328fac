"""What users see when something dies, hangs or runs out, and that it heals or says what to do."""

from __future__ import annotations

import re

import pytest

from tests.controller.clients import (
    REGISTRY,
    archive,
    ca_signed_certificate,
    copy,
    login,
    storage_bytes,
    system,
)
from tests.controller.debian_root import ON_BOTH
from tests.controller.installation import openrc, serves, wait_until_served, why_not_served
from tests.controller.machine import ADDRESS, Machine
from tests.controller.machine_factory import DEPLOY

pytestmark = ON_BOTH

REGISTRY_UNIT, TOKEN_UNIT, AGENT_UNIT = DAEMONS = (
    "docker-registry.service",
    "sysreg-token-server.service",
    "sysreg-agent.service",
)
_INSTALL = ("certificate-install", "-m", "docker_registry", "/run/share/registry.pem")


def _pid(machine: Machine, unit: str) -> str:
    return machine.show(unit, "MainPID")


def test_daemons_that_are_killed_come_back_and_users_are_told_where_one_is_missed(deployed: Machine) -> None:
    for unit, port in ((REGISTRY_UNIT, 9001), (TOKEN_UNIT, 9002)):
        before = _pid(deployed, unit)
        deployed.run("kill", "-KILL", before)
        output = why_not_served(deployed)
        assert not output or f"registry.local:{port}" in output, "it was missed, and the message says where"
        wait_until_served(deployed)
        assert _pid(deployed, unit) not in ("0", before)
    # systemd keeps the agent's socket: the call waits for the next agent
    deployed.run("kill", "-KILL", _pid(deployed, AGENT_UNIT))
    assert "docker_registry" in system(deployed, "admin", "certificate-list")


def test_a_token_server_that_hangs_is_started_again_by_its_watchdog(deployed: Machine) -> None:
    hung = _pid(deployed, TOKEN_UNIT)
    deployed.run("kill", "-STOP", hung)
    command = ["system", "--timeout", "2", "registry-image-tags", "testuser/nothing"]
    output = deployed.run(*command, environ=openrc(deployed, "testuser", "tenant1"), status=1).stderr
    assert "registry.local:9002" in output
    assert "2 s" in output
    deployed.wait_until(lambda: _pid(deployed, TOKEN_UNIT) not in ("0", hung), "a new one runs", 90)
    wait_until_served(deployed)
    assert "Watchdog timeout" in deployed.journal(TOKEN_UNIT)


def test_without_its_socket_the_agent_is_missed_and_the_message_says_what_brings_it_back(
    deployed: Machine,
) -> None:
    deployed.run("rm", "/run/sysreg/agent.sock")
    output = system(deployed, "admin", "certificate-list", status=1)
    assert "/run/sysreg/agent.sock" in output
    assert "sysreg-agent" in output
    assert serves(deployed)
    assert "/run/sysreg/agent.sock is gone" in deployed.run(DEPLOY, "--check", status=1).stdout
    deployed.run(DEPLOY)
    assert "docker_registry" in system(deployed, "admin", "certificate-list")


def _mount_small(machine: Machine, directory: str, spare: int) -> None:
    """Move a directory to a disk of its own, on which ``spare`` KiB are free."""
    machine.shell(
        f"size=$(du -sk {directory} | cut -f1); mkdir -p /run/small\n"
        f"mount -t tmpfs -o size=$((size + {spare}))k small /run/small\n"
        f"cp -a {directory}/. /run/small\n"
        f"chown --reference={directory} /run/small; chmod --reference={directory} /run/small\n"
        f"mount --move /run/small {directory}; systemctl restart {' '.join(DAEMONS)}"
    )


def _fill(machine: Machine, directory: str) -> None:
    machine.shell(
        f"cd {directory}; dd if=/dev/zero of=filled bs=1k 2>/dev/null || df --output=avail . | grep -qx ' *0'"
    )


def _collect(machine: Machine) -> str:
    """A collection that need not wait for the last permission to push to end."""
    record = "/var/lib/sysreg/latest-write-token"
    machine.shell(f"printf '%19.6f\\n' $(($(date +%s) - 600)) 1<>{record}")  # in place: the disk may be full
    return system(machine, "admin", "registry-garbage-collect")


def test_on_a_full_disk_pushes_fail_pulls_go_on_and_space_is_enough_to_heal(deployed: Machine) -> None:
    _mount_small(deployed, "/var/lib/docker-registry", 6000)
    wait_until_served(deployed)
    small, large = archive(deployed, "small", 1_000_000), archive(deployed, "large", 20_000_000)
    target = f"docker://{REGISTRY}/testuser"
    copy(deployed, "testuser", small, f"{target}/small:1")
    assert "500" in copy(deployed, "testuser", large, f"{target}/large:1", status=1)
    copy(deployed, "testuser", f"{target}/small:1", "dir:/run/share/pulled")
    assert "testuser/small" in system(deployed, "admin", "registry-image-list")
    assert storage_bytes(deployed) < 6_500_000
    _fill(deployed, "/var/lib/docker-registry")
    # not one byte can be written, and still an image can be deleted and its space freed
    system(deployed, "admin", "registry-image-delete", "testuser/small:1")
    assert "Removed" in _collect(deployed)
    copy(deployed, "testuser", small, f"{target}/small:2")
    deployed.run("mount", "-o", "remount,size=100m", "/var/lib/docker-registry")
    copy(deployed, "testuser", large, f"{target}/large:1")


def test_without_room_for_state_and_logs_images_move_and_every_refusal_says_where_room_is_missing(
    deployed: Machine,
) -> None:
    for directory in ("/var/log", "/var/lib/sysreg"):
        _mount_small(deployed, directory, 600)
        _fill(deployed, directory)
    wait_until_served(deployed)
    assert "Login Succeeded" in login(deployed, "testuser")
    assert "unauthorized" in login(deployed, "testuser", "wrong", status=1)
    copy(deployed, "testuser", archive(deployed, "image", 1000), f"docker://{REGISTRY}/testuser/image:1")
    copy(deployed, "testuser", f"docker://{REGISTRY}/testuser/image:1", "dir:/run/share/pulled")
    bundle = ca_signed_certificate(deployed.share, "registry.local", ADDRESS)
    output = system(deployed, "admin", *_INSTALL, status=1)
    assert "/var/lib/sysreg/certificate-journal: No space left on device" in output
    assert bundle.exists(), "nothing was installed, so the key is kept"
    system(deployed, "admin", "registry-image-delete", "testuser/image:1")
    assert "Removed" in _collect(deployed), "the remedy works"
    assert deployed.run(DEPLOY, "--check").stdout == "no change\n"
    deployed.shell("rm /var/lib/sysreg/filled /var/log/filled")
    system(deployed, "admin", *_INSTALL)
    system(deployed, "admin", "registry-garbage-collect", "--dry-run")


@pytest.mark.parametrize(
    ("cause", "words"), [("read-only", "Read-only file system"), ("full", "No space left on device")]
)
def test_with_an_etc_that_takes_nothing_it_serves_and_every_change_says_why_it_fails(
    deployed: Machine, cause: str, words: str
) -> None:
    if cause == "full":
        _mount_small(deployed, "/etc", 2000)
        deployed.run("rm", "/etc/tmpfiles.d/sysreg.conf")  # something for sysreg-deploy to do
        _fill(deployed, "/etc")
        repair = "rm /etc/filled"
    else:
        deployed.shell(
            "rm /etc/tmpfiles.d/sysreg.conf; mount --bind /etc /etc; mount -o remount,bind,ro /etc\n"
            f"systemctl restart {AGENT_UNIT}"
        )
        repair = f"umount /etc; systemctl restart {AGENT_UNIT}"
    wait_until_served(deployed)
    bundle = ca_signed_certificate(deployed.share, "registry.local", ADDRESS)
    output = system(deployed, "admin", *_INSTALL, status=1)
    assert re.search(f"/etc/sysreg/tls/\\S+: {words}", output), output
    assert "the old certificate is still in use" in output
    assert bundle.exists(), "nothing was installed, so the key is kept"
    output = deployed.run(DEPLOY, status=1).stderr
    assert output == (
        f"sysreg-deploy: /etc/tmpfiles.d/sysreg.conf: {words}; repair that, then run sysreg-deploy again\n"
    )
    assert serves(deployed)
    deployed.shell(repair)
    deployed.run(DEPLOY)
    system(deployed, "admin", *_INSTALL)
    assert not bundle.exists()
    assert deployed.run(DEPLOY, "--check").stdout == "no change\n"


def test_the_sandboxes_are_as_strict_as_promised(deployed: Machine) -> None:
    for unit, max_exposure in ((TOKEN_UNIT, 1.5), (AGENT_UNIT, 4.5)):
        output = deployed.run("systemd-analyze", "security", "--no-pager", unit).stdout
        exposure = float(output.rpartition(f"for {unit}: ")[2].split()[0])
        assert exposure <= max_exposure
