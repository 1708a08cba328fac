"""How a real Keystone, which has a virtual environment of its own, is configured and started."""

from __future__ import annotations

import configparser
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import requests

from devstack.waiting import wait_until

CHECKOUT = Path(__file__).resolve().parent.parent
VENV = CHECKOUT / ".venv-keystone"
REGION = "RegionOne"

# The path of the application stands here, so that gunicorn needs no argument: oslo.config reads sys.argv in
# its workers, and they would crash in a loop while the port accepts.
_GUNICORN = """\
wsgi_app = "application:application"
bind = {bind}
workers = 1
threads = 8
worker_class = "gthread"
control_socket_disable = True
accesslog = "{directory}/access.log"
"""
# Nobody here uses SAML. To load its XML schemas takes a third of Keystone's start.
_APPLICATION = """\
import sys
import types

schema = types.ModuleType("saml2.xml.schema")
schema.XMLSchemaError = type("XMLSchemaError", (Exception,), {})
schema.validate = None
sys.modules[schema.__name__] = schema

from keystone.wsgi.api import application
"""


def write_config(
    directory: Path,
    port: int,
    changes: Mapping[str, Mapping[str, str]] | None = None,
    *,
    socket: Path | None = None,
) -> None:
    """Write keystone.conf and what gunicorn reads into ``directory``.

    ``changes`` are those of keystone.conf, section -> key -> value. Keystone listens on ``port`` of the
    loopback address, and on ``socket``, a unix socket.
    """
    config = configparser.ConfigParser(interpolation=None)
    config.read_dict(
        {
            "database": {"connection": f"sqlite:///{directory}/keystone.db"},
            "fernet_tokens": {"key_repository": f"{directory}/fernet-keys"},
            "credential": {"key_repository": f"{directory}/credential-keys"},
            "identity": {"password_hash_rounds": "4"},  # the cheapest: a login should not cost a core
            "token": {"provider": "fernet"},
        }
    )
    config.read_dict(changes or {})
    with (directory / "keystone.conf").open("w") as file:
        config.write(file)
    bind = [f"127.0.0.1:{port}", *([f"unix:{socket}"] if socket else [])]
    (directory / "gunicorn.conf.py").write_text(_GUNICORN.format(bind=bind, directory=directory))
    (directory / "application.py").write_text(_APPLICATION)


def command() -> list[str]:
    """The command line of Keystone, to run with ``environment()`` in Keystone's directory."""
    return [str(VENV / "bin" / "gunicorn")]


def environment(directory: Path) -> dict[str, str]:
    """The environment of a Keystone in ``directory``."""
    return {
        "OS_KEYSTONE_CONFIG_FILES": f"{directory}/keystone.conf",
        "OS_KEYSTONE_CONFIG_DIR": str(directory),
        "EVENTLET_NO_GREENDNS": "yes",  # another tenth of its start
    }


def auth_url(port: int) -> str:
    """The OS_AUTH_URL of a Keystone on ``port``."""
    return f"http://127.0.0.1:{port}/v3"


def start(directory: Path) -> subprocess.Popen[bytes]:
    """Start the Keystone in ``directory``. It dies with this process; its output goes to ``log``."""
    with (directory / "log").open("ab") as log:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *command()],
            cwd=directory,
            env={"PATH": os.environ["PATH"], **environment(directory)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def wait_ready(url: str) -> None:
    """Wait until the Keystone with OS_AUTH_URL ``url`` answers. Raises NotInTime."""
    wait_until(lambda: requests.get(url, timeout=5).ok, 180, what="Keystone answers")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop what ``start`` started."""
    process.send_signal(signal.SIGQUIT)  # with SIGTERM gunicorn waits for idle connections
    process.wait(timeout=30)
