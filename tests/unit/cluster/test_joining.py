"""The join file and the exchange: good once, for one host, for an hour; nobody else reads the password."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysreg_cli.cluster.joining import Asker, Invitation, JoinRequest, read_invitation, seal, write_invitation
from sysreg_cli.errors import ProtocolError, UsageError

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
INVITATION = Invitation(
    host="worker-1",
    role="worker",
    expires_at=(NOW + timedelta(hours=1)).isoformat(),
    endpoints=("192.0.2.1:2479",),
    host_names=("registry.local",),
    port=9001,
    address="192.0.2.1",
    ca="ca",
    certificate="certificate",
    key="key",
    password="password",
)
FILE = write_invitation(INVITATION).encode()


def test_a_join_file_is_read_as_it_was_written() -> None:
    assert read_invitation(FILE, NOW) == INVITATION


def test_its_secrets_are_in_no_representation() -> None:
    assert "password='" not in repr(INVITATION)
    assert "key='" not in repr(INVITATION)


@pytest.mark.parametrize("now", [NOW + timedelta(hours=1), NOW + timedelta(days=400)])
def test_after_an_hour_it_is_useless_and_the_clock_is_named(now: datetime) -> None:
    with pytest.raises(UsageError, match=r"expired at 2026-11-27 13:00.*the clock of this host says"):
        read_invitation(FILE, now)


@given(st.integers(0, len(FILE) - 1), st.integers(0, 255))
def test_a_damaged_one_is_refused(place: int, byte: int) -> None:
    damaged = FILE[:place] + bytes([byte]) + FILE[place + 1 :]
    try:
        assert read_invitation(damaged, NOW) == INVITATION  # white space, for example
    except UsageError as error:
        assert "join file" in str(error)


@given(st.binary() | st.recursive(st.none(), st.lists).map(lambda it: json.dumps(it).encode()))
def test_what_is_no_join_file_is_refused(data: bytes) -> None:
    with pytest.raises(UsageError, match="damaged, or is none"):
        read_invitation(data, NOW)


def test_a_file_of_another_format_is_named() -> None:
    other = write_invitation(dataclasses.replace(INVITATION, format=2)).encode()
    with pytest.raises(UsageError, match="another version"):
        read_invitation(other, NOW)


@given(st.text())
def test_the_password_reaches_who_asked(password: str) -> None:
    asker = Asker("worker-1")
    assert asker.open(seal("worker-1", asker.request, password, "now")) == password


def test_nobody_else_reads_it() -> None:
    asker, other = Asker("worker-1"), Asker("worker-1")
    answer = seal("worker-1", asker.request, "secret", "now")
    assert "secret" not in repr(answer)
    with pytest.raises(ProtocolError, match="not for this host"):
        other.open(answer)
    elsewhere = seal("worker-2", asker.request, "secret", "now")
    with pytest.raises(ProtocolError):
        asker.open(elsewhere)


@pytest.mark.parametrize("key", ["", "zz", "00" * 31, "00" * 32])
def test_a_request_without_a_key_is_refused(key: str) -> None:
    with pytest.raises(ProtocolError, match="has no public key"):
        seal("worker-1", JoinRequest(key), "secret", "now")
