"""The whole guide on a booted controller, with the real clients, over an address that isn't loopback."""

from __future__ import annotations

import json

import pytest

from tests.controller.clients import (
    REGISTRY,
    ca_signed_certificate,
    cri_pull,
    login,
    make_image,
    pull_secret,
    push,
    skopeo,
    start_runtimes,
    storage_bytes,
    system,
)
from tests.controller.debian_root import ON_BOTH
from tests.controller.installation import wait_until_served
from tests.controller.machine import ADDRESS, Machine
from tests.controller.machine_factory import DEPLOY, UNITS
from tests.controller.test_deploy import started


@ON_BOTH
@pytest.mark.timeout(600)
def test_the_guide_from_deployment_to_reclaimed_space(installed: Machine) -> None:
    machine = installed

    # Deploy, with the self-signed certificate of a new controller.
    machine.run(DEPLOY)
    wait_until_served(machine)
    start_runtimes(machine)
    assert machine.shell("getent hosts registry.local").stdout.split()[0] == ADDRESS

    # A user logs in and pushes below the own name, and nowhere else.
    assert "Login Succeeded" in login(machine, "testuser")
    assert "unauthorized" in login(machine, "testuser", "wrong", status=1)
    login(machine, "testuser")
    make_image(machine, "busybox")
    empty = storage_bytes(machine)
    push(machine, "busybox", "testuser/busybox:latest")
    assert "denied" in push(machine, "busybox", "testuser2/busybox:latest", status=1)
    assert "denied" in push(machine, "busybox", "public/busybox:latest", status=1)

    # Pods pull with an imagePullSecret; without one, or with a wrong one, they don't.
    assert "401" in cri_pull(machine, "testuser/busybox:latest", status=1)
    wrong = pull_secret(machine, "testuser", "not-the-password")
    assert "401" in cri_pull(machine, "testuser/busybox:latest", wrong, status=1)
    system(machine, "testuser", "registry-image-tags", "testuser/busybox")  # any success clears the refusal
    secret = pull_secret(machine, "testuser")
    assert cri_pull(machine, "testuser/busybox:latest", secret).startswith("sha256:")
    others = pull_secret(machine, "testuser2")
    assert cri_pull(machine, "testuser/busybox:latest", others, status=1)

    # A certificate of the operator's CA; nothing but the registry is restarted.
    bundle = ca_signed_certificate(machine.share, "registry.local", ADDRESS)
    before = started(machine) | {
        "docker.service": machine.show("docker.service", "ActiveEnterTimestampMonotonic")
    }
    installed_table = system(
        machine, "admin", "certificate-install", "-m", "docker_registry", "/run/share/registry.pem"
    )
    assert "docker_registry_" in installed_table
    assert not bundle.exists(), "the file holds the private key: it is removed once that is verified"
    after = started(machine) | {
        "docker.service": machine.show("docker.service", "ActiveEnterTimestampMonotonic")
    }
    assert {unit for unit in after if after[unit] != before[unit]} == {UNITS[0]}

    # docker, containerd and skopeo go on as if nothing had happened.
    secret = pull_secret(machine, "testuser")
    make_image(machine, "busybox2")
    push(machine, "busybox2", "testuser/busybox:new")
    assert cri_pull(machine, "testuser/busybox:new", secret).startswith("sha256:")
    assert set(json.loads(skopeo(machine, "testuser", "list-tags", "testuser/busybox"))["Tags"]) == {
        "latest",
        "new",
    }
    assert machine.run("docker", "pull", "--quiet", f"{REGISTRY}/testuser/busybox:new").stdout

    # A client that doesn't know the CA fails, and for that reason.
    machine.shell(f"mv /etc/docker/certs.d/{REGISTRY} /root/aside")
    refused = machine.run("docker", "pull", f"{REGISTRY}/testuser/busybox:new", status=1)
    assert "x509: certificate signed by unknown authority" in refused.stderr
    machine.shell(f"mv /root/aside /etc/docker/certs.d/{REGISTRY}")
    assert machine.run(DEPLOY, "--check").stdout == "no change\n"

    # List, tags, delete, collect; the space is back.
    assert "| testuser/busybox |" in system(machine, "admin", "registry-image-list")
    tags = system(machine, "testuser", "registry-image-tags", "testuser/busybox")
    assert tags.splitlines()[3:-1] == ["| latest    |", "| new       |"]
    full = storage_bytes(machine)
    assert full - empty > 3_900_000
    for tag in ("latest", "new"):
        deleted = system(machine, "admin", "registry-image-delete", f"testuser/busybox:{tag}")
        assert deleted.startswith(f"Image testuser/busybox:{tag} deleted")
    collected = system(machine, "admin", "registry-garbage-collect", timeout=200)
    assert collected.startswith("Running docker registry garbage collect\n")
    assert storage_bytes(machine) - empty < 100_000
    assert system(machine, "admin", "registry-image-list") == "\n"
    for unit in UNITS:
        assert machine.show(unit, "NRestarts") in ("0", ""), unit
