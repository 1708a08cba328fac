"""Tries the registry with an image of 1 KiB: push, pull, compare, delete. Leaves nothing in the registry.

A delete by the registry leaves the repository in the catalog, and the blobs until a collection. So the agent
removes both from the storage. Each blob is random, so nobody else refers to it. The trial holds a permit of
the write lock: no collection deletes meanwhile.

If the process is killed, the next trial removes the repository, and a collection frees its blobs.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from sysreg_cli.agent.garbage import edits
from sysreg_cli.agent.registry_access import local_registry
from sysreg_cli.agent.storage import layout, listings
from sysreg_cli.errors import Conflict, ProtocolError, SysregError, text_of
from sysreg_cli.host import registry_config
from sysreg_cli.reference import ImageReference
from sysreg_cli.registry.client import RegistryClient
from sysreg_cli.registry.manifests import OCI_MANIFEST, RemoteManifest
from sysreg_cli.settings import Settings
from sysreg_cli.tokens.write_lock import WriteLock
from sysreg_cli.v1.health import Trial, TrialOutcome, TrialStep

_REPOSITORY = layout.TRIAL_REPOSITORY
_LAYER_BYTES = 1024

# two trials at a time would remove the repository of each other
_turn = threading.Lock()


def try_registry(settings: Settings) -> Trial:
    """Try the registry. Blocks while another trial runs. Raises SysregError."""
    root = registry_config.load(settings).root
    if root is None:
        return Trial(TrialOutcome.NOT_SUPPORTED, problem="nothing could remove what it leaves there")
    with _turn, closing(WriteLock(settings.paths.state)) as write_lock:
        permit = write_lock.try_issue()
        if permit is None:
            return Trial(TrialOutcome.HELD)
        with permit:
            return _Attempt(settings, root).run()


class _Attempt:
    """One trial. ``_step`` is the step that it has begun."""

    def __init__(self, settings: Settings, root: Path) -> None:
        self._settings = settings
        self._root = root
        self._step = TrialStep.PUSH
        self._blobs: list[str] = []

    def run(self) -> Trial:
        try:
            with self._cleaned(), local_registry(self._settings) as registry:
                self._try(registry)
                self._step = TrialStep.CLEANUP
        except SysregError as error:
            return Trial(TrialOutcome.FAILED, self._step, error.message, error.next_step)
        except OSError as error:
            return Trial(TrialOutcome.FAILED, TrialStep.CLEANUP, text_of(error))
        return Trial(TrialOutcome.PASSED)

    def _try(self, registry: RegistryClient) -> None:
        layer = secrets.token_bytes(_LAYER_BYTES)
        config = json.dumps({"created_by": f"sysreg {secrets.token_hex(16)}"}).encode()
        descriptors = [
            {"mediaType": "application/octet-stream", "digest": self._push(registry, data), "size": len(data)}
            for data in (config, layer)
        ]
        content = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": descriptors[0],
                "layers": descriptors[1:],
            }
        ).encode()
        manifest = RemoteManifest(OCI_MANIFEST, content)
        image = ImageReference(_REPOSITORY, digest=manifest.digest)
        self._blobs.append(manifest.digest)
        registry.put_manifest(image, manifest)
        self._step = TrialStep.PULL
        pulled = registry.manifest(image)
        pulled_layer = registry.blob(_REPOSITORY, str(descriptors[1]["digest"]))
        self._step = TrialStep.COMPARE
        if pulled != manifest or pulled_layer != layer:
            raise ProtocolError(f"{registry.where} returns other bytes than were pushed")
        self._step = TrialStep.DELETE
        if not registry.delete_manifest(image) or registry.manifest(image) is not None:
            raise ProtocolError(f"{registry.where} still has the image after its delete")

    def _push(self, registry: RegistryClient, data: bytes) -> str:
        digest = registry.put_blob(_REPOSITORY, data)
        self._blobs.append(digest)
        return digest

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
