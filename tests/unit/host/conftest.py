"""Settings whose directories of trust are the test's own, and two CAs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sysreg_cli.settings import PathSettings, RegistrySettings, Settings
from tests import certificates as make

HOSTS = ("registry.local", "registry.central")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "state").mkdir()
    paths = PathSettings(
        state=tmp_path / "state",
        docker_trust=tmp_path / "docker",
        containerd_trust=tmp_path / "containerd",
        system_trust=tmp_path / "system",
        system_trust_command="true",
    )
    return Settings(registry=RegistrySettings(host_names=HOSTS, port=9443), paths=paths)


@pytest.fixture(scope="module")
def old() -> make.Issued:
    return make.authority("Old")


@pytest.fixture(scope="module")
def new() -> make.Issued:
    return make.authority("New")


@pytest.fixture
def strict_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)
