"""sysreg-deploy mends what was cut off, what drifted, and undoes all it did."""

from __future__ import annotations

import itertools
import json
import re
import shlex

import pytest

from tests.controller.furnish import serves, wait_until_served
from tests.controller.machine import Machine
from tests.controller.people import REGISTRY, ca_signed_certificate, system
from tests.controller.test_deploy import DEPLOY, UNITS


@pytest.mark.timeout(600)
def test_killed_at_every_step_and_run_again_it_serves(installed: Machine) -> None:
    # Every run gets a little further than the one before, and dies before it writes a file, before it renames
    # that, or before a command. A new generation of the certificate takes ten such places, and is begun anew.
    kills = 0
    for place in itertools.cycle((4, 5, 6, 12)):
        environ = {"SYSREG_AGENT_FAILPOINT": f"{place}:kill"}
        if installed.run(DEPLOY, environ=environ, status=None).returncode == 0:
            break
        kills += 1
        assert kills < 150, "it gets no further"
    assert kills > 10
    installed.run(DEPLOY)
    assert installed.run(DEPLOY, "--check").stdout == "no change\n"
    wait_until_served(installed)
    leftovers = installed.shell("find /etc /usr/local /var/lib/sysreg -name '.sysreg-*'").stdout
    assert leftovers == ""


def _ours(machine: Machine) -> tuple[list[str], list[str]]:
    """The files and the links that the record names, and those that the certificate consists of."""
    record = json.loads(machine.file("/var/lib/sysreg/deploy.json").read_text())
    found = machine.shell(
        "printf '%s\\n' " + " ".join(map(shlex.quote, record["files"])) + "\n"
        "find /etc/sysreg/tls/generations -type f; ls -d /etc/sysreg/tls/current\n"
        "find /etc/docker/certs.d /etc/containerd/certs.d -type f\n"
        "ls /var/lib/sysreg/write-fence /var/lib/sysreg/latest-write-token"
    ).stdout.split()
    links = machine.shell(
        "for f in " + " ".join(found) + '; do [ -L "$f" ] && echo "$f" || true; done'
    ).stdout
    return [path for path in found if path not in links.split()], links.split()


@pytest.mark.timeout(400)
def test_drift_is_found_and_mended_in_everything_that_was_laid_down(deployed: Machine) -> None:
    files, _ = _ours(deployed)
    assert len(files) > 20
    for kind in _damages([], []):
        # anew for each: mending may have made new keys and certificates
        damage = _damages(*_ours(deployed))[kind]
        deployed.shell("\n".join(command for _, command in damage))
        found = deployed.run(DEPLOY, "--check", status=1)
        assert "Traceback" not in found.stderr
        named = found.stdout + found.stderr
        missed = [what for what, _ in damage if not _is_named(what, named)]
        assert not missed, f"{kind} not found: {missed}\n{named}"
        deployed.run(DEPLOY)
        assert deployed.run(DEPLOY, "--check").stdout == "no change\n", kind
    wait_until_served(deployed)


def _damages(files: list[str], links: list[str]) -> dict[str, list[tuple[str, str]]]:
    """Kind of damage -> what is damaged, and the command that does it."""
    # These are compared with other files, and damaged after those were mended.
    derived = re.compile("/tls/|trusted.crt")
    contents = [path for path in files if not path.startswith("/var/lib/sysreg/")]  # those may hold anything
    return {
        "content": [(path, f"echo garbage >{path}") for path in contents if not derived.search(path)],
        "derived": [(path, f"echo garbage >{path}") for path in contents if derived.search(path)],
        "target": [(path, f"ln -sfn /nowhere {path}") for path in links],
        "mode": [(path, f"chmod 0646 {path}") for path in files],
        "owner": [(path, f"chown daemon {path}") for path in files],
        "removal": [(path, f"rm {path}") for path in dict.fromkeys((*files, *links))],
        "unit": [(unit, f"systemctl disable --quiet {unit}") for unit in UNITS],
        "stopped unit": [(unit, f"systemctl stop {unit}") for unit in reversed(UNITS)],
        "lines": [
            ("/etc/hosts", "sed -i /registry.local/d /etc/hosts"),
            ("/etc/containerd/config.toml", "sed -i /config_path/d /etc/containerd/config.toml"),
        ],
        "account": [
            ("sysreg-tls", "gpasswd --delete sysreg-token sysreg-tls"),
            ("/var/lib/sysreg", "chmod 0777 /var/lib/sysreg"),
            ("/etc/sysreg/tls", "chgrp daemon /etc/sysreg/tls"),
        ],
    }


