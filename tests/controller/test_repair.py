"""sysreg-deploy repairs what was interrupted and what was changed, and undoes all that it did."""

from __future__ import annotations

import json
import random
import re
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests import certificates as make
from tests.controller.clients import (
    REGISTRY,
    archive,
    ca_signed_certificate,
    copy,
    login,
    start_runtimes,
    system,
)
from tests.controller.debian_root import ON_BOTH
from tests.controller.installation import serves, wait_until_served
from tests.controller.machine import ADDRESS, Machine
from tests.controller.machine_factory import DEPLOY, UNITS, MachineFactory
from tests.soak.controller import kill, steps

pytestmark = ON_BOTH

_KILLS = 8


@pytest.mark.timeout(600)
def test_killed_at_every_step_and_run_again_it_serves(installed: Machine) -> None:
    # Each run of this test takes other steps; `make soak` takes all of them.
    before = _survey(installed)
    names = steps(installed)
    stride = len(names) // _KILLS
    first = random.randint(1, stride)
    done = list(kill(installed, names, range(first, len(names) + 1, stride)))
    print("\n".join(done))
    assert len(done) >= _KILLS - 1
    assert _survey(installed) == before, "each began from nothing"


# Files of other programs that sysreg-deploy has lines in, and what other programs write by themselves.
_OTHERS = re.compile(
    "/etc/(hosts|containerd/config.toml|(passwd|group|shadow|gshadow|subuid|subgid)-?|.pwd.lock)$"
    "|/var/lib/(?!sysreg|docker-registry)"
    # what the registry's package brought, kept for --remove; the record; what the daemons make
    "|/var/lib/sysreg/(backup|deploy.json|services.lock|deploy.lock|garbage|token-server/|usage-samples.json)"
    # a note for certificate-list --history, which no service reads
    "|/etc/sysreg/tls/generations/[0-9]+/installed.json"
)


def _written(machine: Machine, machines: MachineFactory, release: str) -> dict[str, list[str]]:
    """All that deploying made, by kind: ``f`` file, ``d`` directory, ``l`` link."""
    root = machine.file("/")
    paths: dict[str, list[str]] = {"f": ["/etc/docker/registry/config.yml"], "d": [], "l": []}  # it was there
    for kind, name in machines.written(release):
        if not _OTHERS.search(str(name)):
            # a repair may have made a new certificate, in a generation of its own
            pattern = re.sub(r"generations/\d+", "generations/*", str(name))
            pattern = re.sub(r"sysreg-[0-9a-z]+.crt", "sysreg-*.crt", pattern)
            here = root.glob(pattern[1:]) if "*" in pattern else [root / pattern[1:]]
            found = sorted(f"/{path.relative_to(root)}" for path in here)
            paths[kind] += [path for path in found if not _OTHERS.search(path)]
    return paths


@pytest.mark.timeout(400)
def test_drift_is_found_and_repaired_in_everything_that_was_written(
    deployed: Machine, machines: MachineFactory, release: str
) -> None:
    written = _written(deployed, machines, release)
    assert len(written["f"]) > 20
    for kind in _damages(written):
        damage = _damages(_written(deployed, machines, release))[kind]
        deployed.shell("\n".join(command for _, command in damage))
        check = deployed.run(DEPLOY, "--check", status=1)
        assert "Traceback" not in check.stderr
        named = check.stdout + check.stderr
        missed = [what for what, _ in damage if not _is_named(what, named)]
        assert not missed, f"{kind} not found: {missed}\n{named}"
        deployed.run(DEPLOY)
    assert deployed.run(DEPLOY, "--check").stdout == "no change\n"
    wait_until_served(deployed)
    assert deployed.file("/etc/hosts").read_text().count(f"{ADDRESS} registry.local\n") == 1


def test_what_is_made_anew_is_seen_by_the_daemons_that_have_the_old_one_mounted(deployed: Machine) -> None:
    deployed.run("rm", "-r", "/var/lib/sysreg/write-fence", "/var/lib/sysreg/latest-write-token")
    deployed.run("rm", "-r", "/etc/docker/certs.d")
    removed = time.time()
    deployed.run(DEPLOY)
    image = archive(deployed, "small", 1000)
    copy(deployed, "testuser", image, f"docker://{REGISTRY}/testuser/small:latest")
    recorded = float(deployed.file("/var/lib/sysreg/latest-write-token").read_text())
    assert recorded >= removed, "a lost record counts as a token issued now"
    ca_signed_certificate(deployed.share, "registry.local", "198.51.100.10")
    system(deployed, "admin", "certificate-install", "-m", "docker_registry", "/run/share/registry.pem")


def test_an_expired_certificate_of_the_operators_keeps_nothing_from_being_repaired(deployed: Machine) -> None:
    now = datetime.now(UTC)
    root = make.authority()
    expired = make.server(root, start=now - timedelta(days=9), end=now - timedelta(days=1))
    (current,) = deployed.file("/etc/sysreg/tls/generations").iterdir()
    (current / "server.key").write_bytes(expired.key_pem)
    (current / "server.crt").write_bytes(expired.pem + root.pem)
    deployed.run("systemctl", "restart", "docker-registry.service", "sysreg-token-server.service")
    deployed.run("rm", "/etc/tmpfiles.d/sysreg.conf")
    for options in ([], ["--check"]):
        refused = deployed.run(DEPLOY, *options, status=1)
        assert "expired" in refused.stderr
        assert "certificate-install" in refused.stderr
    assert deployed.file("/etc/tmpfiles.d/sysreg.conf").exists()
    ca_signed_certificate(deployed.share, "registry.local", "198.51.100.10")
    system(deployed, "admin", "certificate-install", "-m", "docker_registry", "/run/share/registry.pem")
    assert deployed.run(DEPLOY, "--check").stdout == "no change\n"


