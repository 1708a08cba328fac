"""One collection, from the first look to the release of the write lock.

The steps are in docs/contracts.rst, "Garbage collection".

The first look, without the write lock, finds out whether there is anything to do and whether the registry's
collector would stumble; only then are writes held. If nobody can write meanwhile, that look is also the plan.
Everything that was begun is undone or finished on every way out: pins are removed, the registry is restarted
if its cache is stale, the write lock falls last.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sysreg_cli.agent.garbage import collector, drain, edits, mark, releases
from sysreg_cli.agent.garbage import plan as planning
from sysreg_cli.agent.garbage.manifest import Manifest
from sysreg_cli.agent.garbage.plan import Plan
from sysreg_cli.agent.garbage.registry_config import RegistryConfig
from sysreg_cli.agent.garbage.registry_config import read as read_config
from sysreg_cli.agent.garbage.result import Options, Progress, Result, now
from sysreg_cli.agent.garbage.store import FilesystemStore, present
from sysreg_cli.errors import NotSupported, SysregError
from sysreg_cli.host import failpoint, files
from sysreg_cli.host.locks import services_lock
from sysreg_cli.host.services import Services
from sysreg_cli.settings import Settings
from sysreg_cli.tokens.signer import write_token_accepted
from sysreg_cli.tokens.write_lock import WriteLock, WriteLockHold

log = logging.getLogger("sysreg.agent")

# Wait so long for a certificate install before the registry is restarted.
_LOCK_SECONDS = 120.0
# `exp` of a token is in whole seconds, and the registry may read its clock a little later.
_EXPIRY_MARGIN = 1.0
# For uploads to end after that, under the lock. With the default lifetime of tokens a drain then takes 75 s
# at most, and docker, which keeps trying for about 100 s, can wait for a sweep as well.
_SPARE = 9.0
_CACHES = {"", "inmemory"}


class Cancelled(SysregError):
    """Somebody asked for the end of the collection."""


@dataclass
class Collection:
    """Runs once. ``directory`` is for the collector's output; ``entered`` hears of every phase as it
    begins, and ``collecting`` the process id of the collector.
    """

    settings: Settings
    options: Options
    directory: Path
    result: Result
    entered: Callable[[str], None] = lambda phase: None
    collecting: Callable[[int], None] = lambda pid: None
    progress: Progress = field(default_factory=Progress)
    cancelled: threading.Event = field(default_factory=threading.Event)
    plan: Plan = field(default_factory=Plan)
    _known: dict[str, Manifest | None] = field(default_factory=dict)
    _looked: float = 0.0
    _swept: bool = False

    def run(self) -> Result:
        """Collect, and return how it ended; ``plan`` holds what was decided. Expected errors don't leave."""
        begun = time.monotonic()
        self._deadline = begun + self.settings.agent.collect_timeout
        try:
            self._run()
            self.result.outcome = "done"
        except Cancelled as error:
            self.result.outcome, self.result.error = "cancelled", str(error)
        except SysregError as error:
            self.result.outcome, self.result.error = "failed", str(error)
        except OSError as error:
            named = f"{error.filename}: " if error.filename else ""
            self.result.outcome, self.result.error = "failed", f"{named}{error.strerror or error}"
        finally:
            self._known.clear()
            self.result.ended = now()
            self.result.duration = round(time.monotonic() - begun, 3)
        return self.result

    # -- the steps -------------------------------------------------------------------------------------

    def _run(self) -> None:
        config = read_config(self.settings.registry.config)
        if config.root is None:
            self._run_blind(config)
            return
        if config.cache not in _CACHES:
            raise NotSupported(
                f"{config.path}: a blob descriptor cache of the kind {config.cache} outlives a restart of "
                "the registry, which would then accept pushes whose layers are gone",
                next_step="remove storage.cache from it, and restart the registry",
            )
        with self._phase("look"):
            quiet_since = None
            if not self.options.dry_run:
                quiet_since = self._quiet_since(config)
                edits.remove_pins(config.root)
            self.plan = self._mark(config.root)
        if self.options.dry_run:
            self._report_plan()
            return
        if self.plan.nothing_to_do:
            self._report_kept()
            releases.forget(self.directory)
            return
        with self._write_lock(config) as hold:
            if quiet_since is None or self._latest_write() != quiet_since:
                with self._phase("mark"):
                    self.plan = self._mark(config.root)
            self._report_kept()
            self._under_lock(config, config.root, hold)

    def _under_lock(self, config: RegistryConfig, root: Path, hold: WriteLockHold) -> None:
        with contextlib.ExitStack() as undo:
            undo.callback(self._report_removed, root)
            undo.callback(self._restart_if_stale, config)
            undo.push(_unless_collector_lives(edits.remove_pins, root))
            self._change(config, root, hold)
        with self._phase("verify"):
            self._verify(root)
        if not self.result.remaining:
            releases.forget(self.directory)

    def _change(self, config: RegistryConfig, root: Path, hold: WriteLockHold) -> None:
        """Everything that changes the storage."""
        plan = self.plan
        with self._phase("pin"):
            self._remember()
            if plan.pins:
                self._pin(root)
        with self._phase("untag"):
            # From here on blobs and manifests vanish, and a cache would remember them.
            self._swept = True
            edits.unlink_manifests(root, plan.untag)
        with self._phase("sweep"):
            if plan.frees:
                collector.run(
                    config.path,
                    root,
                    self.directory,
                    write_lock=hold.fileno(),
                    pause=self._watch_sweep,
                    started=self.collecting,
                )
        with self._phase("tidy"):
            edits.remove_repositories(root, plan.empty)

    def _remember(self) -> None:
        """Write down what is freed. A full disk doesn't stop what makes room on it."""
        try:
            if self.plan.frees:
                releases.remember(self.directory, self._looked, self.plan.frees)
        except OSError as error:
            if not files.is_full(error):
                raise
            log.warning("%s: what is freed is not written down: %s", self.directory, error.strerror)

    def _pin(self, root: Path) -> None:
        """Pin; where the disk is too full for it, the largest blobs that are to go anyhow make room."""
        largest = sorted(self.plan.frees, key=self.plan.frees.__getitem__)
        while True:
            try:
                edits.write_pin(root, self.plan.pins)
            except OSError as error:
                if not files.is_full(error) or not largest:
                    raise
            else:
                return
            self._swept = True
            edits.remove_blob(root, largest.pop())

    def _run_blind(self, config: RegistryConfig) -> None:
        """A storage that can't be read directly: the plan is what the collector says it would delete."""
        if self.options.delete_untagged:
            raise NotSupported(
                f"--delete-untagged: the storage driver {config.driver} can't be read directly, and the "
                "registry's own way of doing it destroys multi-arch images"
            )
        with self._phase("look"):
            self.plan = self._dry_run(config)
        if self.options.dry_run:
            self._report_plan()
            return
        if self.options.grace > 0:
            raise NotSupported(
                f"the storage driver {config.driver} doesn't tell how old a layer is, so what pushes under "
                "way have uploaded can't be told from garbage",
                next_step="let pushes end, and give --grace 0",
            )
        if self.plan.nothing_to_do:
            return
        with self._write_lock(config) as hold:
            try:
                with self._phase("sweep"):
                    self._swept = True
                    done = collector.run(
                        config.path,
                        None,
                        self.directory,
                        write_lock=hold.fileno(),
                        pause=self._watch_sweep,
                        started=self.collecting,
                    )
                self.result.blobs = len(done.eligible)
            finally:
                self._restart_if_stale(config)

    def _dry_run(self, config: RegistryConfig) -> Plan:
        said = collector.run(
            config.path,
            None,
            self.directory,
            write_lock=None,
            pause=lambda seconds, output: self._pause(seconds),
        )
        self.result.sizes_known = False
        return Plan(frees=dict.fromkeys(said.eligible, 0), revisions=said.manifests)

    @contextlib.contextmanager
    def _write_lock(self, config: RegistryConfig) -> Iterator[WriteLockHold]:
        """Hold the write lock, and wait until nobody can write any more."""
        with (
            contextlib.closing(WriteLock(self.settings.paths.state)) as write_lock,
            contextlib.ExitStack() as stack,
        ):
            with self._phase("drain"):
                hold = stack.enter_context(self._drain(config, write_lock).writes_ended())
            yield hold

    def _drain(self, config: RegistryConfig, write_lock: WriteLock) -> drain.Drain:
        def sleep(seconds: float, fraction: float, detail: str) -> None:
            self.progress.enter("drain", fraction, detail)
            self._pause(seconds)

        return drain.Drain(
            drain.Patience(limit=self.settings.agent.drain_timeout, hold=self._accepted + _SPARE),
            take=lambda: self._hold(write_lock),
            permitted=lambda: write_lock.latest_write() + self._accepted - time.time(),
            busy=lambda: drain.writing(config),
            sleep=sleep,
        )

    @contextlib.contextmanager
    def _hold(self, write_lock: WriteLock) -> Iterator[WriteLockHold]:
        with write_lock.hold() as hold:
            begun = time.monotonic()
            failpoint.reach("garbage hold")
            try:
                yield hold
            finally:
                self.result.count_hold(time.monotonic() - begun)

    def _mark(self, root: Path) -> Plan:
        self._looked = time.time()
        store = FilesystemStore(root, self._known)
        plan = planning.make(
            store,
            delete_untagged=self.options.delete_untagged,
            grace=self.options.grace,
            earlier=releases.recall(self.directory),
        )
        self.result.warnings = plan.broken
        if plan.obstacles:
            more = f" and {len(plan.obstacles) - 1} more" if len(plan.obstacles) > 1 else ""
            raise SysregError(
                f"the registry's collector would stop at damaged files: {plan.obstacles[0]}{more}",
                next_step="push these images again, or delete their tags; nothing was changed",
            )
        return plan

    def _verify(self, root: Path) -> None:
        """Read the storage anew, and find every tag's manifests and blobs."""
        before = set(self.plan.broken)
        store = FilesystemStore(root, self._known)
        after = [mark.reach(store, repository) for repository in store.repositories.values()]
        lost = [problem for reached in after for problem in reached.problems if problem not in before]
        if lost:
            raise SysregError(
                f"images were damaged: {lost[0]}" + (f" and {len(lost) - 1} more" if lost[1:] else ""),
                next_step="push them again, and report this",
            )

    def _restart_if_stale(self, config: RegistryConfig) -> None:
        """A blob descriptor cache still knows what is gone: a push would end well and store nothing."""
        if not config.cache or not self._swept:
            return
        with self._phase("restart", stoppable=False):
            restart_registry(self.settings)

    def _quiet_since(self, config: RegistryConfig) -> float | None:
        """When the last permission to write was given, if nobody can be writing now; else None.

        As long as no later one is given, what is read from now on stays true. Raises Conflict while the
        collector of an agent that died is at work, to which its pins matter.
        """
        write_lock = WriteLock(self.settings.paths.state)
        try:
            write_lock.hold().close()
        finally:
            write_lock.close()
        latest = self._latest_write()
        return latest if latest + self._accepted < time.time() and not drain.writing(config) else None

    def _latest_write(self) -> float:
        return WriteLock(self.settings.paths.state).latest_write()

    @property
    def _accepted(self) -> float:
        """Seconds from its issue for which the registry may accept a write token."""
        return write_token_accepted(self.settings.token_server.write_lifetime) + _EXPIRY_MARGIN

    # -- reporting -------------------------------------------------------------------------------------

    def _report_kept(self) -> None:
        self.result.pinned = len(self.plan.pins)

    def _report_plan(self) -> None:
        self._report_kept()
        self.result.blobs, self.result.bytes = len(self.plan.frees), self.plan.bytes
        self.result.manifests, self.result.repositories = self.plan.manifests, len(self.plan.empty)

    def _report_removed(self, root: Path) -> None:
        """Count what is really gone, however it ended."""
        if not self._swept:
            return
        gone = [size for digest, size in self.plan.frees.items() if not present(root, digest)]
        self.result.blobs, self.result.bytes = len(gone), sum(gone)
        self.result.manifests = sum(
            1
            for name, digests in self.plan.untag.items()
            for digest in digests
            if not edits.revision(root, name, digest).exists()
        )
        self.result.repositories = sum(not edits.is_repository(root, name) for name in self.plan.empty)
        self.result.remaining = len(self.plan.frees) - len(gone)

    # -- time ------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _phase(self, name: str, *, stoppable: bool = True) -> Iterator[None]:
        if stoppable:
            self._check()
        self.progress.enter(name)
        self.entered(name)
        failpoint.reach(f"garbage {name}")
        begun = time.monotonic()
        try:
            yield
        finally:
            spent = self.result.seconds.get(name, 0.0) + time.monotonic() - begun
            self.result.seconds[name] = round(spent, 3)

    def _check(self) -> None:
        """Raises Cancelled, or SysregError past the time limit."""
        if self.cancelled.is_set():
            raise Cancelled(f"the collection was cancelled in the phase {self.progress.phase}")
        if time.monotonic() > self._deadline:
            limit = self.settings.agent.collect_timeout
            raise SysregError(
                f"the collection did not end within {limit} s, and was stopped in {self.progress.phase}",
                next_step="run it again, or raise collect_timeout in section [agent] of sysreg.conf",
            )

    def _pause(self, seconds: float) -> None:
        self.cancelled.wait(seconds)
        self._check()

    def _watch_sweep(self, seconds: float, output: collector.Output) -> None:
        expected = self.plan.revisions + len(self.plan.frees)
        self.progress.enter("sweep", (output.manifests + len(output.eligible)) / max(expected, 1))
        self._pause(seconds)


def restart_registry(settings: Settings) -> None:
    """Restart the registry, which empties its cache. Raises Unavailable, Conflict."""
    with services_lock(settings.paths.state, "a garbage collection", wait=_LOCK_SECONDS):
        Services(settings.agent).restart(settings.registry.unit)


def _unless_collector_lives(undo: Callable[[Path], object], root: Path) -> Callable[..., None]:
    """What pins a blob must outlive the collector that would delete it."""

    def leave(kind: type[BaseException] | None, _error: object, _trace: object) -> None:
        if kind is None or not issubclass(kind, collector.CollectorLives):
            undo(root)

    return leave
