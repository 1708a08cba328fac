"""Runs one collection at a time, in a thread of the agent. A collection goes on when its client disconnects.

A new agent recovers from a collection that a killed agent left. The kernel has released the write lock then,
unless the collector of that agent still runs. Nothing else starts before that collector has ended.
"""

from __future__ import annotations

import logging
import secrets
import threading
from dataclasses import replace

from sysreg_cli.agent.garbage import collector, edits
from sysreg_cli.agent.garbage.collection import Collection
from sysreg_cli.agent.garbage.planning import SweepPlan
from sysreg_cli.agent.garbage.recorder import Progress, Recorder
from sysreg_cli.agent.garbage.records import History, RunningCollection
from sysreg_cli.agent.garbage.sweep import restart_registry
from sysreg_cli.errors import Conflict, NotFound, SysregError
from sysreg_cli.host import files
from sysreg_cli.host.registry_config import load as load_config
from sysreg_cli.settings import Settings
from sysreg_cli.tokens.write_lock import WriteLock, WriteLockHold
from sysreg_cli.v1.collections import (
    CollectionOptions,
    CollectionPlan,
    CollectionResult,
    CollectionStatus,
    Outcome,
    Phase,
    PlannedBlob,
    State,
    now,
)

log = logging.getLogger("sysreg.agent")

# In all other phases, also unknown ones of another version, the registry's cache may list deleted blobs.
_CACHE_IS_RIGHT = (Phase.SCAN, Phase.DRAIN, Phase.MARK, Phase.VERIFY)
_RECOVERING = Progress(Phase.RECOVER, 0.0, "the agent died; its collector still runs")


