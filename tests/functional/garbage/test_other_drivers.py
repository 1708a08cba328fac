"""A storage that can't be read directly: the plan is the collector's dry run.

Once with the registry's S3 driver, on moto's server; for the rest a program of ours speaks the lines of the
collector (2.8.2).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from devstack import images
from devstack.controller import Controller
from devstack.ports import free_ports
from devstack.waiting import wait_until
from tests.functional.garbage.conftest import collect, collected, writes_ended
from tests.functional.garbage.sandbox import Sandbox

_COLLECTOR = """#!/bin/sh
echo "app"
echo "app: marking manifest sha256:{one} "
echo "app: marking blob sha256:{two}"
echo
echo "2 blobs marked, 1 blobs and 0 manifests eligible for deletion"
echo "blob eligible for deletion: sha256:{three}"
[ "$2" = --dry-run ] || touch {swept}
"""


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    made = Sandbox(tmp_path)
    made.config.write_text(made.config.read_text().replace("filesystem", "s3"))
    digests = {name: str(number) * 64 for number, name in enumerate(("one", "two", "three"))}
    made.program(monkeypatch, _COLLECTOR.format(**digests, swept=tmp_path / "swept"))
    return made


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[dict[str, object]]:
    """Yield the parameters of the registry's S3 driver for an empty bucket."""
    (port,) = free_ports(1)
    endpoint = f"http://127.0.0.1:{port}"
    with (tmp_path / "moto.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log
        )
    try:
        wait_until(lambda: requests.put(f"{endpoint}/images", timeout=5).ok, 60, what="moto answers")
        yield {"region": "us-east-1", "regionendpoint": endpoint, "bucket": "images", "secure": False} | {
            "accesskey": "any",
            "secretkey": "any",
        }
    finally:
        server.terminate()
        server.wait(30)


def test_images_on_s3_are_collected_as_the_dry_run_said(
    registry: Controller, bucket: dict[str, object]
) -> None:
    with registry.registry_config(storage={"filesystem": None, "s3": bucket}):
        client = registry.client()
        client.push("app", "1", (gone := images.single()))
        client.push("app", "2", images.single())
        client.delete("app", gone.digest).raise_for_status()

        asked = collect(registry, "--dry-run", "-f", "json", "--grace", "0")
        (planned,) = json.loads(asked.stdout)
        assert {blob["digest"] for blob in planned["plan"]["blobs"]} == {
            gone.digest,
            *map(images.digest_of, gone.blobs),
        }
        assert client.request("HEAD", f"/v2/app/blobs/{images.digest_of(gone.blobs[0])}").ok

        refused = collect(registry)
        assert refused.returncode == 1
        assert "--grace 0" in refused.stderr
        report = collected(registry, "--grace", "0")
        assert (report["blobs"], report["bytes"]) == (3, None)
        assert client.request("HEAD", f"/v2/app/blobs/{images.digest_of(gone.blobs[0])}").status_code == 404
        assert client.is_whole("app", "2")
        client.push("app", "1", gone)
        assert client.is_whole("app", "1")
        writes_ended(registry)
        assert collected(registry, "--grace", "0")["blobs"] == 0


def swept(sandbox: Sandbox) -> bool:
    return (sandbox.root / "swept").exists()


def test_a_dry_run_lists_what_the_collector_would_delete(sandbox: Sandbox) -> None:
    collection = sandbox.collection(dry_run=True)
    result = collection.run()
    assert (result.outcome, result.blobs, result.sizes_known) == ("done", 1, False)
    assert list(collection.plan.blobs) == ["sha256:" + "2" * 64]
    assert not swept(sandbox)


def test_nothing_is_swept_while_pushes_under_way_cannot_be_told_from_garbage(sandbox: Sandbox) -> None:
    result = sandbox.collect()
    assert "--grace 0" in result.error
    assert not swept(sandbox)


def test_with_no_grace_time_it_is_swept_and_counted(sandbox: Sandbox) -> None:
    result = sandbox.collect(grace=0)
    assert (result.outcome, result.blobs) == ("done", 1)
    assert swept(sandbox)
    assert sandbox.writes_are_open


def test_the_registrys_own_delete_untagged_is_never_used(sandbox: Sandbox) -> None:
    result = sandbox.collect(grace=0, delete_untagged=True)
    assert "destroys multi-arch images" in result.error
    assert not swept(sandbox)


def test_a_cache_that_no_restart_empties_is_refused(sandbox: Sandbox) -> None:
    sandbox.write_config(", cache: {blobdescriptor: redis}")
    sandbox.config.write_text(sandbox.config.read_text().replace("filesystem", "s3"))
    assert "outlives a restart" in sandbox.collect(grace=0).error
    assert not swept(sandbox)
