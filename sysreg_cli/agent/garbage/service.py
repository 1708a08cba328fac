"""One collection at a time, in a thread of the agent; it goes on whatever becomes of the client.

When the agent starts it finds out what became of a collection that a former agent didn't end. The kernel has
opened the write lock by then, unless the collector of that agent still lives: then its end is waited for, and
nothing else is started.
"""

from __future__ import annotations

import logging
import secrets
import threading
from typing import Any

from sysreg_cli.agent.garbage import collector, edits
from sysreg_cli.agent.garbage.history import History, Running
from sysreg_cli.agent.garbage.registry_config import read as read_config
from sysreg_cli.agent.garbage.result import Options, Result, now
from sysreg_cli.agent.garbage.run import Collection, restart_registry
from sysreg_cli.errors import Conflict, NotFound, SysregError
from sysreg_cli.host import files
from sysreg_cli.settings import Settings
from sysreg_cli.tokens.write_lock import WriteLock, WriteLockHold

log = logging.getLogger("sysreg.agent")

# In these phases blobs may have gone that the registry's cache still knows.
_STALE_PHASES = ("untag", "sweep", "tidy", "restart")


class CollectionService:
    """Starts, watches and ends collections. Methods are safe to call from any thread, and don't block."""

    def __init__(self, settings: Settings) -> None:
        """Raises OSError if the state directory can't be used."""
        self._settings = settings
        self._lock = threading.Lock()
        self._history = History.load(settings.paths.state / "garbage")
        self._collection: Collection | None = None
        self._thread: threading.Thread | None = None

    # -- calls -----------------------------------------------------------------------------------------

    def start(self, options: Options) -> str:
        """Start a collection and return its id.

        Raises Conflict while one runs, SysregError if its start can't be written down.
        """
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                raise Conflict(
                    "a garbage collection is under way", next_step="see registry-garbage-collect --status"
                )
            result = Result(id=secrets.token_hex(8), options=options, started=now())
            self._history.running = Running(result.id, options, result.started)
            try:
                self._history.save()
            except OSError as error:
                if not files.is_full(error):
                    self._history.running = None
                    raise SysregError(
                        f"no collection was started: {self._history.directory}: {error.strerror}",
                        next_step="mend that",
                    ) from None
                # It is the remedy for a full disk; all that is at stake is what --status tells if it dies.
                log.warning("%s can't be written: %s", self._history.directory, error.strerror)
            self._collection = Collection(
                settings=self._settings,
                options=options,
                directory=self._history.directory,
                result=result,
                entered=self._entered,
                collecting=self._collecting,
            )
            self._thread = threading.Thread(target=self._run, args=(self._collection,), name="garbage")
            self._thread.start()
            return result.id

    def cancel(self) -> None:
        """Ask the running collection to end; it does within seconds. Raises NotFound if none runs."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                raise NotFound("no garbage collection is under way")
            if self._collection is not None:
                self._collection.cancelled.set()
            elif self._history.running is not None:
                collector.terminate(self._history.running.collector)

    def stop(self, wait: float) -> None:
        """The agent ends: cancel what runs, and give it ``wait`` seconds. Blocks."""
        thread = self._thread
        if thread is None:
            return
        if self._collection is not None:
            self._collection.cancelled.set()
            thread.join(wait)

    def wait(self) -> None:
        """Return when nothing runs. Blocks."""
        if self._thread is not None:
            self._thread.join()

    def status(self, *, names: bool, plan: bool = False) -> dict[str, Any]:
        """What runs, and how the last ones ended; ``names`` shows names of repositories, ``plan`` also what
        the last collection had planned, as far as this agent still knows.
        """
        with self._lock:
            running, collection = self._history.running, self._collection
            results = [result.to_json() for result in self._history.results]
        if not names:
            for result in results:
                result["warnings"] = []
        answer: dict[str, Any] = {"state": "idle", "phase": "", "progress": 1.0, "detail": ""}
        if running is not None:
            answer |= {
                "state": "running",
                "id": running.id,
                "started": running.started,
                "options": {"dry_run": running.options.dry_run, "grace": running.options.grace}
                | {"delete_untagged": running.options.delete_untagged},
                "phase": collection.progress.phase if collection else "recover",
                "progress": collection.progress.fraction if collection else 0.0,
                "detail": collection.progress.detail
                if collection
                else "the agent died; its collector still runs",
            }
        answer["last_result"] = results[0] if results else None
        answer["results"] = results
        if plan and names and collection is not None and running is None:
            answer["plan"] = {
                "blobs": [
                    {"digest": digest, "size": size} for digest, size in sorted(collection.plan.frees.items())
                ],
                "manifests": [
                    f"{name}@{digest}"
                    for name, digests in collection.plan.untag.items()
                    for digest in digests
                ],
                "repositories": collection.plan.empty,
            }
        return answer

    # -- the thread ------------------------------------------------------------------------------------

    def _run(self, collection: Collection) -> None:
        try:
            result = collection.run()
        except BaseException:
            log.exception("garbage collection %s: unexpected error", collection.result.id)
            result = collection.result
            result.outcome, result.ended = "failed", now()
            result.error = "internal error of sysreg-agent; its journal holds the reason"
        with self._lock:
            self._history.end(result)
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

    def _entered(self, phase: str) -> None:
        with self._lock:
            if self._history.running is not None:
                self._history.running.phase = phase
                self._history.try_save()

    def _collecting(self, pid: int) -> None:
        with self._lock:
            if self._history.running is not None:
                self._history.running.collector = pid
                self._history.try_save()

    # -- recovery --------------------------------------------------------------------------------------

    def recover(self) -> None:
        """Clean up after a collection that a former agent began and didn't end. Call once, first of all."""
        running = self._history.running
        if running is None:
            return
        log.warning("garbage collection %s was interrupted in the phase %s", running.id, running.phase)
        write_lock = WriteLock(self._settings.paths.state)
        try:
            hold = write_lock.hold(wait=0.5)
        except Conflict:
            # In a thread: the agent has other work, and the collector may take hours.
            # It is none of the agent's work either to wait for it before it may stop.
            self._thread = threading.Thread(
                target=self._outwait, args=(write_lock, running), name="garbage", daemon=True
            )
            self._thread.start()
        except SysregError as error:
            self._interrupted(running, str(error))
        else:
            self._clean_up(hold, running)

    def _outwait(self, write_lock: WriteLock, running: Running) -> None:
        while True:
            try:
                hold = write_lock.hold(wait=0.5)
            except Conflict:
                continue
            except SysregError as error:
                self._interrupted(running, str(error))
                return
            self._clean_up(hold, running)
            return

    def _clean_up(self, hold: WriteLockHold, running: Running) -> None:
        """The hold says that no collector lives; writes wait only while a stale cache would deceive them."""
        problem = ""
        try:
            with hold:
                config = read_config(self._settings.registry.config)
                if config.cache and running.phase in _STALE_PHASES and not running.options.dry_run:
                    restart_registry(self._settings)
            if config.root is not None:
                edits.remove_pins(config.root)
        except (SysregError, OSError) as error:
            problem = str(error)
            log.error("cleaning up after garbage collection %s: %s", running.id, problem)
        self._interrupted(running, problem)

    def _interrupted(self, running: Running, problem: str) -> None:
        error = f"the agent ended in the phase {running.phase}; nothing that a tag needs was removed"
        result = Result(
            id=running.id,
            options=running.options,
            started=running.started,
            ended=now(),
            outcome="interrupted",
            error=f"{error}; {problem}" if problem else error,
        )
        with self._lock:
            self._history.end(result)
