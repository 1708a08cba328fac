"""The files of one embedded controller: settings, keys, configurations, and the addresses they name."""

from __future__ import annotations

import configparser
import grp
import json
import os
import pwd
import secrets
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from devstack import keys, keystone, ports, registry, supervisor

USUAL_PORTS = {"keystone": 5000, "registry": 9001, "token_server": 9002, "agent": 9003, "debug": 5001}


class Site:
    """Where everything of a controller is; see Controller for the parameters."""

    def __init__(
        self,
        root: Path,
        *,
        ports: Mapping[str, int] | None,
        settings: Mapping[str, Mapping[str, str]] | None,
        registry: Mapping[str, Any] | None,
        keystone: Mapping[str, Mapping[str, str]] | None,
        netns: bool,
    ) -> None:
        self.root = root
        self.netns = netns
        self.ports = dict(ports or {})
        self.passwords: dict[str, str] = {}
        self.supervisor = supervisor.Supervisor(root)
        self.settings = root / "sysreg.conf"
        self.state = root / "state"
        self.tls = root / "tls"
        self.storage = root / "registry" / "storage"
        self.registry_config_file = root / "registry" / "config.yml"
        self.agent_socket = root / "run" / "agent.sock"
        self._listen = keys.NAMESPACE_ADDRESS if netns else "127.0.0.1"
        self._settings_changes = settings or {}
        self._registry_changes = registry or {}
        self._keystone_changes = keystone or {}

    @property
    def address(self) -> str:
        """registry.local:<port>, as image references have it."""
        return f"{keys.HOST_NAME}:{self.ports['registry']}"

    @property
    def url(self) -> str:
        return f"https://{self.address}"

    @property
    def token_url(self) -> str:
        return f"https://{keys.HOST_NAME}:{self.ports['token_server']}/token/"

    @property
    def auth_url(self) -> str:
        """Keystone's URL, OS_AUTH_URL."""
        return f"http://127.0.0.1:{self.ports['keystone']}/v3"

    @property
    def ca_file(self) -> Path:
        """The certificate to trust; it follows an installed certificate, whose chain stands there then."""
        return self.tls / "current" / "server.crt"

    def lay_down(self) -> None:
        """Every file below root; what exists of keys, database and images stays."""
        for directory in ("run", "log", "home", "registry", "keystone"):
            (self.root / directory).mkdir(parents=True, exist_ok=True)
        if not self.ports and (self.root / "ports.json").exists():
            self.load()
        if self.netns:
            self.ports = dict(USUAL_PORTS)
        for name, port in zip(USUAL_PORTS, ports.free_ports(len(USUAL_PORTS)), strict=True):
            self.ports.setdefault(name, port)
        (self.root / "ports.json").write_text(json.dumps(self.ports))

        self.passwords = keystone.lay_down(
            self.root / "keystone", self.ports["keystone"], self._keystone_changes
        )
        self._lay_down_keys()
        self._write_settings()
        self._write_registry_config()

    def load(self) -> None:
        """Read the ports and passwords of a controller that was laid down before."""
        self.passwords = json.loads((self.root / "keystone" / "passwords.json").read_text())
        self.ports = json.loads((self.root / "ports.json").read_text())

    def write_registry_config(self, config: Mapping[str, Any]) -> None:
        """Replace config.yml, which holds http.secret: root:docker-registry 0640."""
        new = self.registry_config_file.with_suffix(".new")
        new.touch(mode=0o640)
        new.write_text(yaml.safe_dump(dict(config), sort_keys=False))
        os.chown(new, 0, pwd.getpwnam(registry.USER).pw_gid)
        new.replace(self.registry_config_file)

    def _lay_down_keys(self) -> None:
        readers, writers = _group("sysreg-tls"), _group("sysreg")
        if not (self.tls / "current").exists():
            keys.write_tls(self.tls, group=readers)
        if not (self.root / "token" / "signing.key").exists():
            keys.write_signing(self.root / "token" / "signing.key", self.root / "token" / "signing.crt")
        self.state.mkdir(exist_ok=True)
        os.chown(self.state, 0, writers)
        self.state.chmod(0o770)
        write_lock = self.state / "write-fence"
        write_lock.touch()
        os.chown(write_lock, 0, writers)
        write_lock.chmod(0o660)

    def _write_settings(self) -> None:
        config = configparser.ConfigParser(interpolation=None)
        config.read_dict(
            {
                "registry": {
                    "host_names": keys.HOST_NAME,
                    "port": str(self.ports["registry"]),
                    "config": str(self.registry_config_file),
                    "storage": str(self.storage),
                    "metrics": f"127.0.0.1:{self.ports['debug']}",
                },
                "keystone": {"auth_url": self.auth_url},
                "token_server": {
                    "listen": self._listen,
                    "port": str(self.ports["token_server"]),
                    "signing_key": f"{self.root}/token/signing.key",
                    "signing_certificate": f"{self.root}/token/signing.crt",
                },
                "agent": {
                    "socket": str(self.agent_socket),
                    "listen": f"{self._listen}:{self.ports['agent']}",
                    "restart_command": self.supervisor.ctl("restart", "{unit}"),
                    "reload_command": self.supervisor.ctl("signal", "HUP", "{unit}"),
                },
                "certificate": {"directory": str(self.tls)},
                "paths": {"state": str(self.state), "containerd_trust": f"{self.root}/containerd/certs.d"},
            }
        )
        if not self.netns:  # the host's own trust is not ours to change
            config["paths"]["system_trust"] = f"{self.root}/ca-certificates"
            config["paths"]["system_trust_command"] = "true"
        for section, values in self._settings_changes.items():
            config[section].update(values)
        with self.settings.open("w") as file:
            config.write(file)

    def _write_registry_config(self) -> None:
        secret_file = self.root / "registry" / "http.secret"
        if not secret_file.exists():
            secret_file.touch(mode=0o600)
            secret_file.write_text(secrets.token_hex(32))
        config = registry.config(
            listen=f"{self._listen}:{self.ports['registry']}",
            debug=f"127.0.0.1:{self.ports['debug']}",
            service=self.address,
            realm=self.token_url,
            issuer="sysreg-token-server",
            storage=str(self.storage),
            tls=str(self.tls / "current"),
            signing_certificate=f"{self.root}/token/signing.crt",
            secret=secret_file.read_text(),
        )
        self.write_registry_config(registry.merged(config, self._registry_changes))
        self.storage.mkdir(exist_ok=True)
        owner = pwd.getpwnam(registry.USER)
        os.chown(self.storage, owner.pw_uid, owner.pw_gid)
        self.storage.chmod(0o755)


def _group(name: str) -> int:
    """The id of a system group, made if it is missing."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        subprocess.run(
            ["groupadd", "--system", name], check=True, stdin=subprocess.DEVNULL, capture_output=True
        )
        return grp.getgrnam(name).gr_gid
