"""A real Keystone (PyPI, in a virtual environment of its own) on SQLite, under gunicorn.

Bootstrapping takes some 15 s, so it is done once: the result, a template directory with the database, the key
repositories and the users' passwords, is copied for every controller.
"""

from __future__ import annotations

import configparser
import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import requests

from devstack.errors import DevstackError
from devstack.ports import free_ports
from devstack.users import ALL_NAMES, OTHER_DOMAIN, PROJECTS, USERS
from devstack.waiting import wait_until

CHECKOUT = Path(__file__).resolve().parent.parent
VENV = CHECKOUT / ".venv-keystone"
CACHE = CHECKOUT / ".run" / "cache"
REGION = "RegionOne"

# A path first, so that gunicorn gets no argument at all: oslo.config reads sys.argv in its workers, and they
# would crash in a loop while the port accepts.
_GUNICORN = """\
wsgi_app = "keystone.wsgi.api:application"
bind = "127.0.0.1:{port}"
workers = 1
threads = 8
worker_class = "gthread"
control_socket_disable = True
accesslog = "{directory}/access.log"
"""


def write_config(directory: Path, port: int, changes: Mapping[str, Mapping[str, str]] | None = None) -> None:
    """keystone.conf and gunicorn.conf.py in ``directory``; ``changes`` is section -> key -> value."""
    config = configparser.ConfigParser(interpolation=None)
    config.read_dict(
        {
            "database": {"connection": f"sqlite:///{directory}/keystone.db"},
            "fernet_tokens": {"key_repository": f"{directory}/fernet-keys"},
            "credential": {"key_repository": f"{directory}/credential-keys"},
            # bcrypt's cheapest: the embedded Keystone should not spend the machine's two cores on it
            "identity": {"password_hash_rounds": "4"},
            "token": {"provider": "fernet"},
        }
    )
    for section, values in (changes or {}).items():
        if not config.has_section(section):
            config.add_section(section)
        config[section].update(values)
    with (directory / "keystone.conf").open("w") as file:
        config.write(file)
    (directory / "gunicorn.conf.py").write_text(_GUNICORN.format(port=port, directory=directory))


def command() -> list[str]:
    """How Keystone is started, with ``environment()``, in its directory."""
    return [str(VENV / "bin" / "gunicorn")]


def environment(directory: Path) -> dict[str, str]:
    return {
        "OS_KEYSTONE_CONFIG_FILES": f"{directory}/keystone.conf",
        "OS_KEYSTONE_CONFIG_DIR": str(directory),
    }


def lay_down(
    directory: Path, port: int, changes: Mapping[str, Mapping[str, str]] | None = None
) -> dict[str, str]:
    """Make ``directory`` a bootstrapped Keystone for ``port``; an existing database stays.

    Returns user name -> password.
    """
    if not (directory / "passwords.json").exists():
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(_template(), directory)
    with contextlib.closing(sqlite3.connect(directory / "keystone.db")) as database, database:
        database.execute("UPDATE endpoint SET url = ?", (f"http://127.0.0.1:{port}/v3",))
    write_config(directory, port, changes)
    passwords: dict[str, str] = json.loads((directory / "passwords.json").read_text())
    return passwords


def _template() -> Path:
    """The bootstrapped Keystone to copy, made by the first caller; others wait for it."""
    if not (VENV / "bin" / "keystone-manage").exists():
        raise DevstackError(f"{VENV} has no Keystone: run `make prepare`")
    here = Path(__file__)
    versions = sorted(path.name for path in VENV.glob("lib/python3*/site-packages/keystone-*.dist-info"))
    sources = here.read_bytes() + here.with_name("users.py").read_bytes() + repr(versions).encode()
    template = CACHE / f"keystone-{hashlib.sha256(sources).hexdigest()[:12]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not template.exists():
            for old in CACHE.glob("keystone-*"):
                shutil.rmtree(old)
            building = Path(tempfile.mkdtemp(prefix="building-", dir=CACHE))
            try:
                _build(building)
                building.rename(template)
            finally:
                shutil.rmtree(building, ignore_errors=True)
    return template


def _build(directory: Path) -> None:
    (port,) = free_ports(1)
    passwords = {name: f"pw-{secrets.token_hex(12)}" for name in (*ALL_NAMES, f"admin@{OTHER_DOMAIN}")}
    write_config(directory, port)
    _manage(directory, "db_sync")
    _manage(directory, "fernet_setup", "--keystone-user", "root", "--keystone-group", "root")
    _manage(directory, "credential_setup", "--keystone-user", "root", "--keystone-group", "root")
    url = f"http://127.0.0.1:{port}/v3"
    _manage(
        directory,
        "bootstrap",
        *("--bootstrap-region-id", REGION),
        *("--bootstrap-admin-url", url, "--bootstrap-internal-url", url, "--bootstrap-public-url", url),
        password=passwords["admin"],
    )
    with _running(directory, url):
        _make_users(url, passwords)
    (directory / "passwords.json").touch(mode=0o600)
    (directory / "passwords.json").write_text(json.dumps(passwords))
    (directory / "access.log").unlink(missing_ok=True)


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


@contextlib.contextmanager
def _running(directory: Path, url: str) -> Iterator[None]:
    with (directory / "build.log").open("w") as log:
        process = subprocess.Popen(
            command(),
            cwd=directory,
            env={"PATH": os.environ["PATH"], **environment(directory)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: requests.get(url, timeout=5).ok, 180, what="Keystone answers")
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def _make_users(url: str, passwords: Mapping[str, str]) -> None:
    http = requests.Session()
    http.trust_env = False

    def call(method: str, path: str, body: dict[str, Any] | None = None) -> requests.Response:
        answer = http.request(method, url + path, json=body, timeout=60)
        if not answer.ok:
            raise DevstackError(f"Keystone: {method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer

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
        made = call("POST", "/users", {"user": body}).json()["user"]["id"]
        call("PUT", f"/projects/{projects[user.project]}/users/{made}/roles/{roles[user.role]}")
    domain = call("POST", "/domains", {"domain": {"name": OTHER_DOMAIN}}).json()["domain"]["id"]
    stranger = {"name": "admin", "password": passwords[f"admin@{OTHER_DOMAIN}"], "domain_id": domain}
    call("POST", "/users", {"user": stranger})
