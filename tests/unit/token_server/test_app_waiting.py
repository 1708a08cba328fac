"""Requests that wait, for Keystone or for the write lock, and the clients beside them."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from sysreg_cli.errors import NotAuthenticated
from sysreg_cli.token_server.credentials import Credentials
from sysreg_cli.token_server.keystone import Authentication
from sysreg_cli.tokens.write_lock import WriteLock
from tests.unit.token_server.asgi import Response, Server, basic
from tests.unit.token_server.fakes import PULL, PUSH, keystone, message, run

# One client must not keep the others from Keystone


class SlowKeystone:
    """Answers nothing until it is told to."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.asked: list[str] = []

    def __call__(self, credentials: Credentials) -> Authentication:
        self.asked.append(credentials.secret)
        assert self.open.wait(20)
        return keystone(credentials)


def test_wrong_pairs_of_one_client_do_not_delay_another_client(server: Server) -> None:
    slow = server.keystone.answer = SlowKeystone()

    async def story() -> None:
        flood = [
            asyncio.create_task(server.get(PULL, basic("testuser", f"wrong{number}"))) for number in range(30)
        ]
        while len(slow.asked) < 2:
            await asyncio.sleep(0.005)
        login = asyncio.create_task(server.get(PULL, basic("other"), client="192.0.2.2"))
        while "right" not in slow.asked:
            await asyncio.sleep(0.005)
        assert len(slow.asked) == 3
        slow.open.set()
        assert (await login).status == 200
        assert {response.status for response in await asyncio.gather(*flood)} == {401}

    asyncio.run(asyncio.wait_for(story(), 20))


@pytest.mark.parametrize(
    ("clients", "another"),
    [
        (["192.0.2.1"], "192.0.2.2"),
        (["::ffff:192.0.2.1", "192.0.2.1"], "::ffff:192.0.2.2"),
        (["2001:db8::1", "2001:db8::2", "2001:db8::ffff:3"], "2001:db8:0:1::1"),
    ],
    ids=["IPv4", "IPv4 on a listener for both", "IPv6 /64"],
)
def test_a_client_that_is_refused_too_often_gets_429_and_keystone_is_not_asked(
    server: Server, clients: list[str], another: str
) -> None:
    def log_in(number: int, client: str, secret: str = "") -> Response:
        pair = basic("testuser", secret or f"wrong{number}")
        return run(server.get(PULL, pair, client=client))

    statuses = [log_in(number, clients[number % len(clients)]).status for number in range(60)]
    assert statuses == [401] * 30 + [429] * 30
    assert len(server.keystone.asked) == 30
    late = log_in(60, clients[0])
    assert "Keystone refused too many logins from" in message(late)
    assert int(late.headers["retry-after"]) > 0
    assert log_in(0, clients[0]).status == 401
    assert log_in(0, another, "right").status == 200
    assert log_in(0, clients[0], "right").status == 200
    server.authenticator.forget_refusals()
    assert log_in(61, clients[0]).status == 401


def test_a_pair_that_was_right_once_is_asked_for_even_if_its_client_is_refused_too_often(
    tmp_path: Path,
) -> None:
    server = Server(tmp_path, keystone, cache_ttl=0)
    assert run(server.get(PULL, basic("testuser"))).status == 200
    for number in range(60):
        run(server.get(PULL, basic("testuser", f"wrong{number}")))
    assert run(server.get(PULL, basic("testuser"))).status == 200
    assert run(server.get(PULL, basic("testuser2"))).status == 429

    def changed(credentials: Credentials) -> Authentication:
        raise NotAuthenticated("Keystone refused the user or the password")

    server.keystone.answer = changed
    assert run(server.get(PULL, basic("testuser"))).status == 401
    server.authenticator.forget_refusals()


def test_a_pair_that_was_right_once_goes_first(tmp_path: Path) -> None:
    server = Server(tmp_path, keystone, cache_ttl=0)
    assert run(server.get(PULL, basic("testuser"))).status == 200
    slow = server.keystone.answer = SlowKeystone()

    async def story() -> None:
        flood = [
            asyncio.create_task(server.get(PULL, basic("testuser", "wrong"), client=f"192.0.2.{number}"))
            for number in range(1, 5)
        ] + [
            asyncio.create_task(
                server.get(PULL, basic("testuser", f"wrong{number}"), client=f"192.0.2.{number}")
            )
            for number in range(1, 40)
        ]
        while len(slow.asked) < 12:
            await asyncio.sleep(0.005)
        login = asyncio.create_task(server.get(PULL, basic("testuser"), client="192.0.2.1"))
        while "right" not in slow.asked:
            await asyncio.sleep(0.005)
        slow.open.set()
        assert (await login).status == 200
        await asyncio.gather(*flood)

    asyncio.run(asyncio.wait_for(story(), 20))


