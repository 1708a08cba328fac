"""The process itself: TLS, signals, limits, and what it says when it can't start."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from devstack import provision
from devstack.controller import Controller
from devstack.endpoints import HOST_NAME
from devstack.waiting import wait_until
from sysreg_cli.daemon.limits import GuardedProtocol
from sysreg_cli.tokens.write_lock import WriteLock
from tests.functional.token_server.own import PROGRAM, own_server
from tests.functional.token_server.requesting import request_token


def connect(controller: Controller, **options: ssl.TLSVersion) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=controller.paths.ca_file)
    for name, value in options.items():
        setattr(context, name, value)
    plain = socket.create_connection(("127.0.0.1", controller.ports["token_server"]), timeout=30)
    return context.wrap_socket(plain, server_hostname=HOST_NAME)


def answer(connection: ssl.SSLSocket) -> bytes:
    """All that comes until the server closes the connection."""
    received = b""
    while part := connection.recv(65536):
        received += part
    return received


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
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
    assert request_token(controller, "testuser").status == 200


def test_an_oversized_body_gets_400(controller: Controller) -> None:
    head = b"POST /token/ HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    with connect(controller) as connection:
        connection.sendall(head + b"Content-Length: 70000\r\n\r\n" + b"a" * 70000)
        assert answer(connection).startswith(b"HTTP/1.1 400")


def test_a_get_with_trailers_under_way_is_answered_and_the_connection_ends(controller: Controller) -> None:
    with connect(controller) as connection:
        connection.sendall(
            b"GET /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\na:b\r\n"
        )
        assert b"connection: close" in answer(connection)


def test_a_client_that_sends_its_head_too_slowly_is_dropped(controller: Controller) -> None:
    with connect(controller) as slow, connect(controller) as idle:
        idle.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.recv(65536).startswith(b"HTTP/1.1 200")
        before = time.monotonic()
        slow.sendall(b"GET /token/ HTTP/1.1\r\n")
        idle.sendall(b"\r\n")  # begins no request
        assert answer(slow) == answer(idle) == b""
        assert time.monotonic() - before > GuardedProtocol.head_seconds - 2


def test_it_tells_its_manager_that_it_is_up_alive_and_stopping(
    controller: Controller, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        notify = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
        with own_server(controller, tmp_path, environment=notify) as server:
            assert manager.recv(100) == b"READY=1"
            assert [manager.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: manager.recv(100) == b"STOPPING=1", what="it says that it stops")
            assert server.process.wait(10) == 0


def test_it_stops_at_once_though_a_push_waits_for_the_lock(controller: Controller, tmp_path: Path) -> None:
    push = "repository:testuser/a:push"
    with own_server(controller, tmp_path) as server, ThreadPoolExecutor(1) as pool:
        assert request_token(controller, "testuser", url=server.url).status == 200
        with WriteLock(tmp_path / "state").hold():
            response = pool.submit(request_token, controller, "testuser", push, url=server.url)
            health = server.url.replace("/token/", "/health")
            wait_until(
                lambda: requests.get(health, verify=str(controller.paths.ca_file), timeout=5).json()["held"]
            )
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(10) == 0
            assert response.result(10).status == 503


def test_a_new_certificate_is_taken_without_a_restart_and_a_broken_one_is_not(
    controller: Controller, tmp_path: Path
) -> None:
    for name in ("old", "new"):
        provision.make_certificate(tmp_path / name)
    (tmp_path / "current").symlink_to("old/current")
    with own_server(controller, tmp_path, {"certificate": {"directory": str(tmp_path)}}) as server:

        def presented() -> str:
            return ssl.get_server_certificate(("127.0.0.1", server.port), timeout=10)

        old, new = ((tmp_path / name / "current" / "server.crt").read_text() for name in ("old", "new"))
        assert presented() == old
        (tmp_path / "next").symlink_to("new/current")
        (tmp_path / "next").rename(tmp_path / "current")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: presented() == new, what="the new certificate is presented")
        (tmp_path / "new" / "current" / "server.crt").write_text(old)
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "the certificate in use stays" in server.log, what="it says so")
        assert presented() == new


def test_a_new_signing_key_is_taken_without_a_restart_and_a_broken_one_is_not(
    controller: Controller, tmp_path: Path
) -> None:
    for name in ("old", "new"):
        provision.make_signing_pair(tmp_path / name / "signing.key", tmp_path / name / "signing.crt")
    (tmp_path / "old").rename(tmp_path / "token")
    pair = {
        "signing_key": f"{tmp_path}/token/signing.key",
        "signing_certificate": f"{tmp_path}/token/signing.crt",
    }
    with own_server(controller, tmp_path, {"token_server": pair}) as server:
        health = server.url.replace("/token/", "/health")

        def signs_with() -> str:
            answer = requests.get(health, verify=str(controller.paths.ca_file), timeout=5)
            return str(answer.json()["signing_key"])

        old = signs_with()
        (tmp_path / "token").rename(tmp_path / "gone")
        (tmp_path / "new").rename(tmp_path / "token")
        pem = (tmp_path / "token/signing.crt").read_bytes()
        new = x509.load_pem_x509_certificate(pem).fingerprint(SHA256()).hex()
        assert new != old
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: signs_with() == new, what="the new key signs")
        (tmp_path / "token/signing.key").write_text("no key")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "the token-signing key in use stays" in server.log, what="it says so")
        assert signs_with() == new


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
    conf.write_text(controller.paths.settings.read_text().replace(*change))
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
        env={**os.environ, "SYSREG_CONF": str(controller.paths.settings)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert f"can't listen on 127.0.0.1:{controller.ports['token_server']}" in done.stderr
    assert done.stderr.count("\n") == 1
