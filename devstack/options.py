"""What a caller may choose about an embedded controller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from devstack import programs
from devstack.keystone import RunningKeystone

#: section -> key -> value
Sections = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Options:
    """The options of one embedded controller. The defaults are a whole controller on free ports."""

    #: keystone, registry, token_server, agent, debug, metrics, etcd -> fixed port
    ports: Mapping[str, int] = field(default_factory=dict)
    #: changes of sysreg.conf
    settings: Sections = field(default_factory=dict)
    #: changes of the registry's config.yml, at any depth. None removes a key.
    registry: Mapping[str, Any] = field(default_factory=dict)
    #: changes of keystone.conf, for a Keystone that only this controller uses
    keystone: Sections = field(default_factory=dict)
    #: a Keystone that runs already; the controller uses it and starts none
    running_keystone: RunningKeystone | None = None
    #: program -> additional environment variables
    environment: Sections = field(default_factory=dict)
    #: the programs to run
    programs: Sequence[str] = programs.ALL
    #: run in a network and mount namespace, on 198.51.100.10 and the usual ports
    netns: bool = False
    #: let ``Controller.set_clock`` move the time of Keystone, token server and agent
    fake_clock: bool = False
    #: workers beside the controller, with etcd: each in namespaces of its own
    hosts: int = 0
    #: keep running when the process that started it ends
    outlive: bool = False
