"""What controller tests start from: a disk with our wheel in /opt/sysreg, nothing deployed, and a Keystone.

What takes time is done once: the wheels are built and fetched on the host, since machines have no network.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from zipfile import ZipFile

from devstack.keystone import RunningKeystone
from tests.controller.machine import ADDRESS, Machine

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = CHECKOUT / ".run" / "cache" / "wheels"
#: where the machines' Keystone is, as one of them reaches it
KEYSTONE_PORT = 5000
AUTH_URL = f"http://127.0.0.1:{KEYSTONE_PORT}/v3"

# Keystone runs outside, once for many machines: it needs longer to start than they do. Inside is a proxy.
_KEYSTONE_UNITS = {
    "keystone.socket": f"""\
[Socket]
ListenStream=127.0.0.1:{KEYSTONE_PORT}
[Install]
WantedBy=sockets.target
""",
    "keystone.service": """\
[Unit]
Description=The way to Keystone
[Service]
ExecStart=/lib/systemd/systemd-socket-proxyd /run/share/keystone.sock
""",
}


def wheels() -> Path:
    """A directory with our wheel, built from this checkout, and all that it requires."""
    sources = [
        CHECKOUT / name for name in ("setup.cfg", "setup.py", "pyproject.toml", "README.rst", "LICENSE")
    ]
    trees = [CHECKOUT / "sysreg_cli", CHECKOUT / "etc", CHECKOUT / "man"]
    files = [path for path in sources if path.exists()]
    files += sorted(path for tree in trees for path in tree.rglob("*") if _is_source(path))
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(CHECKOUT)} {path.stat().st_mode}".encode() + path.read_bytes())
    done = CACHE / digest.hexdigest()[:16]
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes start at once
        if not done.exists():
            for old in CACHE.iterdir():
                # younger ones may be in use by a run that began before the last edit
                if old.is_dir() and time.time() - old.stat().st_mtime > 3600:
                    shutil.rmtree(old)
            building = Path(tempfile.mkdtemp(prefix="building-", dir=CACHE))
            _build(files, building)
            building.rename(done)
    return done


def changed_wheel(directory: Path, module: str) -> Path:
    """Write a wheel of the same version to ``directory`` in which ``module``, a path, has one more line."""
    (wheel,) = wheels().glob("sysreg_cli-*.whl")
    changed = directory / wheel.name
    with ZipFile(wheel) as old, ZipFile(changed, "w") as new:
        assert module in old.namelist()
        for entry in old.infolist():
            new.writestr(entry, old.read(entry) + (b"# changed\n" if entry.filename == module else b""))
    return changed


def _build(files: list[Path], directory: Path) -> None:
    """Build the wheel from a copy of the sources: setuptools leaves its traces beside them."""
    copy = directory / "source"
    for path in files:
        target = copy / path.relative_to(CHECKOUT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    build = [sys.executable, "-m", "pip", "wheel", "-qq", "--wheel-dir", str(directory), str(copy)]
    subprocess.run(build, check=True, timeout=600, stdout=subprocess.DEVNULL)
    shutil.rmtree(copy)


def _is_source(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"


def connect(machine: Machine, keystone: RunningKeystone) -> None:
    """Give ``machine`` its way to ``keystone``, and the users' passwords, before it boots."""
    Machine.wait_until(keystone.socket.exists, "Keystone listens", 120)
    os.link(keystone.socket, machine.share / "keystone.sock")
    shutil.copyfile(keystone.directory / "passwords.json", machine.share / "passwords.json")


def furnish(machine: Machine) -> None:
    """Install the wheel as a user would, and the way to Keystone, on a booted machine."""
    found = wheels()
    machine.shell(
        "python3 -m venv /opt/sysreg\n"
        f"/opt/sysreg/bin/pip install --quiet --no-index --find-links {found} sysreg-cli\n",
        timeout=300,
    )
    for name, text in _KEYSTONE_UNITS.items():
        machine.file(f"/etc/systemd/system/{name}").write_text(text)
    machine.run("systemctl", "enable", "--quiet", "keystone.socket")


def passwords(machine: Machine) -> dict[str, str]:
    """User name -> password in Keystone."""
    found: dict[str, str] = json.loads((machine.share / "passwords.json").read_text())
    return found


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
    """Write the settings that this controller can't do without; ``registry``: more keys of [registry]."""
    path = machine.file("/etc/sysreg/sysreg.conf")
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        f"[registry]\nhost_names = registry.local {ADDRESS}\n{registry}\n"
        f"[keystone]\nauth_url = {AUTH_URL}\n{extra}"
    )
    path.chmod(0o644)


def why_not_served(machine: Machine, user: str = "testuser") -> str:
    """Why ``system`` can't list tags now, empty if it can: then registry, token server and Keystone work."""
    asked = ["system", "--timeout", "15", "registry-image-tags", f"{user}/nothing"]
    done = machine.run(*asked, environ=openrc(machine, user, "tenant1"), status=None)
    return done.stderr or "no reason" if done.returncode else ""


def serves(machine: Machine, user: str = "testuser") -> bool:
    """Whether a user is served now."""
    return not why_not_served(machine, user)


def wait_until_served(machine: Machine, seconds: float = 120) -> None:
    """Wait until a user is served; raises AssertionError with the reason."""
    try:
        machine.wait_until(lambda: serves(machine), "a user is served", seconds)
    except AssertionError as error:
        journal = machine.journal("sysreg-token-server.service")
        raise AssertionError(f"{error}: {why_not_served(machine)}\n{journal[-3000:]}") from None
