"""The processes of an embedded controller, named as their units are on a real one."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from devstack import keystone, registry
from devstack.site import Site
from devstack.supervisor import MARK, Program

REGISTRY = "docker-registry.service"
TOKEN_SERVER = "sysreg-token-server.service"
AGENT = "sysreg-agent.service"
KEYSTONE = "keystone.service"

#: where our console scripts are
BIN = Path(sys.executable).parent
_AS_REGISTRY = ("setpriv", "--reuid", registry.USER, "--regid", registry.USER, "--groups", "sysreg-tls", "--")


def describe(
    site: Site, environment: Mapping[str, Mapping[str, str]], *, fake_clock: bool
) -> Iterator[Program]:
    """All of them; ``environment``: program -> variables laid over its environment.

    ``fake_clock``: Keystone and our daemons read the clock that ``<root>/clock`` sets.
    """
    clock = {}
    if fake_clock:
        libraries = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
        clock = {
            "LD_PRELOAD": str(next(libraries)),
            "FAKETIME_TIMESTAMP_FILE": str(site.root / "clock"),
            "FAKETIME_NO_CACHE": "1",
        }
    base = {MARK: str(site.root)}
    home = site.root / "keystone"
    yield Program(
        KEYSTONE,
        keystone.command(),
        home,
        {**base, **keystone.environment(home), **clock, **environment.get(KEYSTONE, {})},
        stop_signal="QUIT",  # gunicorn's quick one; with TERM it waits for idle connections
    )
    yield Program(
        REGISTRY,
        [*_AS_REGISTRY, "docker-registry", "serve", str(site.registry_config_file)],
        site.root,
        {**base, **environment.get(REGISTRY, {})},
    )
    for name, script in ((TOKEN_SERVER, "sysreg-token-server"), (AGENT, "sysreg-agent")):
        yield Program(
            name,
            [str(BIN / script)],
            site.root,
            {**base, "SYSREG_CONF": str(site.settings), **clock, **environment.get(name, {})},
        )
