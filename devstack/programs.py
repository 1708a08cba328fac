"""The names of an embedded controller's programs: those of the units on a real controller."""

from __future__ import annotations

REGISTRY = "docker-registry.service"
TOKEN_SERVER = "sysreg-token-server.service"
AGENT = "sysreg-agent.service"
KEYSTONE = "keystone.service"
ETCD = "sysreg-etcd.service"
#: those of a controller without other hosts
ALL = (KEYSTONE, REGISTRY, TOKEN_SERVER, AGENT)

#: the user of docker-registry; Debian's package makes it
REGISTRY_USER = "docker-registry"