def test_keystone_is_not_asked_for_a_client_that_has_left(server: Server) -> None:
    slow = server.keystone.answer = SlowKeystone()

    async def story() -> None:
        leave = asyncio.Event()
        gone = [
            asyncio.create_task(server.get(PULL, basic("testuser", f"wrong{number}"), leave=leave))
            for number in range(20)
        ]
        stays = asyncio.create_task(server.get(PULL, basic("testuser", "wrong19")))
        while len(slow.asked) < 2:
            await asyncio.sleep(0.005)
        leave.set()
        await asyncio.gather(*gone)
        slow.open.set()
        assert (await stays).status == 401
        assert (await server.get(PULL, basic("testuser"))).status == 200
        assert slow.asked == ["wrong0", "wrong1", "wrong19", "right"]

    asyncio.run(asyncio.wait_for(story(), 20))


# The write lock


def test_pulls_go_on_and_pushes_wait_while_the_write_lock_is_held(server: Server, tmp_path: Path) -> None:
    async def story() -> None:
        with WriteLock(tmp_path).hold():
            push = asyncio.create_task(server.get(PUSH, basic("testuser")))
            while server.issuer.waiting == 0:
                await asyncio.sleep(0.01)
            assert (await server.get(PULL, basic("testuser"))).status == 200
            assert not push.done()
        response = await asyncio.wait_for(push, 5)
        assert response.access() == ["repository:testuser/a:push,pull"]
        assert server.issuer.waiting == 0

    asyncio.run(asyncio.wait_for(story(), 20))


@pytest.mark.parametrize("agent", ["docker/28.2.0 go/go1.23", "skopeo/1.9", ""])
def test_who_waits_too_long_is_told_to_come_back(tmp_path: Path, agent: str) -> None:
    docker_wait, other_wait = (0.2, 300) if agent.startswith("docker/") else (300, 0.2)
    server = Server(tmp_path, keystone, docker_wait=docker_wait, other_wait=other_wait)

    async def story() -> None:
        before = asyncio.get_running_loop().time()
        with WriteLock(tmp_path).hold():
            response = await server.get(PUSH, basic("testuser"), (b"user-agent", agent.encode()))
        assert response.status == 503
        assert int(response.headers["retry-after"]) > 0
        assert "garbage is collected" in message(response)
        assert asyncio.get_running_loop().time() - before >= 0.2

    asyncio.run(asyncio.wait_for(story(), 20))


def test_a_client_that_leaves_is_waited_for_no_longer(server: Server, tmp_path: Path) -> None:
    async def story() -> None:
        with WriteLock(tmp_path).hold():
            leave = asyncio.Event()
            push = asyncio.create_task(server.get(PUSH, basic("testuser"), leave=leave))
            while server.issuer.waiting == 0:
                await asyncio.sleep(0.01)
            leave.set()
            await asyncio.wait_for(push, 5)
            assert server.issuer.waiting == 0

    asyncio.run(asyncio.wait_for(story(), 20))


def test_a_stopping_server_sends_the_waiting_away(server: Server, tmp_path: Path) -> None:
    async def story() -> None:
        with WriteLock(tmp_path).hold():
            push = asyncio.create_task(server.get(PUSH, basic("testuser")))
            while server.issuer.waiting == 0:
                await asyncio.sleep(0.01)
            server.issuer.end_waits()
            assert (await asyncio.wait_for(push, 5)).status == 503

    asyncio.run(asyncio.wait_for(story(), 20))


def test_without_a_usable_write_lock_only_reads_are_served(server: Server, tmp_path: Path) -> None:
    (tmp_path / "write-fence").mkdir()
    assert run(server.get(PUSH, basic("testuser"))).status == 503
    assert run(server.get(PULL, basic("testuser"))).status == 200
