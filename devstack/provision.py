"""Write the files of an embedded controller: keys, settings and configurations.

What ``sysreg-deploy`` writes to a controller comes from its own functions here. So the functional tests run
what is deployed.
"""

from __future__ import annotations

import configparser
import contextlib
import copy
import fcntl
import grp
import json
import pwd
import secrets
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives.asymmetric import ec

from devstack import ports
from devstack.commands import BIN
from devstack.endpoints import ETCD_PORT, HOST_NAME, NAMESPACE_ADDRESS, USUAL_PORTS, Endpoints
from devstack.options import Options
from devstack.paths import Paths
from devstack.programs import REGISTRY_USER
from devstack.supervisor import Supervisor
from devstack.workers import CONTROLLER
from sysreg_cli import settings as settings_file
from sysreg_cli.deploy import templates
from sysreg_cli.deploy.configs import registry_config
from sysreg_cli.deploy.deployment import template_values
from sysreg_cli.deploy.host_facts import HostFacts
from sysreg_cli.host import anchors, files
from sysreg_cli.host.generations import Generations
from sysreg_cli.pki.keys import to_pem
from sysreg_cli.pki.selfsigned import self_signed, signing_certificate
from sysreg_cli.settings import Settings


def write_settings(paths: Paths, endpoints: Endpoints, supervisor: Supervisor, options: Options) -> Settings:
    """Write sysreg.conf, and return what the daemons will read in it."""
    config = configparser.ConfigParser(interpolation=None)
    config.read_dict(
        {
            "registry": {
                "host_names": HOST_NAME,
                "port": str(endpoints.ports["registry"]),
                "config": str(paths.registry_config),
                "storage": str(paths.storage),
                "metrics": f"127.0.0.1:{endpoints.ports['debug']}",
            },
            "keystone": {"auth_url": endpoints.auth_url},
            "token_server": {
                "listen": endpoints.listen,
                "port": str(endpoints.ports["token_server"]),
                "signing_key": str(paths.signing_key),
                "signing_certificate": str(paths.signing_certificate),
            },
            "agent": {
                "socket": str(paths.agent_socket),
                "listen": f"{endpoints.listen}:{endpoints.ports['agent']}",
                "metrics": f"127.0.0.1:{endpoints.ports['metrics']}",
                "restart_command": supervisor.ctl("restart", "{unit}"),
                "reload_command": supervisor.ctl("signal", "HUP", "{unit}"),
            },
            "certificate": {"directory": str(paths.tls)},
            "paths": {"state": str(paths.state), "containerd_trust": f"{paths.root}/containerd/certs.d"},
        }
    )
    if options.hosts:
        etcd = {"listen": endpoints.etcd, "endpoints": f"{HOST_NAME}:{endpoints.ports['etcd']}"}
        config["cluster"] = {**etcd, "host": CONTROLLER, "directory": str(paths.cluster)}
    if not options.netns:  # a namespace has its own /etc, which may be changed
        config["paths"]["system_trust"] = f"{paths.root}/ca-certificates"
        config["paths"]["system_trust_command"] = "true"
    config.read_dict(options.settings)
    with paths.settings.open("w") as file:
        config.write(file)
    return settings_file.load(paths.settings)


def choose_ports(paths: Paths, options: Options) -> dict[str, int]:
    """Choose the ports, by name, and write them down: those of an earlier start, if there was one."""
    if options.netns:
        chosen = {**USUAL_PORTS, "etcd": ETCD_PORT}
    elif paths.ports.exists():
        # the data of an older version lacks some
        chosen = {**USUAL_PORTS, **json.loads(paths.ports.read_text())}
    else:
        chosen = dict(zip(USUAL_PORTS, ports.free_ports(len(USUAL_PORTS)), strict=True))
        if options.running_keystone:
            chosen["keystone"] = options.running_keystone.port
        chosen.update(options.ports)
    first = chosen.pop("etcd", 0)
    chosen.pop("etcd_peer", None)
    if options.hosts:
        first = options.ports.get("etcd") or first or ports.free_pair()
        chosen.update(etcd=first, etcd_peer=first + 1)
    paths.ports.write_text(json.dumps(chosen))
    return chosen


