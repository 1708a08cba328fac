"""A collection by the deployed agent, in its sandbox, of a registry that systemd starts."""

from __future__ import annotations

import json
import threading

import psutil

from devstack.waiting import wait_until
from tests.controller.installation import wait_until_served
from tests.controller.machine import Machine
from tests.unit.agent.storage.builder import Storage

COLLECT = ("system", "registry-garbage-collect", "-f", "json")
DROP_IN = "/etc/systemd/system/docker-registry.service.d/99-own.conf"
LAYER = "docker/registry/v2/blobs/sha256/00/" + "0" * 64


def configure(machine: Machine, *lines: str) -> None:
    """Give the registry's unit these lines, and restart it."""
    machine.file(DROP_IN).write_text("[Service]\n" + "\n".join(lines) + "\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "docker-registry.service")


def add_garbage(machine: Machine, storage: str) -> None:
    machine.shell(
        f"install -d -o docker-registry -g docker-registry {storage}; cd {storage}\n"
        f"mkdir -p {LAYER}; echo garbage >{LAYER}/data; mkdir -p docker/registry/v2/repositories/a/_layers\n"
        "chown -R docker-registry: docker"
    )


def test_a_collection_is_of_the_storage_that_the_environment_of_the_unit_names(deployed: Machine) -> None:
    storage = "/var/lib/docker-registry"
    add_garbage(deployed, storage)
    (report,) = json.loads(deployed.run(*COLLECT).stdout)
    assert (report["blobs"], report["repositories"]) == (1, 1)

    # The metrics move with the variable: without it, the agent would not find them.
    deployed.file("/etc/own.env").write_text("REGISTRY_HTTP_DEBUG_ADDR=127.0.0.1:5099\n")
    configure(deployed, "EnvironmentFile=/etc/own.env")
    wait_until_served(deployed)
    add_garbage(deployed, storage)
    assert json.loads(deployed.run(*COLLECT).stdout)[0]["blobs"] == 1

    add_garbage(deployed, "/srv/images")
    configure(deployed, 'Environment="REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=/srv/images"')
    for options in (("--dry-run",), ()):
        refused = deployed.run(*COLLECT, *options, status=1).stderr
        assert "the registry's storage is /srv/images, but the setting storage" in refused
        assert "set storage to /srv/images, and run sysreg-deploy" in refused

    conf = deployed.file("/etc/sysreg/sysreg.conf")
    conf.write_text(conf.read_text().replace("[registry]\n", "[registry]\nstorage = /srv/images\n"))
    deployed.run("sysreg-deploy")
    assert json.loads(deployed.run(*COLLECT).stdout)[0]["blobs"] == 1

    deployed.run("chown", "root", "/srv/images/docker/registry/v2/repositories")
    checked = deployed.run("sysreg-deploy", "--check", status=1).stderr
    assert "may not read or change /srv/images/docker/registry/v2/repositories" in checked

    configure(deployed, "ExecStart=", "ExecStart=/usr/bin/docker-registry serve /etc/other.yml")
    refused = deployed.run(*COLLECT, status=1).stderr
    assert "docker-registry.service is started with /etc/other.yml" in refused


def test_two_processes_read_a_large_storage_in_the_sandbox(deployed: Machine) -> None:
    storage = Storage(deployed.file("/var/lib/docker-registry"))
    for number in range(1000):
        storage.image(f"large{number}", "1", layers=(number.to_bytes(4, "big"),))
    deployed.run("chown", "-R", "docker-registry:", "/var/lib/docker-registry")

    def is_read_by_two() -> bool:
        reading = threading.Thread(target=deployed.run, args=("system", "registry-usage"))
        reading.start()
        seen = False
        while reading.is_alive():
            running = psutil.process_iter(["cmdline"])
            seen = seen or any("second_reader" in " ".join(it.info["cmdline"] or ()) for it in running)
        reading.join()
        return seen

    wait_until(is_read_by_two)
    assert deployed.run("system", "registry-usage", "-c", "images", "-f", "value").stdout == "1000\n"
    journal = deployed.run("journalctl", "-u", "sysreg-agent.service", "--no-pager").stdout
    assert "Traceback" not in journal
