"""A push that meets a collection goes on after it, and sends nothing twice."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from devstack import images
from devstack.controller import Controller
from devstack.programs import REGISTRY, TOKEN_SERVER
from devstack.waiting import wait_until
from sysreg_cli import settings
from sysreg_cli.agent.garbage.collection import Collection
from sysreg_cli.agent.garbage.drain import DrainTimeouts
from sysreg_cli.agent.garbage.recorder import Recorder
from sysreg_cli.agent.garbage.writers import writing_handlers
from sysreg_cli.host.registry_config import read as read_registry_config
from sysreg_cli.tokens.write_lock import WriteLock
from sysreg_cli.v1.collections import CollectionResult
from tests.dockerd import Docker
from tests.functional.garbage.conftest import writes_ended
from tests.functional.garbage.sandbox import in_background

# By then docker has got a 503, after 12 s, and has tried again.
HELD_SECONDS = 20


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def sent(controller: Controller, repository: str) -> int:
    """Count the blobs whose content the registry got."""
    return len(re.findall(rf'"PATCH /v2/{repository}/blobs/uploads/', controller.log(REGISTRY)))


def test_docker_and_skopeo_go_on_after_writes_were_held_and_send_nothing_twice(
    registry: Controller, threads: ThreadPoolExecutor, tmp_path: Any
) -> None:
    image = images.single(20_000, layers=2)
    skopeo = ["skopeo", "copy", f"--dest-creds=admin:{registry.passwords['admin']}"]
    to = f"docker://{registry.address}/by/skopeo:1"
    with Docker(registry) as docker:
        reference = f"{registry.address}/by/docker:1"
        docker.make_image(reference, os.urandom(20_000))
        with WriteLock(registry.paths.state).hold():
            held = time.monotonic()
            pushes: list[Future[Any]] = [
                threads.submit(docker.run, "push", reference, check=False),
                threads.submit(registry.run, [*skopeo, image.write_layout(tmp_path), to]),
            ]
            while (left := held + HELD_SECONDS - time.monotonic()) > 0:
                assert not any(push.done() for push in pushes), [
                    push.result() for push in pushes if push.done()
                ]
                time.sleep(min(left, 0.2))
        for push in pushes:
            done = push.result(120)
            assert done.returncode == 0, done.stdout + done.stderr
    refused = [line for line in registry.log(TOKEN_SERVER).splitlines() if '"status":503' in line]
    assert any('"agent":"docker/' in line for line in refused)
    assert not any("skopeo" in line for line in refused)
    client = registry.client()
    assert client.is_whole("by/docker", "1")
    assert client.is_whole("by/skopeo", "1")
    assert sent(registry, "by/docker") == 2
    assert sent(registry, "by/skopeo") == 3


class SlowUpload:
    """An upload of ``firstlast`` that sends its last part when ``go_on`` is set."""

    def __init__(self, controller: Controller, repository: str, threads: ThreadPoolExecutor) -> None:
        self.go_on = threading.Event()
        client = controller.client()
        scope = f"repository:{repository}:pull,push"
        token = client.token(controller.token_url, controller.address, scope)
        bearer = {"Authorization": f"Bearer {token}"}
        begun = client.request("POST", f"/v2/{repository}/blobs/uploads/", headers=bearer)
        self.place = begun.headers["Location"]
        digest = images.digest_of(b"firstlast")
        self.answer: Future[Any] = threads.submit(
            client.request, "PUT", f"{self.place}&digest={digest}", data=self._drops(), headers=bearer
        )
        config = read_registry_config(controller.paths.registry_config)
        wait_until(lambda: writing_handlers(config), what="the upload is under way")

    def _drops(self) -> Iterator[bytes]:
        yield b"first"
        self.go_on.wait(60)
        yield b"last"


def collection_with(controller: Controller, timeouts: DrainTimeouts) -> Collection:
    configuration = settings.load(controller.paths.settings)
    recorder = Recorder(CollectionResult("1"), configuration.agent.collect_timeout)
    directory = configuration.paths.state / "garbage"
    return Collection(configuration, recorder, directory, drain_timeouts=timeouts)


def test_an_upload_that_outlasts_a_hold_keeps_no_other_push_waiting(
    registry: Controller, threads: ThreadPoolExecutor
) -> None:
    """With short timeouts of the drain. The registry determines how long a token is accepted."""
    timeouts = DrainTimeouts(limit=120, hold=4, release=2, settle=1)
    client = registry.client()
    client.push("app", "1", (gone := images.single()))
    client.delete("app", gone.digest)
    upload = SlowUpload(registry, "slow", threads)
    collection = collection_with(registry, timeouts)
    recorder = collection.recorder
    writes_ended(registry)
    thread = in_background(collection.run)
    wait_until(lambda: recorder.progress.detail.startswith("waits for the end of uploads"), pause=0.01)

    # Writes are held. A push that begins now is done before the upload ends.
    registry.client().push("other", "1", images.single())
    assert not upload.answer.done()
    assert recorder.result.outcome == ""
    writes_ended(registry)  # the drain need not wait 65 s for the token of that push

    wait_until(lambda: recorder.result.holds >= 2, 30, what="a second hold is over")
    assert not upload.answer.done()
    upload.go_on.set()
    assert upload.answer.result(30).status_code == 201
    thread.join(60)
    result = recorder.result
    assert (result.outcome, result.error) == ("done", "")
    assert result.blobs == 3
    assert result.holds >= 3
    assert result.longest_hold < 2 * timeouts.hold
    assert result.longest_hold <= result.writes_held
    assert client.is_whole("other", "1")
    assert result.pinned == 1


def test_an_upload_that_never_ends_is_named_and_ended_in_the_last_try_and_can_go_on(
    registry: Controller, threads: ThreadPoolExecutor
) -> None:
    # by default the registry waits for 10 s for requests to end when it stops
    with registry.registry_config(http={"draintimeout": "1s"}):
        end_and_go_on(registry, threads)


def end_and_go_on(registry: Controller, threads: ThreadPoolExecutor) -> None:
    client = registry.client()
    client.push("app", "1", (gone := images.single()))
    client.delete("app", gone.digest)
    upload = SlowUpload(registry, "team/slow", threads)
    writes_ended(registry)
    timeouts = DrainTimeouts(limit=20, hold=1, release=1, settle=1, pause=0.1, restart=15)
    collection = collection_with(registry, timeouts)
    thread = in_background(collection.run)
    wait_until(lambda: "; then try 2" in collection.recorder.progress.detail, pause=0.01)
    assert "(uploads under way: team/slow (for " in collection.recorder.progress.detail
    thread.join(60)
    result = collection.recorder.result
    assert (result.outcome, result.error, result.blobs) == ("done", "", 3)
    assert result.ended_writes.startswith("uploads under way: team/slow (for ")
    assert result.holds >= 2
    upload.go_on.set()
    assert upload.answer.exception(30) is not None

    # The client goes on where the registry says that it is.
    present = client.request("GET", upload.place)
    assert present.status_code == 204
    content = b"firstlast"
    there = int(present.headers["Range"].partition("-")[2]) + 1 if present.headers["Range"] != "0-0" else 0
    sent = client.request("PATCH", present.headers["Location"], data=content[there:])
    assert sent.status_code == 202
    done = client.request("PUT", f"{sent.headers['Location']}&digest={images.digest_of(content)}")
    assert done.status_code == 201
