"""The template of every Keystone: a database with users and roles, the key repositories, and the passwords.

To bootstrap a Keystone takes some 15 s. So it is done once, and the result is copied.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

from devstack import keystone_server, users
from devstack.errors import DevstackError
from devstack.keystone_server import CHECKOUT, REGION, VENV, auth_url, write_config
from devstack.ports import free_ports
from devstack.users import ALL_NAMES, OTHER_DOMAIN, PROJECTS, USERS

_CACHE = CHECKOUT / ".run" / "cache"


def get() -> Path:
    """The directory of a bootstrapped Keystone, to be copied. The first caller makes it; others wait for it.

    Raises DevstackError.
    """
    if not (VENV / "bin" / "keystone-manage").exists():
        raise DevstackError(f"{VENV} has no Keystone: run `make prepare`")
    template = _CACHE / f"keystone-{_fingerprint()}"
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not template.exists():
            for old in _CACHE.glob("keystone-*"):
                shutil.rmtree(old)
            building = Path(tempfile.mkdtemp(prefix="building-", dir=_CACHE))
            try:
                _build(building)
                building.rename(template)
            finally:
                shutil.rmtree(building, ignore_errors=True)
    return template


def _fingerprint() -> str:
    """Changes whenever a template built before is no longer what would be built now."""
    sources = [Path(file) for file in (__file__, keystone_server.__file__, users.__file__)]
    versions = sorted(path.name for path in VENV.glob("lib/python3*/site-packages/keystone-*.dist-info"))
    digest = hashlib.sha256(repr(versions).encode())
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]


def _build(directory: Path) -> None:
    (port,) = free_ports(1)
    passwords = {name: f"pw-{secrets.token_hex(12)}" for name in (*ALL_NAMES, f"admin@{OTHER_DOMAIN}")}
    write_config(directory, port)
    _manage(directory, "db_sync")
    _manage(directory, "fernet_setup", "--keystone-user", "root", "--keystone-group", "root")
    _manage(directory, "credential_setup", "--keystone-user", "root", "--keystone-group", "root")
    url = auth_url(port)
    _manage(
        directory,
        "bootstrap",
        *("--bootstrap-region-id", REGION),
        *("--bootstrap-admin-url", url, "--bootstrap-internal-url", url, "--bootstrap-public-url", url),
        password=passwords["admin"],
    )
    process = keystone_server.start(directory)
    try:
        keystone_server.wait_ready(url)
        _make_users(url, passwords)
    finally:
        keystone_server.stop(process)
    (directory / "passwords.json").touch(mode=0o600)
    (directory / "passwords.json").write_text(json.dumps(passwords))
    for log in ("access.log", "log"):
        (directory / log).unlink()


def _manage(directory: Path, *arguments: str, password: str = "") -> None:
    done = subprocess.run(
        [
            str(VENV / "bin" / "keystone-manage"),
            "--config-file",
            str(directory / "keystone.conf"),
            *arguments,
        ],
        env={"PATH": os.environ["PATH"], "OS_BOOTSTRAP_PASSWORD": password},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode:
        raise DevstackError(f"keystone-manage {arguments[0]} failed: {done.stderr.strip()[-1000:]}")


def _make_users(url: str, passwords: Mapping[str, str]) -> None:
    http = requests.Session()
    http.trust_env = False

    def call(method: str, path: str, body: dict[str, Any] | None = None) -> requests.Response:
        response = http.request(method, url + path, json=body, timeout=60)
        if not response.ok:
            raise DevstackError(f"Keystone: {method} {path}: {response.status_code} {response.text[:300]}")
        return response

    identity = {
        "methods": ["password"],
        "password": {
            "user": {"name": "admin", "domain": {"id": "default"}, "password": passwords["admin"]},
        },
    }
    scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
    token = call("POST", "/auth/tokens", {"auth": {"identity": identity, "scope": scope}})
    http.headers["X-Auth-Token"] = token.headers["X-Subject-Token"]

    for name in PROJECTS:
        call("POST", "/projects", {"project": {"name": name, "domain_id": "default"}})
    call("POST", "/roles", {"role": {"name": "operator"}})
    projects = {entry["name"]: entry["id"] for entry in call("GET", "/projects").json()["projects"]}
    roles = {entry["name"]: entry["id"] for entry in call("GET", "/roles").json()["roles"]}
    for user in USERS:
        body = {"name": user.name, "password": passwords[user.name], "domain_id": "default"}
        user_id = call("POST", "/users", {"user": body}).json()["user"]["id"]
        call("PUT", f"/projects/{projects[user.project]}/users/{user_id}/roles/{roles[user.role]}")
    domain = call("POST", "/domains", {"domain": {"name": OTHER_DOMAIN}}).json()["domain"]["id"]
    stranger = {"name": "admin", "password": passwords[f"admin@{OTHER_DOMAIN}"], "domain_id": domain}
    call("POST", "/users", {"user": stranger})
