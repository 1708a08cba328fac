"""Carries out a plan under the write lock: everything that changes the storage."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

from sysreg_cli.agent.garbage import collector, edits
from sysreg_cli.agent.garbage.planning import SweepPlan
from sysreg_cli.agent.garbage.recorder import Recorder
from sysreg_cli.agent.garbage.records import Deletion
from sysreg_cli.agent.storage import layout
from sysreg_cli.agent.storage.files import tree
from sysreg_cli.host import files
from sysreg_cli.host.locks import services_lock
from sysreg_cli.host.registry_config import RegistryConfig
from sysreg_cli.host.services import Services
from sysreg_cli.settings import Settings
from sysreg_cli.tokens.write_lock import WriteLockHold
from sysreg_cli.v1.collections import Phase

log = logging.getLogger("sysreg.agent")

# for a certificate install to end
_LOCK_SECONDS = 120.0


class Sweep:
    """Deletes what a plan says, once.

    However it ends, it removes its pins, empties a stale cache of the registry, and records what is gone.
    ``directory`` is for the files of the agent.
    """

    def __init__(
        self, settings: Settings, config: RegistryConfig, plan: SweepPlan, recorder: Recorder, directory: Path
    ) -> None:
        self._settings = settings
        self._config = config
        self._plan = plan
        self._recorder = recorder
        self._directory = directory
        #: whether anything may be gone already
        self._deleting = False

    def run(self, hold: WriteLockHold) -> None:
        """Sweep; the collector inherits the hold.

        Raises SysregError (Cancelled, CollectorLives), Unavailable and Conflict from a restart, OSError.
        """
        with contextlib.ExitStack() as undo:
            undo.callback(self._empty_cache)
            if self._config.root is None:
                self._run_collector(hold)
                return
            undo.callback(self._record_deleted, self._config.root)
            undo.push(self._remove_pins)
            root, check = self._config.root, self._recorder.check
            with self._recorder.phase(Phase.PIN):
                self._save_deletion()
                if not self._plan.obstacle:
                    self._pin(root)
            with self._recorder.phase(Phase.UNTAG):
                self._deleting = True
                edits.unlink_manifests(root, self._plan.manifests, check)
            self._delete_blobs(root, hold)
            with self._recorder.phase(Phase.CLEANUP):
                edits.remove_repositories(root, self._plan.repositories, check)

    def _save_deletion(self) -> None:
        """Keep on disk what is deleted. A full disk must not stop what makes room on it."""
        try:
            if self._plan.blobs:
                Deletion.save(self._directory, self._plan.scanned, self._plan.blobs)
        except OSError as error:
            if not files.is_full(error):
                raise
            log.warning("%s: what is deleted is not recorded: %s", self._directory, error.strerror)

    def _pin(self, root: Path) -> None:
        """Pin. On a full disk, delete the largest blobs of the plan first to make room."""
        largest = sorted(self._plan.blobs, key=self._plan.blobs.__getitem__)
        while self._plan.pins:
            try:
                edits.write_pin(root, self._plan.pins)
            except OSError as error:
                if not files.is_full(error) or not largest:
                    raise
            else:
                return
            self._deleting = True
            edits.remove_blobs(root, [largest.pop()])

    def _delete_blobs(self, root: Path, hold: WriteLockHold) -> None:
        """Have the collector delete the blobs of the plan. Where it would stop, delete them here."""
        if not (obstacle := self._plan.obstacle):
            try:
                self._run_collector(hold)
            except collector.CollectorFailed as error:
                obstacle = str(error)
        if obstacle:
            identifier = self._recorder.result.id
            log.warning("garbage collection %s goes on without the collector: %s", identifier, obstacle)
            with self._recorder.phase(Phase.SWEEP):
                self._deleting = True
                edits.remove_blobs(root, self._plan.blobs, self._recorder.check)

    def _run_collector(self, hold: WriteLockHold) -> None:
        with self._recorder.phase(Phase.SWEEP):
            if not self._plan.blobs:
                return
            self._deleting = True
            output = collector.run(
                self._config,
                self._directory,
                write_lock=hold.fileno(),
                pause=self._show_collector,
                started=self._recorder.collector_started,
            )
        if self._config.root is None:
            self._recorder.update(blobs=len(output.eligible))

    def _show_collector(self, seconds: float, output: collector.Output) -> None:
        expected = self._plan.revisions + len(self._plan.blobs)
        done = output.manifests + len(output.eligible)
        self._recorder.show(Phase.SWEEP, done / max(expected, 1))
        self._recorder.pause(seconds)

    # -- however it ends -------------------------------------------------------------------------------

    def _remove_pins(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Remove the pins, unless the collector still runs: it would delete the pinned blobs."""
        if self._config.root and not (kind and issubclass(kind, collector.CollectorLives)):
            edits.remove_pins(self._config.root)

    def _record_deleted(self, root: Path) -> None:
        """Count what is really gone."""
        if not self._deleting:
            return
        plan = self._plan
        blobs = str(layout.blobs(root))
        deleted = {
            digest: size
            for digest, size in plan.blobs.items()
            if not os.path.exists(layout.data_path(blobs, digest))  # noqa: PTH110
        }
        lost = tuple(tag for tag, needed in plan.lost.items() if not needed.isdisjoint(deleted))
        unlinked = [
            digest
            for name, digests in plan.manifests.items()
            for digest in digests
            if not layout.revision(root, name, digest).exists()
        ]
        self._recorder.update(
            blobs=len(deleted),
            bytes=sum(deleted.values()),
            remaining=len(plan.blobs) - len(deleted),
            manifests=len(unlinked),
            irrecoverable=len(lost),
            irrecoverable_tags=lost,
            repositories=sum(not layout.is_repository(root, name) for name in plan.repositories),
        )

    def _empty_cache(self) -> None:
        """Empty a cache that still lists deleted blobs: a push of one would succeed and store nothing."""
        if self._config.cache and self._deleting:
            with self._recorder.phase(Phase.RESTART, stoppable=False):
                restart_registry(self._settings)


def directories_to_change(root: Path, plan: SweepPlan, check: Callable[[], None]) -> Iterator[str]:
    """Yield the directories in which the plan removes or creates something."""
    if plan.nothing_to_do:
        return
    blobs = str(layout.blobs(root))
    if plan.pins and not plan.obstacle:
        pin = layout.data(root, edits.pin_of(plan.pins)[0]).parent
        yield from (str(layout.repositories(root)), blobs, str(pin.parents[1]), str(pin.parent))
    # text instead of Paths, and each prefix once: a plan may have tens of thousands of blobs
    directories = [os.path.dirname(layout.data_path(blobs, digest)) for digest in plan.blobs]  # noqa: PTH120
    yield from {os.path.dirname(directory) for directory in directories}  # noqa: PTH120
    for directory in directories:
        check()
        yield directory
    for name, digests in plan.manifests.items():
        for digest in digests:
            check()
            link = layout.revision(root, name, digest)
            yield from (str(link.parent.parent), str(link.parent))
    for name in plan.repositories:
        yield str(layout.repository(root, name))
        for own in layout.OWN:
            for directory in tree(layout.repository(root, name) / own):
                check()
                yield directory


def restart_registry(settings: Settings) -> None:
    """Restart the registry. That also empties its cache of blob descriptors. Raises Unavailable, Conflict."""
    with services_lock(settings.paths.state, "a garbage collection", wait=_LOCK_SECONDS):
        Services(settings.agent).restart(settings.registry.unit)
