"""One collection, from the scan to the release of the write lock.

The phases are those of docs/contracts.rst, "Garbage collection". The scan, without the write lock, finds out
whether there is anything to do, and what would make the collection fail. Only then are writes held. If nobody
could write since the scan, its plan is carried out; otherwise the storage is read again.
"""

from __future__ import annotations

import time
from pathlib import Path

from sysreg_cli.agent.garbage import collector, edits, planning
from sysreg_cli.agent.garbage.drain import DrainTimeouts
from sysreg_cli.agent.garbage.planning import SweepPlan
from sysreg_cli.agent.garbage.recorder import Cancelled, Recorder
from sysreg_cli.agent.garbage.records import Deletion
from sysreg_cli.agent.garbage.sweep import Sweep, directories_to_change
from sysreg_cli.agent.garbage.writers import Writers
from sysreg_cli.agent.storage.mark import Marks
from sysreg_cli.agent.storage.readers import Readers, no_cycle_search
from sysreg_cli.agent.storage.snapshot import Snapshot
from sysreg_cli.errors import NotSupported, SysregError, text_of
from sysreg_cli.host.ownership import as_owner, no_rights, require_rights
from sysreg_cli.host.registry_config import RegistryConfig
from sysreg_cli.host.registry_config import load as load_config
from sysreg_cli.settings import Settings
from sysreg_cli.v1.collections import CollectionResult, Outcome, Phase

_CACHES = {"", "inmemory"}


class Collection:
    """Runs once, and reports to ``recorder``. ``plan`` is what it does, or would do.

    ``directory`` is for the files of the agent. ``drain_timeouts`` replaces those of the settings.
    """

    def __init__(
        self,
        settings: Settings,
        recorder: Recorder,
        directory: Path,
        *,
        drain_timeouts: DrainTimeouts | None = None,
    ) -> None:
        self.recorder = recorder
        self.plan = SweepPlan()
        self._settings = settings
        self._directory = directory
        self._drain_timeouts = drain_timeouts
        self._last: Snapshot | None = None

    def run(self) -> CollectionResult:
        """Collect, and return the result. SysregError and OSError become its ``error``."""
        try:
            self._run()
        except Cancelled as error:
            return self.recorder.end(Outcome.CANCELLED, str(error))
        except (SysregError, OSError) as error:
            return self.recorder.end(Outcome.FAILED, text_of(error))
        finally:
            self._last = None  # it has 200,000 objects, and the plan outlives the collection
        return self.recorder.end(Outcome.DONE)

    def _run(self) -> None:
        config = load_config(self._settings)
        if config.cache not in _CACHES:
            raise NotSupported(
                f"{config.path}: a blob descriptor cache of the kind {config.cache} outlives a restart of "
                "the registry, which would then accept pushes whose layers are gone",
                next_step="remove storage.cache from it, and restart the registry",
            )
        writers = Writers(self._settings, config, self._drain_timeouts)
        if config.root is None:
            self._collect_opaque(config, writers)
        else:
            self._collect_filesystem(config, config.root, writers)

    # -- a storage with the driver filesystem ----------------------------------------------------------

    def _collect_filesystem(self, config: RegistryConfig, root: Path, writers: Writers) -> None:
        dry_run = self.recorder.options.dry_run
        with self.recorder.phase(Phase.SCAN):
            quiet = None if dry_run else writers.quiet()
            if not dry_run:
                edits.remove_pins(root)
            self._scan(root)
        if dry_run:
            self._record_plan()
            return
        if self.plan.nothing_to_do:
            Deletion.remove(self._directory)
            return
        with writers.drained(self.recorder) as hold:
            if quiet is None or not writers.lasts(quiet):
                with self.recorder.phase(Phase.MARK):
                    self._scan(root)
            Sweep(self._settings, config, self.plan, self.recorder, self._directory).run(hold)
            with self.recorder.phase(Phase.VERIFY):
                self._verify(root)
            if not self.recorder.result.remaining:
                Deletion.remove(self._directory)

    def _scan(self, root: Path) -> None:
        """Make the plan. Raises SysregError if it is known that the plan can't be carried out, OSError."""
        now = time.time()  # before the snapshot
        dereferenced = Deletion.load(self._directory)
        try:
            with as_owner(root), no_cycle_search(), Readers(self.recorder.check) as readers:
                self._last = Snapshot(root, self._last, readers=readers)
                self.plan = planning.make(
                    self._last,
                    now=now,
                    grace=self.recorder.options.grace,
                    delete_untagged=self.recorder.options.delete_untagged,
                    dereferenced=dereferenced,
                    keep_deleted=self.recorder.options.keep_deleted,
                )
        except PermissionError as error:
            if not error.filename:
                raise
            raise no_rights(root, str(error.filename)) from None
        require_rights(root, directories_to_change(root, self.plan, self.recorder.check))
        if self.plan.blobs and not self.plan.obstacle:
            collector.find()
        self.recorder.update(pinned=len(self.plan.pins), warnings=tuple(map(str, self.plan.damages)))

    def _verify(self, root: Path) -> None:
        """Raise SysregError if an image is damaged that wasn't before.

        The links are those of the last snapshot: nobody else writes, and the collector only deletes blobs.
        """
        snapshot = self._last
        assert snapshot is not None
        with as_owner(root), snapshot.readers:
            snapshot.read_blobs()
            if self.plan.needed <= snapshot.blobs.keys():
                return
            marks = [Marks.of_tags(snapshot, repository) for repository in snapshot.repositories.values()]
            lost = {damage for mark in marks for damage in mark.damages()} - set(self.plan.damages)
        first = min(map(str, lost), default="blobs that tags need are gone")
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise SysregError(f"images were damaged: {first}{more}", next_step="report this")

    # -- a storage with another driver -----------------------------------------------------------------

    def _collect_opaque(self, config: RegistryConfig, writers: Writers) -> None:
        """Collect in a storage that can't be read directly. The collector's dry run is the plan."""
        options = self.recorder.options
        if options.delete_untagged:
            raise NotSupported(
                f"--delete-untagged: the storage driver {config.driver} can't be read directly, and the "
                "registry's own way of doing it destroys multi-arch images"
            )
        with self.recorder.phase(Phase.SCAN):
            output = collector.run(
                config, self._directory, pause=lambda seconds, _output: self.recorder.pause(seconds)
            )
            self.plan = SweepPlan(blobs=dict.fromkeys(output.eligible, 0), revisions=output.manifests)
            self.recorder.update(sizes_known=False)
        if options.dry_run:
            self._record_plan()
            return
        if options.keep_deleted > 0:
            raise NotSupported(
                f"--keep-deleted: the storage driver {config.driver} can't be read directly, so what deleted"
                " tags need is not known"
            )
        if options.grace > 0:
            raise NotSupported(
                f"the storage driver {config.driver} doesn't tell how old a layer is, so what pushes under "
                "way have uploaded can't be told from garbage",
                next_step="let pushes end, and give --grace 0",
            )
        if not self.plan.nothing_to_do:
            with writers.drained(self.recorder) as hold:
                Sweep(self._settings, config, self.plan, self.recorder, self._directory).run(hold)

    def _record_plan(self) -> None:
        """Record the plan as the result of a dry run."""
        self.recorder.update(
            blobs=len(self.plan.blobs),
            bytes=sum(self.plan.blobs.values()),
            manifests=sum(map(len, self.plan.manifests.values())),
            repositories=len(self.plan.repositories),
            irrecoverable=len(self.plan.lost),
            irrecoverable_tags=tuple(self.plan.lost),
        )
