"""Install sysreg on a machine, give it a way to Keystone, and configure the controller."""

from __future__ import annotations

import json
import os
import shutil
from typing import Any

from devstack.keystone import RunningKeystone
from tests.controller import debian_root
from tests.controller.machine import ADDRESS, Machine
from tests.controller.wheels import wheels

#: Keystone's address inside a machine
KEYSTONE_PORT = 5000
AUTH_URL = f"http://127.0.0.1:{KEYSTONE_PORT}/v3"

# Keystone runs outside, once for many machines: it needs longer to start than they do. Inside runs a proxy.
_KEYSTONE_UNITS = {
    "keystone.socket": f"""\
[Socket]
ListenStream=127.0.0.1:{KEYSTONE_PORT}
[Install]
WantedBy=sockets.target
""",
    "keystone.service": """\
[Unit]
Description=Proxy to Keystone
[Service]
ExecStart=/lib/systemd/systemd-socket-proxyd /run/share/keystone.sock
""",
}


def connect(machine: Machine, keystone: RunningKeystone) -> None:
    """Give ``machine`` the socket of ``keystone`` and the users' passwords, before it boots."""
    Machine.wait_until(keystone.socket.exists, "Keystone listens", 120)
    os.link(keystone.socket, machine.share / "keystone.sock")
    shutil.copyfile(keystone.directory / "passwords.json", machine.share / "passwords.json")


def install_wheel(machine: Machine) -> None:
    """Install the wheel in /opt/sysreg as a user would, on a booted machine."""
    listen_for_keystone(machine)
    machine.shell(
        "rm -rf /etc/sysreg /var/lib/sysreg\n"  # what another program has left on this host
        "python3 -m venv /opt/sysreg\n"
        f"/opt/sysreg/bin/pip install --quiet --no-index --find-links {wheels()} sysreg-cli\n",
        timeout=300,
    )


def install_packages(machine: Machine) -> None:
    """Install the Debian packages, on a booted machine that has them."""
    listen_for_keystone(machine, now=True)
    apt(machine, "install", f"{debian_root.PACKAGES}/*.deb")


def apt(machine: Machine, *arguments: str, **options: Any) -> str:
    """Run apt-get, which asks nothing. A file may be a pattern. Returns its output."""
    words = " ".join(("apt-get -q -y --no-install-recommends", *arguments))
    environ = {"DEBIAN_FRONTEND": "noninteractive"}
    done = machine.run("sh", "-c", f"{words} 2>&1", environ=environ, timeout=300, **options)
    return done.stdout


def listen_for_keystone(machine: Machine, *, now: bool = False) -> None:
    """Give a booted machine the proxy to Keystone, from its next boot on, or from ``now`` on.

    Now: before apt starts the registry of Debian's package, which takes the same port.
    """
    for name, text in _KEYSTONE_UNITS.items():
        machine.file(f"/etc/systemd/system/{name}").write_text(text)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "enable", "--quiet", *(["--now"] if now else []), "keystone.socket")


def passwords(machine: Machine) -> dict[str, str]:
    """User name -> password in Keystone."""
    passwords: dict[str, str] = json.loads((machine.share / "passwords.json").read_text())
    return passwords


def openrc(machine: Machine, user: str, project: str) -> dict[str, str]:
    """The OS_* variables of a user, as openrc exports them."""
    return {
        "OS_USERNAME": user,
        "OS_PASSWORD": passwords(machine)[user],
        "OS_PROJECT_NAME": project,
        "OS_AUTH_URL": AUTH_URL,
        "OS_REGION_NAME": "RegionOne",
        "OS_USER_DOMAIN_NAME": "Default",
        "OS_PROJECT_DOMAIN_NAME": "Default",
        "OS_INTERFACE": "internal",
    }


def configure(machine: Machine, *, registry: str = "", extra: str = "") -> None:
    """Write the settings that every controller needs. ``registry`` are more lines of section [registry]."""
    path = machine.file("/etc/sysreg/sysreg.conf")
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        f"[registry]\nhost_names = registry.local {ADDRESS}\n{registry}\n"
        f"[keystone]\nauth_url = {AUTH_URL}\n{extra}"
    )
    path.chmod(0o644)


def why_not_served(machine: Machine, user: str = "testuser") -> str:
    """Why ``system`` can't list tags. Empty if it can: then registry, token server and Keystone work."""
    command = ["system", "--timeout", "15", "registry-image-tags", f"{user}/nothing"]
    done = machine.run(*command, environ=openrc(machine, user, "tenant1"), status=None)
    return done.stderr or "no reason" if done.returncode else ""


def serves(machine: Machine, user: str = "testuser") -> bool:
    """Whether registry, token server and Keystone work."""
    return not why_not_served(machine, user)


def wait_until_served(machine: Machine, seconds: float = 120) -> None:
    """Wait until ``serves``. Raises AssertionError with the reason."""
    try:
        machine.wait_until(lambda: serves(machine), "a user is served", seconds)
    except AssertionError as error:
        journal = machine.journal("sysreg-token-server.service")
        raise AssertionError(f"{error}: {why_not_served(machine)}\n{journal[-3000:]}") from None
