"""The checks of what the agent tells or does, with an agent that answers what each test needs."""

from __future__ import annotations

import fcntl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sysreg_cli.errors import (
    Conflict,
    CredentialsMissing,
    NotAuthorized,
    SysregError,
    TooManyRequests,
    Unavailable,
)
from sysreg_cli.health import agent_work
from sysreg_cli.health.readings import Readings
from sysreg_cli.health.results import Skipped, Status
from sysreg_cli.settings import PathSettings, Settings, TokenServerSettings
from sysreg_cli.v1.collections import CollectionOptions, CollectionResult, CollectionStatus, Outcome, State
from sysreg_cli.v1.health import BlobReading


def readings(agent: Any, settings: Settings = Settings(), *, deep: bool = False) -> Readings:  # noqa: B008
    made = Readings(settings, lambda: agent, deep=deep)
    made.is_root = True
    made.agent_calls = lambda: agent  # type: ignore[method-assign]
    return made


class Collections:
    def __init__(self, results: Sequence[CollectionResult], state: State = State.IDLE) -> None:
        self._status = CollectionStatus(state, results=tuple(results))

    def collection_status(self) -> CollectionStatus:
        return self._status


def result(outcome: Outcome, age: timedelta, *, dry_run: bool = False, error: str = "") -> CollectionResult:
    ended = (datetime.now(UTC) - age).isoformat()
    return CollectionResult(
        "1", CollectionOptions(dry_run=dry_run), outcome=outcome, ended=ended, error=error
    )


HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("results", "status", "says"),
    [
        ([], Status.OK, "none has run yet"),
        ([result(Outcome.DONE, 50 * HOUR)], Status.OK, "2 days ago: done"),
        ([result(Outcome.FAILED, HOUR, dry_run=True)], Status.OK, "none has run yet"),
        (
            [result(Outcome.FAILED, 3 * HOUR, error="no rights")],
            Status.FAILED,
            "3 hours ago: failed (no rights)",
        ),
        ([result(Outcome.INTERRUPTED, HOUR), result(Outcome.DONE, 2 * HOUR)], Status.FAILED, "interrupted"),
        ([result(Outcome.CANCELLED, HOUR)], Status.WARNING, "1 hour ago: cancelled"),
    ],
)
def test_the_last_collection_that_was_no_dry_run_counts(
    results: Sequence[CollectionResult], status: Status, says: str
) -> None:
    found = agent_work.collection(readings(Collections(results)))
    assert found.status is status
    assert says in found.what
    if status is not Status.OK:
        assert found.detail.endswith(": system registry-garbage-collect")


def test_while_a_collection_runs_nobody_has_to_start_one() -> None:
    agent = Collections([result(Outcome.FAILED, HOUR)], State.RUNNING)
    assert agent_work.collection(readings(agent)).status is Status.WARNING


def test_what_the_agent_does_not_tell_this_caller_is_skipped() -> None:
    class Refusing:
        def collection_status(self) -> CollectionStatus:
            raise NotAuthorized("the role reader is needed")

    with pytest.raises(Skipped, match="the role reader is needed"):
        agent_work.collection(readings(Refusing()))


def test_many_damages_make_no_endless_cell_and_every_image_is_deleted() -> None:
    class Damaged:
        def read_blobs(self) -> BlobReading:
            images = tuple(f"app:{number:03}" for number in range(300))
            return BlobReading(900, 10**9, tuple(f"{image}: is damaged" for image in images), images)

    detail = agent_work.blobs(readings(Damaged(), deep=True)).detail
    assert "app:009: is damaged | and 290 more; " in detail
    assert detail.endswith("app:298 app:299 && system registry-garbage-collect")


def test_a_change_under_way_is_none_that_was_interrupted(tmp_path: Path) -> None:
    key = tmp_path / "signing.key"
    pair = TokenServerSettings(signing_key=key, signing_certificate=tmp_path / "signing.crt")
    settings = Settings(paths=PathSettings(state=tmp_path), token_server=pair)
    assert agent_work.changes(readings(None, settings)).status is Status.OK
    for name, command in (
        ("certificate-journal", "systemctl restart sysreg-agent.service"),
        ("authorities-journal", "systemctl restart sysreg-agent.service"),
        ("next.crt", "sysreg-deploy"),
        ("retired.crt", "sysreg-deploy"),
    ):
        (tmp_path / name).touch()
        assert agent_work.changes(readings(None, settings)).detail.endswith(f": {command}")
        with (tmp_path / "services.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lock.write("certificate install")
            lock.flush()
            found = agent_work.changes(readings(None, settings))
        assert (found.status, found.what) == (Status.OK, "certificate install is under way")
        (tmp_path / name).unlink()


def test_an_error_of_the_storage_is_a_failure_and_one_of_the_agent_is_not() -> None:
    class Failing:
        def __init__(self, error: SysregError) -> None:
            self._error = error

        def read_blobs(self) -> BlobReading:
            raise self._error

    found = agent_work.blobs(readings(Failing(SysregError("no rights", next_step="chown it")), deep=True))
    assert (found.status, found.detail) == (Status.FAILED, "no rights; chown it")
    for error in (
        Unavailable("down"),
        CredentialsMissing("none"),
        Conflict("another"),
        TooManyRequests("busy"),
    ):
        with pytest.raises(Skipped):
            agent_work.blobs(readings(Failing(error), deep=True))