def _damages(written: dict[str, list[str]]) -> dict[str, list[tuple[str, str]]]:
    """Kind of damage -> what is damaged, and the command that does it."""
    files, links = written["f"], written["l"]
    # These are compared with other files, and damaged after those were repaired.
    derived = re.compile("/tls/|trusted.crt")
    contents = [path for path in files if not path.startswith("/var/lib/sysreg/")]  # those may hold anything
    units = [path for path in links if ".wants/" in path]
    links = [path for path in links if path not in units]
    return {
        "content": [(path, f"echo garbage >{path}") for path in contents if not derived.search(path)],
        "derived": [(path, f"echo garbage >{path}") for path in contents if derived.search(path)],
        "target": [(path, f"ln -sfn /nowhere {path}") for path in links],
        "mode": [(path, f"chmod 0646 {path}") for path in files],
        "directory mode": [(path, f"chmod 0777 {path}") for path in written["d"]],
        "owner": [(path, f"chown daemon {path}") for path in (*files, *written["d"])],
        "removal": [(path, f"rm {path}") for path in (*files, *links)],
        "unit": [(path, f"rm {path}") for path in units],
        "stopped unit": [(unit, f"systemctl stop {unit}") for unit in reversed(UNITS)],
        "lines": [
            ("/etc/hosts", "sed -i /registry.local/d /etc/hosts"),
            ("/etc/containerd/config.toml", "sed -i /config_path/d /etc/containerd/config.toml"),
            ("sysreg-tls", "gpasswd --delete sysreg-token sysreg-tls"),
        ],
    }


def _is_named(what: str, output: str) -> bool:
    # One line names a pair of certificate and key, and one the trust in it.
    groups = {
        "/etc/sysreg/tls/": "certificate",
        "/etc/sysreg/token/signing": "token-signing",
        "/etc/docker/certs.d": "docker",
        "/etc/containerd/certs.d": "containerd",
    }
    name = what.rpartition("/")[2] if ".wants/" in what else what
    return name in output or any(what.startswith(path) and word in output for path, word in groups.items())


_SURVEY = r"""
cd /
find etc usr/local opt root var/lib -ignore_readdir_race -xdev \( \
    -name __pycache__ -o -path var/lib/systemd -o -path 'root/.?*' \
    -o -path var/lib/docker -o -path var/lib/containerd \) \
    -prune -o -printf '%p %y %m %u %g %l\n' | sort
find etc var/lib/docker-registry -ignore_readdir_race -xdev -type f -exec sha256sum {} + | sort -k2
systemctl list-unit-files --no-legend | grep -v transient | sort
getent passwd | sort; getent group | sort
"""
# The system's own habits when accounts are made: locks and backups of its files.
_IGNORED = (
    "etc/passwd-",
    "etc/group-",
    "etc/shadow-",
    "etc/gshadow-",
    "etc/.pwd.lock",
    "etc/subuid",
    "etc/subgid",
    # Java's copy of the trusted CAs: dpkg's trigger writes it, whenever it gets to that
    "etc/ssl/certs/java/cacerts",
    # `systemctl disable` removes the directory when it takes the last link out of it
    "etc/systemd/system/sockets.target.wants d ",
)


def _survey(machine: Machine) -> set[str]:
    lines = machine.shell(_SURVEY).stdout.splitlines()
    return {line for line in lines if not any(name in line for name in _IGNORED)}


def test_removal_leaves_nothing_of_ours_and_keeps_the_images(installed: Machine) -> None:
    installed.run("systemctl", "stop", "containerd.service", "docker.service", "docker.socket")
    installed.shell(
        "cd /var/lib/docker-registry && mkdir docker && echo kept >docker/image"
        " && chown -R docker-registry:docker-registry docker"
    )
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


def test_a_certificate_that_was_installed_stays_and_its_trust_is_repaired(deployed: Machine) -> None:
    ca_signed_certificate(deployed.share, "registry.local", "198.51.100.10")
    system(deployed, "admin", "certificate-install", "-m", "docker_registry", "/run/share/registry.pem")
    shown = system(deployed, "admin", "certificate-show", "docker_registry")
    deployed.shell(f"rm /etc/docker/certs.d/{REGISTRY}/*")
    deployed.run(DEPLOY)
    assert system(deployed, "admin", "certificate-show", "docker_registry") == shown
    assert serves(deployed)


def test_docker_knows_a_new_ca_after_the_restart_that_the_option_makes(deployed: Machine) -> None:
    start_runtimes(deployed)
    ca_signed_certificate(deployed.share, "registry.local", "198.51.100.10")
    system(deployed, "admin", "certificate-install", "-m", "docker_registry", "/run/share/registry.pem")
    deployed.shell(f"rm /etc/docker/certs.d/{REGISTRY}/*")  # what is left is the trust of the host
    try:
        assert "x509" in login(deployed, "testuser", status=1)
        install = ("certificate-install", "-m", "ssl_ca", "/run/share/ca.crt", "-f", "json")
        (installed,) = json.loads(system(deployed, "admin", *install))
        assert "x509" in login(deployed, "testuser", status=1), "docker read the bundle without a restart"
        system(deployed, "admin", *install, "--restart-clients")
        login(deployed, "testuser")
        uninstalled = system(
            deployed, "admin", "certificate-uninstall", installed["uuid"], "--restart-clients"
        )
        assert "docker.service restarted" in uninstalled
        assert "containerd.service restarted" in uninstalled
        assert "x509" in login(deployed, "testuser", status=1)
    finally:
        deployed.run(DEPLOY)
