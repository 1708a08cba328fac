"""The process itself: TLS, signals, limits, and what it says when it can't start."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from devstack import keys
from devstack.controller import KEYSTONE, TOKEN_SERVER, Controller
from devstack.ports import free_ports
from devstack.waiting import wait_until
from sysreg_cli.token_server import limits
from tests.functional.token_server.asking import ask

PROGRAM = Path(sys.executable).with_name("sysreg-token-server")


def connect(controller: Controller, **options: ssl.TLSVersion) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=controller.ca_file)
    for name, value in options.items():
        setattr(context, name, value)
    plain = socket.create_connection(("127.0.0.1", controller.ports["token_server"]), timeout=30)
    return context.wrap_socket(plain, server_hostname=keys.HOST_NAME)


def answer(connection: ssl.SSLSocket) -> bytes:
    """All that comes until the server closes the connection."""
    received = b""
    while part := connection.recv(65536):
        received += part
    return received


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_tls_is_1_2_or_later(controller: Controller) -> None:
    with connect(controller, maximum_version=ssl.TLSVersion.TLSv1_2) as connection:
        assert connection.version() == "TLSv1.2"
    with pytest.raises(ssl.SSLError):
        connect(
            controller, minimum_version=ssl.TLSVersion.TLSv1, maximum_version=ssl.TLSVersion.TLSv1_1
        ).close()


@pytest.mark.parametrize(
    "head",
    [
        b"GET /token/?scope=" + b"a" * 300_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /token/ HTTP/1.1\r\n" + b"X-Filler: " + b"y" * 300_000,
        b"GET /token/ HTTP/1.1\r\n" + b"X: y\r\n" * 50_000,
        b"\x00\x01\x02\x03\r\n\r\n",
        b"GET /token/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["long query", "endless header", "many headers", "binary", "no ASCII"],
)
def test_a_malformed_or_oversized_head_gets_400_and_the_connection_ends(
    controller: Controller, head: bytes
) -> None:
    with connect(controller) as connection:
        try:
            connection.sendall(head)
            received = answer(connection)
        except ConnectionError:
            received = b""
    # The rest of what was sent may make the kernel reset the connection before the answer is read.
    assert received[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 404", b"")
    assert ask(controller, "testuser").status == 200


def test_an_oversized_body_gets_400(controller: Controller) -> None:
    head = b"POST /token/ HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    with connect(controller) as connection:
        connection.sendall(head + b"Content-Length: 70000\r\n\r\n" + b"a" * 70000)
        assert answer(connection).startswith(b"HTTP/1.1 400")


def test_a_client_that_sends_its_head_too_slowly_is_dropped(controller: Controller) -> None:
    with connect(controller) as connection:
        before = time.monotonic()
        connection.sendall(b"GET /token/ HTTP/1.1\r\n")
        assert answer(connection) == b""
        assert limits.HEAD_SECONDS - 2 < time.monotonic() - before < limits.HEAD_SECONDS + 5


# A token server of a test's own


@contextmanager
def own_server(controller: Controller, directory: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another token server beside the controller's, and the socket on which it notifies its manager."""
    (port,) = free_ports(1)
    text = controller.settings.read_text()
    conf = directory / "sysreg.conf"
    keys.write_tls(directory / "tls", group=0)
    lines = []
    for line in text.splitlines():
        key = line.partition("=")[0].strip()
        if line == f"port = {controller.ports['token_server']}":
            line = f"port = {port}"
        elif key == "directory":
            line = f"directory = {directory}/tls"
        elif key == "state":
            line = f"state = {directory}/state"
        lines.append(line)
    conf.write_text("\n".join(lines))
    (directory / "state").mkdir()
    address = directory / "notify"
    process = subprocess.Popen(
        [PROGRAM],
        env={
            **os.environ,
            "SYSREG_CONF": str(conf),
            "NOTIFY_SOCKET": str(address),
            "WATCHDOG_USEC": "400000",
        },
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process, address
    finally:
        process.kill()
        process.communicate()


def test_it_tells_its_manager_that_it_is_up_alive_and_stopping(
    controller: Controller, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        with own_server(controller, tmp_path) as (process, _):
            assert manager.recv(100) == b"READY=1"
            assert [manager.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: manager.recv(100) == b"STOPPING=1", what="it says that it stops")
            assert process.wait(10) == 0


def test_a_new_certificate_is_taken_without_a_restart_and_a_broken_one_is_not(
    new_controller: Callable[..., AbstractContextManager[Controller]], tmp_path: Path
) -> None:
    with new_controller(programs=(KEYSTONE, TOKEN_SERVER)) as controller:
        pid = controller.pid(TOKEN_SERVER)

        def presented() -> str:
            return ssl.get_server_certificate(("127.0.0.1", controller.ports["token_server"]), timeout=10)

        old = presented()
        keys.write_tls(tmp_path, group=0)
        link = controller.tls / "new"
        link.symlink_to(tmp_path / "generations" / "first")
        link.rename(controller.tls / "current")
        controller.signal(TOKEN_SERVER, signal.SIGHUP)
        wait_until(lambda: presented() != old, what="the new certificate is presented")
        new = presented()
        (tmp_path / "current" / "server.crt").write_text(old)
        controller.signal(TOKEN_SERVER, signal.SIGHUP)
        wait_until(lambda: "the certificate in use stays" in controller.log(TOKEN_SERVER), what="it says so")
        assert presented() == new
        assert controller.pid(TOKEN_SERVER) == pid


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("signing.key", "nowhere.key"), "no token can be signed"),
        (("/tls", "/nowhere"), "no TLS certificate"),
        (("auth_url", "auth_uri"), "unknown key auth_uri"),
    ],
)
def test_what_it_can_t_start_with_is_one_line(
    controller: Controller, tmp_path: Path, change: tuple[str, str], says: str
) -> None:
    conf = tmp_path / "sysreg.conf"
    conf.write_text(controller.settings.read_text().replace(*change))
    done = subprocess.run(
        [PROGRAM],
        env={**os.environ, "SYSREG_CONF": str(conf)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_one_line(controller: Controller) -> None:
    done = subprocess.run(
        [PROGRAM],
        env={**os.environ, "SYSREG_CONF": str(controller.settings)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert f"can't listen on 127.0.0.1:{controller.ports['token_server']}" in done.stderr
    assert done.stderr.count("\n") == 1
