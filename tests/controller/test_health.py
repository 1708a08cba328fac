"""Each fault is found by `system registry-health-query`, and mended by the command that it names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests import certificates as make
from tests.controller.clients import archive, ca_signed_certificate, login
from tests.controller.installation import openrc, wait_until_served
from tests.controller.machine import ADDRESS, Machine
from tests.controller.machine_factory import MachineFactory

NOW = datetime.now(UTC)
_STORAGE = "/var/lib/docker-registry"
_CONFIG = "/etc/docker/registry/config.yml"
_PYTHON = "/opt/sysreg/bin/python"
_HOSTS = "/etc/docker/certs.d/*/sysreg-*.crt"
#: what makes another self-signed generation the current one, and restarts nobody
_NEW_GENERATION = f"""{_PYTHON} - <<'EOF'
from datetime import UTC, datetime
from sysreg_cli.host import anchors
from sysreg_cli.host.generations import Generations
from sysreg_cli.pki.selfsigned import self_signed
from sysreg_cli.settings import load
settings = load()
generations = Generations(settings.certificate.directory)
name = generations.next_name()
generations.create(name, *self_signed(settings.registry.host_names, now=datetime.now(UTC)))
generations.use(name)
for change in anchors.trust_only(settings, generations.certificates(name)[-1]):
    change.apply()
EOF"""
#: runs a command that belongs to no service, and outlives the shell that starts it
_BACKGROUND = "exec </dev/null >/dev/null 2>&1; systemd-run --scope --quiet setsid -f"

#: moves the storage to a disk of its own
_SMALL_STORAGE = f"""mountpoint -q {_STORAGE} || {{
    mkdir -p /run/small
    mount -t tmpfs -o size=20m,nr_inodes=120 small /run/small
    cp -a {_STORAGE}/. /run/small
    chown --reference={_STORAGE} /run/small
    mount --move /run/small {_STORAGE}
    systemctl restart docker-registry.service sysreg-agent.service
}}"""
#: leaves the blobs of a deleted image, which a collection frees without waiting for the last write token
_DELETED_IMAGE = rf"""{_SMALL_STORAGE}
. /run/share/openrc
skopeo --insecure-policy copy --quiet --dest-creds=$OS_USERNAME:$OS_PASSWORD \
    docker-archive:/run/share/image.tar docker://registry.local:9001/testuser/image:1
