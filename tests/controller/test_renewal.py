"""Renewals, alarms and metrics work in the agent's service, as systemd confines it."""

from __future__ import annotations

from typing import Any

from tests import certificates as make
from tests.controller.installation import configure
from tests.controller.machine import ADDRESS, Machine
from tests.controller.machine_factory import DEPLOY
from tests.functional.certificate.breakable import Bundle
from tests.functional.renewal.sources import Certbot
from tests.kubernetes_api import NAME, NAMESPACE, KubernetesApi

_SETTINGS = """
[agent]
metrics = 127.0.0.1:9004
[alarms]
command = /usr/local/libexec/alarm
[certificate]
min_days_warning = 3650
"""


def deploy(machine: Machine, source: str) -> None:
    configure(machine, extra=f"{_SETTINGS}source = {source}\n")
    machine.run(DEPLOY)


def shown(machine: Machine) -> Any:
    return machine.json("system", "certificate-show", "docker_registry", "-f", "json")


def test_the_agents_service_reaches_certbots_files_a_kubeconfig_alarms_and_metrics(deployed: Machine) -> None:
    root = make.authority()
    leaf = make.server(root, names=[make.HOST, ADDRESS])
    certbot = Certbot(deployed.file("/etc/letsencrypt"))
    certbot.renew(Bundle(make.bundle(leaf, root), leaf, (leaf, root)))
    alarm = deployed.file("/usr/local/libexec/alarm")
    alarm.parent.mkdir(exist_ok=True)
    alarm.write_text("#!/bin/sh\ncat >>/var/lib/sysreg/received\n")
    alarm.chmod(0o755)

    deploy(deployed, "files:/etc/letsencrypt/live/registry.local")
    signature = f"docker_registry_{leaf.certificate.serial_number}"
    deployed.wait_until(lambda: shown(deployed)["signature"] == signature, "the renewal is live", 60)
    received = deployed.file("/var/lib/sysreg/received")
    deployed.wait_until(
        lambda: received.exists() and "500.200" in received.read_text(), "an alarm is set", 90
    )
    metrics = deployed.run("curl", "-sf", "http://127.0.0.1:9004/metrics").stdout
    assert "sysreg_certificate_source_problem 0.0" in metrics
    assert "sysreg_refused_logins 0.0" in metrics

    # nothing listens at its port: the credentials were read
    kubeconfig = deployed.file("/etc/kubernetes/admin.conf")
    kubeconfig.parent.mkdir()
    KubernetesApi().write_kubeconfig(kubeconfig)
    kubeconfig.chmod(0o600)
    deploy(deployed, f"secret:{NAMESPACE}/{NAME}")
    deployed.wait_until(
        lambda: shown(deployed)["source_problem"].endswith("cannot be reached: Connection refused"),
        "the agent tries to reach Kubernetes",
        60,
    )
