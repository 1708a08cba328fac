"""A clock and a PKI for the unit tests of pki."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from sysreg_cli.errors import CertificateRefused
from sysreg_cli.pki.check import ServerChain, check_server
from tests import certificates as make

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="session")
def root() -> make.Issued:
    return make.authority("Root")


@pytest.fixture(scope="session")
def intermediate(root: make.Issued) -> make.Issued:
    return make.authority("Intermediate", root)


def accepted(
    data: bytes,
    hosts: Sequence[str] = (make.HOST,),
    passphrase: bytes | None = None,
    now: datetime = NOW,
) -> ServerChain:
    return check_server(data, passphrase=passphrase, host_names=hosts, now=now)


def refused(
    data: bytes,
    hosts: Sequence[str] = (make.HOST,),
    passphrase: bytes | None = None,
    now: datetime = NOW,
) -> tuple[str, ...]:
    """Every reason against ``data``."""
    with pytest.raises(CertificateRefused) as caught:
        accepted(data, hosts, passphrase, now)
    assert caught.value.problems
    assert str(caught.value).isprintable()
    return caught.value.problems


def only(problems: Sequence[str], reason: str) -> None:
    """Assert that there is exactly one problem, and that it contains ``reason``."""
    assert len(problems) == 1, problems
    assert reason in problems[0]