def make_accounts_and_directories(settings: Settings) -> None:
    """Make what the files for sysusers.d(5) and tmpfiles.d(5) list. systemd need not be installed here."""
    with Path("/etc/group").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # groupadd fails while another test process runs it
        for kind, name, *_ in _lines("sysusers.d", settings):
            if not _exists(kind, name):
                command = {"g": ["groupadd", "--system"], "u": ["useradd", "--system", "--user-group"]}[kind]
                subprocess.run([*command, name], check=True, stdin=subprocess.DEVNULL, capture_output=True)
    for kind, name, mode, owner, group, *argument in _lines("tmpfiles.d", settings):
        path = Path(name)
        if kind == "d":
            path.mkdir(parents=True, exist_ok=True)
        elif not path.exists():
            path.write_text(argument[-1] if len(argument) > 1 else "")
        shutil.chown(path, owner, group)
        path.chmod(0o755 if mode == "-" else int(mode, 8))


def make_keys(settings: Settings) -> None:
    """Make the TLS certificate and the token-signing key, unless they exist."""
    if Generations(settings.certificate.directory).current() is None:
        make_certificate(settings.certificate.directory)
    trust_in_containerd(settings)
    if not settings.token_server.signing_key.exists():
        make_signing_pair(
            settings.token_server.signing_key,
            settings.token_server.signing_certificate,
            settings.token_server.trust_bundle,
        )


def make_certificate(directory: Path) -> None:
    """Make a self-signed certificate for registry.local, and put it in use in ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    generations = Generations(directory)
    addresses = ["127.0.0.1", NAMESPACE_ADDRESS]
    pair = self_signed([HOST_NAME, "localhost"], now=datetime.now(UTC), addresses=addresses)
    name = generations.next_name()
    generations.create(name, *pair)
    generations.use(name)


def trust_in_containerd(settings: Settings) -> None:
    """Have containerd trust the certificate in use, as ``sysreg-deploy`` does."""
    generations = Generations(settings.certificate.directory)
    name = generations.current()
    assert name is not None, "it has just been made"
    # docker's directory is that of the host, or of the controller's own namespace
    paths = replace(settings.paths, docker_trust=settings.paths.containerd_trust)
    for change in anchors.trust_only(replace(settings, paths=paths), generations.certificates(name)[-1]):
        change.apply()


def make_signing_pair(key_file: Path, *certificate_files: Path) -> None:
    """Make a key that signs registry tokens, and its certificate at each of ``certificate_files``."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = signing_certificate(key, now=datetime.now(UTC))
    key_file.parent.mkdir(parents=True, exist_ok=True)
    files.write(key_file, to_pem(key), mode=0o400)
    for path in certificate_files:
        files.write(path, certificate, mode=0o644)


def write_registry_config(
    paths: Paths, endpoints: Endpoints, settings: Settings, changes: Mapping[str, Any]
) -> None:
    """Write the registry's configuration: that of a controller, with a local address and ``changes``.

    The configuration is merged mapping by mapping; a value of None removes a key.
    """
    if not paths.registry_secret.exists():
        files.write(paths.registry_secret, secrets.token_hex(32).encode(), mode=0o600)
    local = {
        "addr": f"{endpoints.listen}:{endpoints.ports['registry']}",
        # Deployed, the secret is in the registry's environment. Here, all programs' is in one readable file.
        "secret": paths.registry_secret.read_text(),
    }
    replace_registry_config(paths, merged(merged(registry_config(settings), {"http": local}), changes))


def replace_registry_config(paths: Paths, config: Mapping[str, Any]) -> None:
    """Replace config.yml. It holds a secret, and docker-registry's user must read it."""
    text = yaml.safe_dump(dict(config), sort_keys=False)
    group = grp.getgrnam(REGISTRY_USER).gr_gid
    files.write(paths.registry_config, text.encode(), mode=0o640, group=group)


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Merge ``changes`` into a copy of ``base``, mapping by mapping; a value of None removes a key."""
    result = copy.deepcopy(dict(base))
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def _lines(directory: str, settings: Settings) -> Iterator[list[str]]:
    """The fields of each line of a controller's ``/etc/<directory>/sysreg.conf``."""
    facts = HostFacts(programs=BIN, address="", systemd=0, containerd=None)
    rendered = templates.render(template_values(settings, facts))
    for line in rendered[f"/etc/{directory}/sysreg.conf"].decode().splitlines():
        if fields := shlex.split(line, comments=True):
            yield fields


def _exists(kind: str, name: str) -> bool:
    """Whether the account of a sysusers.d line exists. Memberships are for daemons that don't run as root."""
    with contextlib.suppress(KeyError):
        return bool({"g": grp.getgrnam, "u": pwd.getpwnam}[kind](name)) if kind in "gu" else True
    return False
