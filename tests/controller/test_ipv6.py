"""A machine that has only IPv6, besides 127.0.0.1: everything works there. Its storage is below /home."""

from __future__ import annotations

import time

import pytest

from tests.controller.clients import (
    REGISTRY,
    archive,
    ca_signed_certificate,
    copy,
    cri_pull,
    login,
    pull_secret,
    system,
)
from tests.controller.installation import KEYSTONE_PORT, wait_until_served
from tests.controller.machine import ADDRESS, Machine
from tests.controller.machine_factory import DEPLOY

_ADDRESS = "2001:db8::10"
_STORAGE = "/home/registry/images"


def _leave_ipv4(machine: Machine) -> None:
    """Exchange the machine's address, also for its way to Keystone."""
    machine.shell(
        f"ip address delete {ADDRESS}/32 dev lo; ip address add {_ADDRESS}/128 dev lo nodad\n"
        "ip -6 route add default dev lo\n"
        f"sed -i 's/^{ADDRESS} /{_ADDRESS} /' /etc/hosts; echo '::1 localhost' >>/etc/hosts\n"
        f"sed -i 's/^ListenStream=.*/ListenStream=[{_ADDRESS}]:{KEYSTONE_PORT}/'"
        " /etc/systemd/system/keystone.socket\n"
        "systemctl daemon-reload; systemctl restart keystone.socket"
    )


@pytest.mark.timeout(300)
def test_a_machine_with_only_ipv6_is_a_controller(
    installed: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, keystone = installed, f"http://[{_ADDRESS}]:{KEYSTONE_PORT}/v3"
    _leave_ipv4(machine)
    monkeypatch.setattr("tests.controller.installation.AUTH_URL", keystone)  # of openrc
    conf = machine.file("/etc/sysreg/sysreg.conf")
    conf.write_text(
        f"[registry]\nhost_names = registry.local\nstorage = {_STORAGE}\n[keystone]\nauth_url = {keystone}\n"
    )
    machine.run(DEPLOY)
    assert f"\n{_ADDRESS} registry.local\n" in machine.file("/etc/hosts").read_text()
    wait_until_served(machine)

    assert "Login Succeeded" in login(machine, "testuser")
    image = archive(machine, "small", 1000)
    target = f"docker://{REGISTRY}/testuser/small:1"
    copy(machine, "testuser", image, target)
    machine.run("systemctl", "start", "containerd.service")
    cri_pull(machine, "testuser/small:1", pull_secret(machine, "testuser"))
    assert machine.file(f"{_STORAGE}/docker").is_dir()

    # an address among the names, which the certificate and the trust need then
    conf.write_text(conf.read_text().replace("registry.local", f"registry.local [{_ADDRESS}]"))
    machine.run(DEPLOY)
    ca_signed_certificate(machine.share, "registry.local", _ADDRESS)
    system(machine, "admin", "certificate-install", "-m", "docker_registry", "/run/share/registry.pem")
    by_address = f"[{_ADDRESS}]:9001"
    tags = system(machine, "testuser", "--registry", by_address, "registry-image-tags", "testuser/small")
    assert "| 1 " in tags
    copy(machine, "testuser", target, "dir:/root/pulled")

    system(machine, "testuser", "registry-image-delete", f"{by_address}/testuser/small:1")
    record = machine.file("/var/lib/sysreg/latest-write-token")
    record.write_text(f"{time.time() - 600:19.6f}\n")  # else the collection waits 65 s for the token
    assert "Freed 4 blobs" in system(machine, "admin", "registry-garbage-collect", "--grace", "0")
    assert machine.run(DEPLOY, "--check").stdout == "no change\n"
