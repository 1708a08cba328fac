"""The write lock on a running token server: pulls go on, pushes wait as long as their client can."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from devstack.controller import Controller
from devstack.images import single
from devstack.waiting import wait_until
from sysreg_cli.tokens.write_lock import WriteLock
from tests.functional.token_server.requesting import TokenResponse, request_token

PUSH = "repository:testuser/locked:push,pull"
PULL = "repository:testuser/locked:pull"


@contextmanager
def held(controller: Controller) -> Iterator[None]:
    """The write lock is held, as during a garbage collection."""
    with WriteLock(controller.paths.state).hold():
        yield


def waiting(controller: Controller) -> int:
    url = controller.token_url.replace("/token/", "/health")
    return int(requests.get(url, verify=str(controller.paths.ca_file), timeout=10).json()["held"])


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def test_a_push_waits_and_goes_on_when_the_write_lock_falls(
    controller: Controller, threads: ThreadPoolExecutor
) -> None:
    request_token(controller, "testuser")
    with held(controller):
        pushes: list[Future[TokenResponse]] = [
            threads.submit(request_token, controller, "testuser", PUSH) for _ in range(5)
        ]
        wait_until(lambda: waiting(controller) == 5, what="five requests are held")
        assert request_token(controller, "testuser", PULL).access == [PULL]
        assert not any(push.done() for push in pushes)
    assert [push.result(10).access for push in pushes] == [[PUSH]] * 5
    assert waiting(controller) == 0


def test_docker_is_answered_before_it_gives_up_and_told_why(controller: Controller) -> None:
    request_token(controller, "testuser")
    with held(controller):
        before = time.monotonic()
        response = request_token(controller, "testuser", PUSH, agent="docker/28.2.0 go/go1.23 kernel/6.1")
        waited = time.monotonic() - before
    assert response.status == 503
    assert int(response.http.headers["Retry-After"]) > 0
    assert "garbage is collected" in response.message
    # docker gives up after 15 s.
    assert 11 < waited < 14


def test_a_client_that_leaves_is_forgotten(controller: Controller) -> None:
    request_token(controller, "testuser")
    with held(controller):
        with pytest.raises(requests.ReadTimeout):
            request_token(controller, "testuser", PUSH, timeout=1)
        wait_until(lambda: waiting(controller) == 0, 5, what="the request of the client that left is dropped")


def test_skopeo_pushes_across_a_collection(
    controller: Controller, threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    place = f"docker://{controller.address}/testuser/locked:1"
    words = ["skopeo", "copy", "--dest-creds", f"testuser:{controller.passwords['testuser']}"]
    with held(controller):
        push = threads.submit(controller.run, [*words, single().write_layout(tmp_path), place])
        wait_until(lambda: waiting(controller) > 0, what="skopeo waits")
        assert not push.done()
    done = push.result(60)
    assert done.returncode == 0, done.stderr
    assert controller.client("testuser").is_whole("testuser/locked", "1")


def test_every_write_token_is_on_record_before_it_leaves(controller: Controller) -> None:
    write_lock = WriteLock(controller.paths.state)
    for _ in range(3):
        response = request_token(controller, "testuser", PUSH)
        assert response.claims["iat"] <= write_lock.latest_write() <= time.time()
        assert response.claims["exp"] == response.claims["iat"] + 5
    latest = write_lock.latest_write()
    request_token(controller, "testuser", PULL)
    assert write_lock.latest_write() == latest
