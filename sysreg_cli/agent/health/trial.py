"""Tries the registry with an image of 1 KiB: push, pull, compare, delete. Leaves nothing in the registry.

A delete by the registry leaves the repository in the catalog, and the blobs until a collection. So the agent
removes both from the storage. Each blob is random, so nobody else refers to it. The trial holds a permit of
the write lock: no collection deletes meanwhile, and none has to wait for the end of its tokens.

If the process is killed, the next trial removes the repository, and a collection frees its blobs.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from sysreg_cli.agent.garbage import edits
from sysreg_cli.agent.registry_access import local_registry
from sysreg_cli.agent.storage import layout, listings
from sysreg_cli.agent.storage.files import entries_of
from sysreg_cli.errors import Conflict, ProtocolError, SysregError, text_of
from sysreg_cli.host import registry_config
from sysreg_cli.reference import ImageReference
from sysreg_cli.registry.client import RegistryClient
from sysreg_cli.registry.manifests import OCI_MANIFEST, RemoteManifest, digest_of
from sysreg_cli.settings import Settings
from sysreg_cli.tokens.write_lock import WriteLock
from sysreg_cli.v1.health import Trial, TrialOutcome, TrialStep

_REPOSITORY = layout.TRIAL_REPOSITORY
_LAYER_BYTES = 1024

# Two trials at a time would remove the repository of each other. One may hang in a storage that hangs.
_turn = threading.Lock()
_TURN_SECONDS = 5.0


def try_registry(settings: Settings) -> Trial:
    """Try the registry. Waits some seconds for the end of another trial. Raises Conflict, SysregError."""
    root = registry_config.load(settings).root
    if root is None:
        return Trial(TrialOutcome.NOT_SUPPORTED, problem="nothing could remove what it leaves there")
    if not _turn.acquire(timeout=_TURN_SECONDS):
        raise Conflict("another test image is still under way", next_step="try again later")
    try:
        with closing(WriteLock(settings.paths.state)) as write_lock:
            permit = write_lock.try_issue()
            if permit is None:
                return Trial(TrialOutcome.HELD)
            with permit:
                return _Attempt(settings, root).run()
    finally:
        _turn.release()


class _Attempt:
    """One trial. ``_step`` is the step that it has begun."""

    def __init__(self, settings: Settings, root: Path) -> None:
        self._settings = settings
        self._root = root
        self._step = TrialStep.PUSH
        self._blobs: list[str] = []
        self._prefixes = {entry.name for entry in entries_of(str(layout.blobs(root) / "sha256"))}

    def run(self) -> Trial:
        try:
            with self._cleaned(), local_registry(self._settings, has_permit=True) as registry:
                self._try(registry)
                self._step = TrialStep.CLEANUP
        except SysregError as error:
            return Trial(TrialOutcome.FAILED, self._step, error.message, error.next_step)
        except OSError as error:
            return Trial(TrialOutcome.FAILED, TrialStep.CLEANUP, text_of(error))
        return Trial(TrialOutcome.PASSED)

    def _try(self, registry: RegistryClient) -> None:
        layer = self._fitting(lambda: secrets.token_bytes(_LAYER_BYTES))
        config = self._fitting(lambda: json.dumps({"created_by": secrets.token_hex(16)}).encode())
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self._push(registry, config),
            "layers": [self._push(registry, layer)],
        }
        content = self._fitting(
            lambda: json.dumps({**document, "annotations": {"random": secrets.token_hex(16)}}).encode()
        )
        manifest = RemoteManifest(OCI_MANIFEST, content)
        image = ImageReference(_REPOSITORY, digest=manifest.digest)
        self._blobs.append(manifest.digest)
        registry.put_manifest(image, manifest)
        self._step = TrialStep.PULL
        pulled = registry.manifest(image)
        pulled_layer = registry.blob(_REPOSITORY, digest_of(layer))
        self._step = TrialStep.COMPARE
        if pulled != manifest or pulled_layer != layer:
            raise ProtocolError(f"{registry.where} returns other bytes than were pushed")
        self._step = TrialStep.DELETE
        if not registry.delete_manifest(image) or registry.manifest(image) is not None:
            raise ProtocolError(f"{registry.where} still has the image after its delete")

    def _push(self, registry: RegistryClient, data: bytes) -> dict[str, Any]:
        """Store a blob, and return its descriptor."""
        self._blobs.append(digest_of(data))  # before the push, whose answer may be lost
        digest = registry.put_blob(_REPOSITORY, data)
        return {"mediaType": "application/octet-stream", "digest": digest, "size": len(data)}

    def _fitting(self, make: Callable[[], bytes]) -> bytes:
        """Make random content whose blob gets into a directory of the storage that is there already.

        Nobody can remove such a directory safely: a push may be about to use it.
        """
        while True:
            data = make()
            prefix = digest_of(data).partition(":")[2][:2]
            if not self._prefixes or prefix in self._prefixes:
                self._prefixes.add(prefix)
                return data

    @contextlib.contextmanager
    def _cleaned(self) -> Iterator[None]:
        """Remove what a killed trial left, and in the end what this one leaves. Raises Conflict, OSError."""
        if listings.has_tags(self._root, _REPOSITORY):
            raise Conflict(
                f"the image {_REPOSITORY} has tags, but this name is the one of the test image",
                next_step="push them under another name, and delete them",
            )
        edits.remove_repositories(self._root, [_REPOSITORY])
        try:
            yield
        finally:
            edits.remove_repositories(self._root, [_REPOSITORY])
            edits.remove_blobs(self._root, self._blobs)