def _is_named(what: str, said: str) -> bool:
    # The pair of a certificate or a key is told as one; so is the trust in it.
    groups = {
        "/etc/sysreg/tls/": "certificate",
        "/etc/sysreg/token/signing": "token-signing",
        "/etc/docker/certs.d": "docker",
        "/etc/containerd/certs.d": "containerd",
    }
    return what in said or any(what.startswith(path) and word in said for path, word in groups.items())


_SURVEY = r"""
cd /
find etc usr/local opt root var/lib -xdev \( \
    -name __pycache__ -o -path var/lib/keystone -o -path var/lib/systemd -o -path root/.cache \
    -o -path var/lib/docker -o -path var/lib/containerd \) \
    -prune -o -printf '%p %y %m %u %g %l\n' | sort
find etc var/lib/docker-registry -xdev -type f -exec sha256sum {} + | sort -k2
systemctl list-unit-files --no-legend | grep -v transient | sort
getent passwd | sort; getent group | sort
"""
# The system's own habits when accounts are made: locks and backups of its files.
_NOT_OURS = (
    "etc/passwd-",
    "etc/group-",
    "etc/shadow-",
    "etc/gshadow-",
    "etc/.pwd.lock",
    "etc/subuid",
    "etc/subgid",
    # `systemctl disable` removes the directory when it takes the last link out of it
    "etc/systemd/system/sockets.target.wants d ",
)


def _survey(machine: Machine) -> set[str]:
    lines = machine.shell(_SURVEY).stdout.splitlines()
    return {line for line in lines if not any(name in line for name in _NOT_OURS)}


def test_removal_leaves_nothing_of_ours_and_keeps_the_images(installed: Machine) -> None:
    installed.run("systemctl", "stop", "containerd.service", "docker.service", "docker.socket")
    installed.shell("mkdir /var/lib/docker-registry/docker; echo kept >/var/lib/docker-registry/docker/image")
    installed.run("update-ca-certificates")  # whatever this host's administrator has left to it
    before = _survey(installed)
    installed.run(DEPLOY)
    wait_until_served(installed)
    ca_signed_certificate(installed.share, "registry.local", "198.51.100.10")
    system(installed, "admin", "certificate-install", "-m", "ssl_ca", "/run/share/ca.crt")
    assert _survey(installed) != before
    removed = installed.run(DEPLOY, "--remove").stdout
    assert removed.splitlines()[-1] == "done: removed; the images are in /var/lib/docker-registry"
    after = _survey(installed)
    assert sorted(after - before) == []
    assert sorted(before - after) == []
    assert installed.file("/var/lib/docker-registry/docker/image").read_text() == "kept\n"

    # and back again, with the images
    installed.run(DEPLOY)
    wait_until_served(installed)
    installed.run(DEPLOY, "--purge")
    assert not installed.file("/var/lib/docker-registry/docker").exists()
    assert not serves(installed)


def test_a_certificate_that_was_installed_stays_and_its_trust_is_mended(deployed: Machine) -> None:
    ca_signed_certificate(deployed.share, "registry.local", "198.51.100.10")
    system(deployed, "admin", "certificate-install", "-m", "docker_registry", "/run/share/registry.pem")
    shown = system(deployed, "admin", "certificate-show", "docker_registry")
    deployed.shell(f"rm /etc/docker/certs.d/{REGISTRY}/*")
    deployed.run(DEPLOY)
    assert system(deployed, "admin", "certificate-show", "docker_registry") == shown
    assert serves(deployed)