class CollectionService:
    """Starts, shows and ends collections. Methods may be called from any thread.

    Only ``stop``, ``wait`` and ``recover`` block. Raises OSError if the state directory can't be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._directory = settings.paths.state / "garbage"
        self._history = History.load(self._directory)
        self._collection: Collection | None = None
        self._thread: threading.Thread | None = None

    # -- calls -----------------------------------------------------------------------------------------

    def start(self, options: CollectionOptions) -> str:
        """Start a collection and return its id.

        Raises Conflict while one runs, SysregError if its start can't be recorded on disk.
        """
        with self._lock:
            if self._is_running:
                raise Conflict(
                    "a garbage collection is under way", next_step="see registry-garbage-collect --status"
                )
            result = CollectionResult(secrets.token_hex(8), options, now())
            self._history.running = RunningCollection(result.id, options, result.started)
            self._save_start()
            timeout = self._settings.agent.collect_timeout
            recorder = Recorder(result, timeout, on_change=self._record_change)
            self._collection = Collection(self._settings, recorder, self._directory)
            self._thread = threading.Thread(target=self._run, args=(self._collection,), name="garbage")
            self._thread.start()
            return result.id

    def _save_start(self) -> None:
        try:
            self._history.save(self._directory)
        except OSError as error:
            if not files.is_full(error):
                self._history.running = None
                raise SysregError(
                    f"no collection was started: {self._directory}: {error.strerror}",
                    next_step="make it writable",
                ) from None
            # A collection makes room on a full disk. Without the record, a killed one is not reported.
            log.warning("%s can't be written: %s", self._directory, error.strerror)

    def cancel(self) -> None:
        """Tell the running collection to end, which takes seconds. Raises NotFound if none runs."""
        with self._lock:
            if not self._is_running:
                raise NotFound("no garbage collection is under way")
            if self._collection is not None:
                self._collection.recorder.cancelled.set()
            elif self._history.running is not None:
                collector.terminate(self._history.running.collector)

    def stop(self, seconds: float) -> None:
        """Cancel the running collection because the agent ends, and wait ``seconds`` for its end."""
        if self._collection is not None and self._thread is not None:
            self._collection.recorder.cancelled.set()
            self._thread.join(seconds)

    def wait(self) -> None:
        """Wait until nothing runs."""
        if self._thread is not None:
            self._thread.join()

    def status(self, *, names: bool, plan: bool = False) -> CollectionStatus:
        """Return what runs, and how the last collections ended.

        ``names`` includes what names repositories. ``plan`` with ``names`` includes the plan of
        the last collection, if this agent ran it.
        """
        with self._lock:
            running, collection, results = self._history.running, self._collection, self._history.results
        if not names:
            results = tuple(replace(result, warnings=(), irrecoverable_tags=()) for result in results)
        last = results[0] if results else None
        if running is None:
            shown = _wire_plan(collection.plan) if plan and names and collection is not None else None
            return CollectionStatus(State.IDLE, progress=1.0, last_result=last, results=results, plan=shown)
        progress = collection.recorder.progress if collection is not None else _RECOVERING
        return CollectionStatus(
            State.RUNNING,
            id=running.id,
            started=running.started,
            options=running.options,
            phase=progress.phase,
            progress=progress.fraction,
            detail=progress.detail,
            last_result=last,
            results=results,
        )

    @property
    def _is_running(self) -> bool:
        # As the status says. The thread of a collection that has ended may live a little longer.
        return self._history.running is not None

    # -- the thread ------------------------------------------------------------------------------------

    def _run(self, collection: Collection) -> None:
        recorder = collection.recorder
        try:
            result = collection.run()
        except BaseException:
            log.exception("garbage collection %s: unexpected error", recorder.result.id)
            result = recorder.end(
                Outcome.FAILED, "internal error of sysreg-agent; see `journalctl -u sysreg-agent`"
            )
        self._end(result)
        log.info(
            "garbage collection %s: %s%s; blobs: %d, bytes: %d, writes held: %.1f s, longest hold: %.1f s",
            result.id,
            result.outcome,
            f" ({result.error})" if result.error else "",
            result.blobs,
            result.bytes,
            result.writes_held,
            result.longest_hold,
        )

    def _record_change(self, recorder: Recorder) -> None:
        with self._lock:
            if self._history.running is not None:
                self._history.running.phase = recorder.progress.phase
                self._history.running.collector = recorder.collector
                self._try_save()

    def _end(self, result: CollectionResult) -> None:
        with self._lock:
            self._history.end(result)
            self._try_save()

    def _try_save(self) -> None:
        """Save the history. A failure only costs what the status shows after a kill."""
        try:
            self._history.save(self._directory)
        except OSError as error:
            log.warning("%s can't be written: %s", self._directory, error.strerror)

    # -- recovery --------------------------------------------------------------------------------------

    def recover(self) -> None:
        """Clean up after a collection of a killed agent. Call it once, before any other method.

        While the collector of that agent runs, a thread waits for it.
        """
        running = self._history.running
        if running is None:
            return
        log.warning("garbage collection %s was interrupted in the phase %s", running.id, running.phase)
        if not self._try_recover(running):
            # The collector may take hours. The agent may end before it does, hence a daemon thread.
            self._thread = threading.Thread(
                target=self._recover_later, args=(running,), name="garbage", daemon=True
            )
            self._thread.start()

    def _recover_later(self, running: RunningCollection) -> None:
        while not self._try_recover(running):
            pass  # each try waits for the lock

    def _try_recover(self, running: RunningCollection) -> bool:
        """Recover, unless the collector still runs. Returns whether it has ended."""
        try:
            hold = WriteLock(self._settings.paths.state).hold(wait=0.5)
        except Conflict:
            return False
        except SysregError as error:
            self._end_interrupted(running, str(error))
        else:
            self._end_interrupted(running, self._clean_up(hold, running))
        return True

    def _clean_up(self, hold: WriteLockHold, running: RunningCollection) -> str:
        """Empty a stale cache, which needs the hold, then remove the pins. Returns what went wrong, or ""."""
        try:
            with hold:
                config = load_config(self._settings)
                if config.cache and running.phase not in _CACHE_IS_RIGHT and not running.options.dry_run:
                    restart_registry(self._settings)
            if config.root is not None:
                edits.remove_pins(config.root)
        except (SysregError, OSError) as error:
            log.error("cleaning up after garbage collection %s: %s", running.id, error)
            return str(error)
        return ""

    def _end_interrupted(self, running: RunningCollection, problem: str) -> None:
        error = f"the agent ended in the phase {running.phase}; nothing that a tag needs was removed"
        self._end(
            CollectionResult(
                running.id,
                running.options,
                running.started,
                Outcome.INTERRUPTED,
                f"{error}; {problem}" if problem else error,
                running.phase,
                ended=now(),
            )
        )


def _wire_plan(plan: SweepPlan) -> CollectionPlan:
    return CollectionPlan(
        blobs=tuple(PlannedBlob(digest, size) for digest, size in sorted(plan.blobs.items())),
        manifests=tuple(f"{name}@{digest}" for name, digests in plan.manifests.items() for digest in digests),
        repositories=tuple(plan.repositories),
    )