system registry-image-delete testuser/image:1 >/run/share/output
printf '%19.6f\n' $(($(date +%s) - 600)) 1<>/var/lib/sysreg/latest-write-token"""
_FILL = f"""cd {_STORAGE}
dd if=/dev/zero of=filled bs=1k 2>/dev/null || df --output=avail . | grep -qx ' *0'"""
_TAKE_INODES = f"""mkdir {_STORAGE}/taken; cd {_STORAGE}
for number in $(seq 500); do : >taken/$number || break; done 2>/dev/null"""


@dataclass(frozen=True)
class Fault:
    """What is done to a controller, the check that fails, and the remedy.

    ``mend`` is what a person does by hand before the command; the command is the one that the row names.
    """

    name: str
    check: str
    script: str
    says: str
    mend: str = ""
    status: str = "failed"

    def __str__(self) -> str:
        return self.name


def health(machine: Machine, *words: str) -> tuple[int, dict[str, Any]]:
    """Return the exit status, and the row of each check by its name."""
    done = machine.run("system", "registry-health-query", "-f", "json", *words, status=None, timeout=60)
    assert "internal error" not in done.stdout + done.stderr
    return done.returncode, {row["check"]: row for row in json.loads(done.stdout)}


def bad(rows: dict[str, Any]) -> dict[str, str]:
    """The details of what is neither ok nor unknown."""
    return {name: row["detail"] for name, row in rows.items() if row["status"] in ("warning", "failed")}


def wait_until_healthy(machine: Machine, *words: str) -> None:
    """Wait until services that were restarted answer."""
    found: list[dict[str, str]] = []

    def is_healthy() -> bool:
        status, rows = health(machine, *words)
        found.append(bad(rows))
        return status == 0 and not found[-1]

    try:
        machine.wait_until(is_healthy, "healthy", 20)
    except AssertionError as error:
        raise AssertionError(f"{error}: {found[-1]}") from None


@pytest.fixture(scope="module")
def machine(machines: MachineFactory) -> Iterator[Machine]:
    """A healthy controller for all tests. The last one fails if any of them leaves a fault."""
    with machines.deployed() as machine:
        wait_until_served(machine.boot())
        archive(machine, "image", 5_000_000)
        environ = openrc(machine, "testuser", "tenant1").items()
        (machine.share / "openrc").write_text("".join(f"export {name}='{text}'\n" for name, text in environ))
        wait_until_healthy(machine)
        yield machine


def mend(machine: Machine, fault: Fault) -> None:
    """Check that the fault is found, and type the remedy."""
    status, rows = health(machine)
    row = rows[fault.check]
    assert (row["status"], status) == (fault.status, int(fault.status == "failed")), bad(rows)
    assert fault.says in row["detail"]
    if fault.mend:
        machine.shell(fault.mend)
    command = row["detail"].rpartition(": ")[2].replace("FILE", "/run/share/registry.pem")
    machine.shell(command)
    wait_until_healthy(machine, "--check", fault.check)


_FAULTS = [
    Fault("dead registry", "registry", "systemctl stop docker-registry", "Connection refused"),
    Fault("dead token server", "token-server", "systemctl stop sysreg-token-server", "Connection refused"),
    Fault(
        "dead agent",
        "agent",
        "systemctl stop sysreg-agent.socket sysreg-agent.service",
        "does not answer at /run/sysreg/agent.sock",
    ),
    Fault(
        "registry that hangs",
        "registry",
        "kill -STOP $(systemctl show --value -p MainPID docker-registry)",
        "does not answer within 3 s",
    ),
    Fault(
        "agent that hangs",
        "agent",
        "kill -STOP $(systemctl show --value -p MainPID sysreg-agent)",
        "the agent does not answer at /run/sysreg/agent.sock",
    ),
    Fault(
        "a service on the registry's port",
        "registry",
        "systemctl stop docker-registry\n"
        "systemd-run --quiet --unit=intruder python3 -m http.server 9001 --bind 198.51.100.10",
        "intruder.service) has the port",
    ),
    Fault(
        "a program on the token server's port",
        "token-server",
        f"systemctl stop sysreg-token-server\n{_BACKGROUND} python3 -m http.server 9002",
        "python3 (pid",
    ),
    Fault("no certificate", "certificate", "rm /etc/sysreg/tls/current", "is missing"),
    Fault(
        "key of another certificate",
        "certificate",
        "openssl ecparam -name prime256v1 -genkey -noout >/etc/sysreg/tls/current/server.key",
        "the private key does not match",
    ),
    Fault("services with an old certificate", "listeners", _NEW_GENERATION, "present another certificate"),
    Fault("no trust of docker", "docker-trust", "rm -r /etc/docker/certs.d", "docker does not trust"),
    Fault(
        "docker trusts another CA",
        "docker-trust",
        f"for file in {_HOSTS}; do cp /run/share/ca.crt $file; done",
        "docker does not trust",
    ),
    Fault(
        "no trust of containerd",
        "containerd-trust",
        "rm -r /etc/containerd/certs.d",
        "containerd does not trust",
    ),
    Fault(
        "containerd reads somebody's file",
        "containerd-trust",
        "for file in /etc/containerd/certs.d/*/hosts.toml; do echo 'server = \"https://other\"' >$file; done",
        "hosts.toml decides",
    ),
    Fault(
        "CA that is not in the bundle",
        "system-trust",
        "system certificate-install -m ssl_ca /run/share/ca.crt >/run/share/output\n"
        "cat /etc/ssl/certs/ISRG_Root_X1.pem >/etc/ssl/certs/ca-certificates.crt\n"
        "find /etc/ssl/certs -type l -delete",
        "the system does not trust sysreg-",
    ),
    Fault("unknown name", "names", "sed -i /registry.local/d /etc/hosts", "no address is known"),
    Fault(
        "name of another host",
        "names",
        "sed -i 's/.*registry.local.*/203.0.113.9 registry.local/' /etc/hosts",
        "registry.local is 203.0.113.9, which is no address of this host",
        mend="sed -i /registry.local/d /etc/hosts",
    ),
    Fault(
        "Keystone is away",
        "keystone",
        "systemctl stop keystone.socket keystone.service",
        "Connection refused",
        mend="systemctl start keystone.socket",
    ),
    Fault(
        "wrong URL of Keystone",
        "keystone",
        "sed -i 's|^auth_url = .*|auth_url = https://registry.local:9002/v3|' /etc/sysreg/sysreg.conf",
        "",
        mend="sed -i 's|^auth_url = .*|auth_url = http://127.0.0.1:5000/v3|' /etc/sysreg/sysreg.conf",
    ),
    Fault(
        "the registry trusts another key",
        "token",
        "cp /run/share/ca.crt /etc/sysreg/token/trusted.crt; systemctl restart docker-registry; sleep 0.3",
        "the registry refuses a token",
    ),
    Fault(
        "damaged token-signing key",
        "token",
        "echo garbage >/etc/sysreg/token/signing.key",
        "not an unencrypted private key",
    ),
    Fault("storage of root", "storage", f"chown -R root: {_STORAGE}", "may not read or change"),
    Fault(
        "read-only storage",
        "storage",
        f"{_SMALL_STORAGE}\nmount -o remount,ro {_STORAGE}",
        "is mounted read-only",
    ),
    Fault("full disk", "space", f"{_DELETED_IMAGE}\n{_FILL}", "0.0 GB (0 %) free for the images"),
    Fault("no inodes", "inodes", f"{_DELETED_IMAGE}\n{_TAKE_INODES}", "0 inodes (0 %) free for the images"),
    Fault(
        "held write lock",
        "writes",
        f"{_BACKGROUND} flock /var/lib/sysreg/write-fence sleep 600; sleep 0.3",
        "no push gets a token: flock (pid",
    ),
    Fault(
        "write lock of root alone",
        "writes",
        "chown root: /var/lib/sysreg/write-fence; chmod 0600 /var/lib/sysreg/write-fence",
        "the token server can't use it",
    ),
    # the push of the row ``image`` may make the lock anew first, but not so that the token server can use it
    Fault("missing write lock", "writes", "rm /var/lib/sysreg/write-fence", "write lock /var/lib/sysreg"),
    Fault(
        "deletes are off",
        "deletes",
        f"sed -i '/delete:/,+1 s/true/false/' {_CONFIG}; systemctl restart docker-registry",
        "takes no deletes",
    ),
    Fault(
        "cache of blob descriptors",
        "deletes",
        f"sed -i 's/^storage:/storage:\\n  cache:\\n    blobdescriptor: inmemory/' {_CONFIG}",
        "caches blob descriptors (inmemory)",
    ),
    Fault(
        "interrupted change of the certificate",
        "changes",
        "echo garbage >/var/lib/sysreg/certificate-journal",
        "a change of the registry's certificate was interrupted",
    ),
    Fault(
        "interrupted change of the token key",
        "changes",
        "cp /etc/sysreg/token/signing.crt /etc/sysreg/token/next.crt",
        "a change of the token-signing key was interrupted",
    ),
    Fault(
        "refused settings",
        "settings",
        "sed -i 's/^host_names/hostnames/' /etc/sysreg/sysreg.conf",
        "unknown key hostnames",
        mend="sed -i 's/^hostnames/host_names/' /etc/sysreg/sysreg.conf",
    ),
]


@pytest.mark.parametrize("fault", _FAULTS, ids=str)
def test_a_fault_is_found_and_the_command_that_is_named_mends_it(machine: Machine, fault: Fault) -> None:
    (machine.share / "ca.crt").write_bytes(make.authority().pem)
    machine.shell(fault.script)
    mend(machine, fault)
    machine.shell(f"rm -rf {_STORAGE}/filled {_STORAGE}/taken")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"start": NOW - timedelta(days=9), "end": NOW - timedelta(days=1)}, "expired at"),
        ({"names": ["elsewhere.example"]}, "lacks the DNS name registry.local"),
    ],
    ids=["expired", "of another name"],
)
def test_a_certificate_of_the_operators_that_is_not_fit_is_replaced(
    machine: Machine, changes: dict[str, Any], says: str
) -> None:
    root = make.authority()
    issued = make.server(root, **changes)
    current = (
        machine.file("/etc/sysreg/tls/generations")
        / machine.shell("basename $(readlink /etc/sysreg/tls/current)").stdout.strip()
    )
    (current / "server.key").write_bytes(issued.key_pem)
    (current / "server.crt").write_bytes(issued.pem + root.pem)
    machine.shell("systemctl restart docker-registry; systemctl reload sysreg-token-server; sleep 0.3")
    ca_signed_certificate(machine.share, "registry.local", ADDRESS)
    mend(machine, Fault(says, "certificate", "", says))


def test_refused_logins_are_a_warning_without_names(machine: Machine) -> None:
    login(machine, "testuser", "wrong", status=1)
    _, rows = health(machine, "--check", "logins")
    assert "testuser" not in rows["logins"]["detail"]
    mend(machine, Fault("logins", "logins", "", "Keystone has refused lately: 1", status="warning"))


def test_a_failed_collection_is_run_again(machine: Machine) -> None:
    config = "/etc/docker/registry/config.yml"
    machine.shell(
        f"mv {config} /run/share/config\nsystem registry-garbage-collect >/run/share/output 2>&1 || true\n"
        f"mv /run/share/config {config}"
    )
    mend(machine, Fault("collection", "collection", "", "the last one ended 0 min ago: failed ("))


def test_after_all_of_that_every_check_is_well_also_with_each_blob_read(machine: Machine) -> None:
    wait_until_healthy(machine, "--deep")
    _, rows = health(machine, "--deep")
    # this controller has no cluster
    assert {check: row["status"] for check, row in rows.items() if row["status"] != "ok"} == {
        "hosts": "skipped"
    }
