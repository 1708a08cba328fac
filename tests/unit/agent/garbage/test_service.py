"""One collection at a time, and what a new agent does about a collection that a killed agent left."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from sysreg_cli.agent.garbage import edits
from sysreg_cli.agent.garbage.records import History, RunningCollection
from sysreg_cli.agent.garbage.service import CollectionService
from sysreg_cli.agent.storage import layout
from sysreg_cli.errors import Conflict, NotFound
from sysreg_cli.settings import AgentSettings, PathSettings, RegistrySettings, Settings
from sysreg_cli.tokens.write_lock import WriteLock
from sysreg_cli.v1 import wire
from sysreg_cli.v1.collections import CollectionOptions, CollectionResult, Outcome, Phase, State
from tests.unit.agent.storage.builder import Storage

DIGEST = "sha256:" + "0" * 64


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a registry that caches descriptors, and whose restart creates the file ``restarted``."""
    Storage(tmp_path / "storage")
    config = tmp_path / "config.yml"
    storage = f"{{rootdirectory: {tmp_path}/storage}}"
    config.write_text(f"storage: {{filesystem: {storage}, cache: {{blobdescriptor: inmemory}}}}\n")
    (tmp_path / "state").mkdir()
    return Settings(
        registry=RegistrySettings(config=config),
        agent=AgentSettings(restart_command=f"touch {tmp_path}/restarted"),
        paths=PathSettings(state=tmp_path / "state"),
    )


def interrupt(settings: Settings, phase: str, **options: Any) -> None:
    """Leave what an agent leaves that is killed in ``phase``."""
    directory = settings.paths.state / "garbage"
    history = History.load(directory)
    history.running = RunningCollection("1", CollectionOptions(**options), "then", phase=phase)
    history.save(directory)
    edits.write_pin(settings.registry.config.parent / "storage", {DIGEST: 5})


@pytest.mark.parametrize("phase", [*Phase, "a phase of a later version"])
def test_a_collection_of_a_killed_agent_is_cleaned_up_when_that_is_asked_for(
    settings: Settings, tmp_path: Path, phase: str
) -> None:
    interrupt(settings, phase)
    pins = tmp_path / "storage/docker/registry/v2/repositories" / layout.PIN_REPOSITORY
    service = CollectionService(settings)
    assert pins.exists(), "not before"
    service.recover()
    assert not pins.exists()
    # Only reading goes on in these phases, so the cache of the registry is right.
    reads = phase in (Phase.SCAN, Phase.DRAIN, Phase.MARK, Phase.VERIFY)
    assert (tmp_path / "restarted").exists() == (not reads)
    status = service.status(names=True)
    assert status.state == State.IDLE
    assert status.last_result is not None
    assert (status.last_result.id, status.last_result.outcome) == ("1", Outcome.INTERRUPTED)
    assert f"ended in the phase {phase};" in status.last_result.error
    assert CollectionService(settings).status(names=True).last_result == status.last_result


def test_after_a_dry_run_of_a_killed_agent_the_registry_is_not_restarted(
    settings: Settings, tmp_path: Path
) -> None:
    interrupt(settings, Phase.SWEEP, dry_run=True)
    CollectionService(settings).recover()
    assert not (tmp_path / "restarted").exists()


def test_while_the_collector_of_a_killed_agent_runs_nothing_else_starts(settings: Settings) -> None:
    interrupt(settings, Phase.SWEEP)
    service = CollectionService(settings)
    with WriteLock(settings.paths.state).hold():
        service.recover()
        status = service.status(names=True)
        assert (status.state, status.phase, status.id) == (State.RUNNING, Phase.RECOVER, "1")
        with pytest.raises(Conflict):
            service.start(CollectionOptions())
    service.wait()
    assert service.status(names=True).state == State.IDLE


def test_the_status_on_the_wire_has_every_key_in_any_state(settings: Settings) -> None:
    service = CollectionService(settings)
    document = wire.to_json(service.status(names=True, plan=True))
    assert document == {
        "state": "idle",
        "id": "",
        "started": "",
        "options": None,
        "phase": "",
        "progress": 1.0,
        "detail": "",
        "last_result": None,
        "results": [],
        "plan": None,
    }
    with pytest.raises(NotFound):
        service.cancel()


def test_a_dry_run_shows_its_plan_to_those_who_may_see_names(settings: Settings, tmp_path: Path) -> None:
    storage = Storage(tmp_path / "storage")
    storage.delete("gone", storage.image("gone", "1", layers=(b"layer",)))
    storage.image("torn", "1", layers=(b"lost",))
    storage.lose(storage.blob(b"lost"))
    service = CollectionService(settings)
    identifier = service.start(CollectionOptions(dry_run=True))
    service.wait()
    status = service.status(names=True, plan=True)
    assert status.plan is not None
    assert status.plan.repositories == ("gone",)
    assert {blob.digest for blob in status.plan.blobs} <= storage.all_blobs()
    (result,) = status.results
    assert (result.id, result.outcome, len(result.warnings)) == (identifier, Outcome.DONE, 1)
    hidden = service.status(names=False, plan=True)
    assert hidden.plan is None
    assert hidden.results == (wire.from_json(CollectionResult, {**wire.to_json(result), "warnings": []}, ""),)


def test_when_a_collection_has_ended_the_next_one_starts(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """A script starts one after the other. The thread of the first still writes its line of the log."""
    ended, go_on = threading.Event(), threading.Event()

    class Wait(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            if record.getMessage().startswith("garbage collection") and not ended.is_set():
                ended.set()
                assert go_on.wait(30)
            return True

    caplog.set_level(logging.INFO)
    log = logging.getLogger("sysreg.agent")
    service, hold = CollectionService(settings), Wait()
    log.addFilter(hold)
    try:
        service.start(CollectionOptions(dry_run=True))
        assert ended.wait(30)
        assert service.status(names=False).state == State.IDLE
        second = service.start(CollectionOptions(dry_run=True))
    finally:
        go_on.set()
        log.removeFilter(hold)
    service.wait()
    assert service.status(names=False).results[0].id == second
