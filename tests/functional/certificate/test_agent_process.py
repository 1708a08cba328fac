"""The agent as a process: its socket, how systemd starts and watches it, and odd requests.

The agent refuses each request here before it touches a service.
"""

from __future__ import annotations

import contextlib
import grp
import json
import os
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devstack.commands import BIN
from devstack.waiting import wait_until
from tests.functional.certificate.breakable import INSTALL

GROUP = "nogroup"


class Agent:
    """One agent process with settings of its own."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "run" / "agent.sock"
        self.log = directory / "log"
        self.settings = directory / "sysreg.conf"
        self.settings.write_text(
            f"[agent]\nsocket = {self.socket}\ngroup = {GROUP}\n"
            "restart_command = false\nreload_command = false\n"
            f"[certificate]\ndirectory = {directory}/tls\n"
            f"[paths]\nstate = {directory}/state\nsystem_trust = {directory}/ca\n"
            "system_trust_command = true\n"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, arguments: tuple[str, ...] = (), **options: Any) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "SYSREG_CONF": str(self.settings),
            **options.pop("env", {}),
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*arguments, str(BIN / "sysreg-agent")], env=environment, stdout=log, stderr=log, **options
            )

    def wait(self) -> None:
        wait_until(lambda: self.curl("/health")[0] == 200, 30, what="the agent serves")

    def curl(self, path: str, *arguments: str, data: bytes = b"") -> tuple[int, Any]:
        done = subprocess.run(
            [
                *("curl", "-s", "--max-time", "60", "--unix-socket", self.socket, "-w", "\n%{http_code}"),
                *(*arguments, f"http://agent{path}"),
            ],
            input=data,
            capture_output=True,
            timeout=90,
        )
        body, _, status = done.stdout.rpartition(b"\n")
        return int(status), json.loads(body) if body else None

    def fault(self, path: str, *arguments: str, data: bytes = b"") -> tuple[int, str]:
        status, body = self.curl(path, *arguments, data=data)
        fault = json.loads(body["error_message"])
        assert set(fault) == {"faultstring", "faultcode", "debuginfo"}
        assert fault["faultcode"] == ("Client" if status < 500 else "Server")
        assert body["error"] == fault["faultstring"], "StarlingX's client takes no `error` for success"
        return status, fault["faultstring"]

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(tmp_path)
    yield agent
    if agent.process is not None and agent.process.poll() is None:
        agent.process.kill()
        agent.process.wait()


@pytest.fixture
def serving(agent: Agent) -> Agent:
    agent.start()
    agent.wait()
    return agent


def test_only_root_and_the_group_can_connect_and_the_socket_goes_with_the_agent(serving: Agent) -> None:
    status = serving.socket.stat()
    assert stat.S_IMODE(status.st_mode) == 0o660
    assert (status.st_uid, status.st_gid) == (0, grp.getgrnam(GROUP).gr_gid)
    assert [path.name for path in serving.socket.parent.iterdir()] == ["agent.sock"]
    assert serving.stop() == 0
    assert not serving.socket.exists()


def test_a_killed_agents_socket_is_no_obstacle(serving: Agent) -> None:
    assert serving.process is not None
    serving.process.kill()
    serving.process.wait()
    assert serving.socket.exists()
    serving.start()
    serving.wait()


def test_systemd_hands_over_the_socket_and_hears_that_the_agent_is_ready_alive_and_stopping(
    agent: Agent, tmp_path: Path
) -> None:
    agent.socket.parent.mkdir()
    with (
        socket.socket(socket.AF_UNIX) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
    ):
        listener.bind(str(agent.socket))
        listener.listen()
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        inode = agent.socket.stat().st_ino
        # as systemd does it: the socket is descriptor 3, and LISTEN_PID is the process itself
        agent.start(
            ("bash", "-c", 'exec 3<&"$0"; LISTEN_PID=$$ exec "$@"', str(listener.fileno())),
            pass_fds=[listener.fileno()],
            env={
                "LISTEN_FDS": "1",
                "NOTIFY_SOCKET": str(tmp_path / "notify"),
                "WATCHDOG_USEC": "200000",
            },
        )
        assert manager.recv(100) == b"EXTEND_TIMEOUT_USEC=600000000"
        assert manager.recv(100) == b"READY=1"
        assert [manager.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        agent.wait()
        assert agent.stop() == 0
        messages = []
        with contextlib.suppress(BlockingIOError):
            manager.setblocking(False)
            while True:
                messages.append(manager.recv(100))
        assert b"STOPPING=1" in messages
        assert agent.socket.stat().st_ino == inode, "the socket is systemd's, and stays"


def test_settings_that_are_wrong_are_all_named_and_nothing_starts(agent: Agent) -> None:
    agent.settings.write_text("[agent]\nsocket = relative\nprobe_timeout = soon\n")
    agent.start()
    assert agent.process is not None
    assert agent.process.wait(30) == 1
    message = agent.log.read_text()
    assert "sysreg.conf:2: socket" in message
    assert "sysreg.conf:3: probe_timeout" in message
    assert "Traceback" not in message


def test_a_group_that_does_not_exist_is_named(agent: Agent) -> None:
    agent.settings.write_text(agent.settings.read_text().replace(GROUP, "no-such-group"))
    agent.start()
    assert agent.process is not None
    assert agent.process.wait(30) == 1
    assert "the unix group no-such-group" in agent.log.read_text()


def test_old_clients_forms_are_understood(serving: Agent) -> None:
    # a trailing slash, force, unknown fields, any file name, fields after the file
    form = (
        "-F",
        "file=@-;filename=../../x",
        "-F",
        "force=true",
        "-F",
        "colour=blue",
        "-F",
        "mode=docker_registry",
    )
    status, response = serving.curl(f"{INSTALL}/", *form, data=b"nonsense")
    assert status == 200
    assert response["success"] == response["body"] == ""
    assert isinstance(response["error"], str)
    assert "certificate refused" in response["error"]
    assert response["certificates"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-F", "mode=docker_registry"), "`file` is missing"),
        (("-F", "file=x"), "`mode` has to be"),
        (("-F", "file=x", "-F", "mode=tpm_mode"), "`mode` has to be"),
        (("-X", "POST", "-H", "Content-Type: multipart/form-data"), "boundary|file"),
        (("-d", "mode=docker_registry"), "`file` is missing"),
    ],
)
def test_a_form_that_makes_no_sense_is_a_400_that_says_why(
    serving: Agent, arguments: tuple[str, ...], message: str
) -> None:
    status, reason = serving.fault(INSTALL, *arguments)
    assert status == 400
    assert any(part in reason for part in message.split("|")), reason


def test_what_is_too_long_is_refused_with_and_without_a_length(serving: Agent) -> None:
    long = b"x" * 1_400_000
    form = ("-F", "mode=ssl_ca", "-F", "file=@-", "-H", "Expect:")
    assert serving.fault(INSTALL, *form, data=long)[0] == 413
    chunked = ("-H", "Transfer-Encoding: chunked", "-H", "Content-Type: multipart/form-data; boundary=b")
    framed = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n' + long + b"\r\n--b--\r\n"
    )
    assert serving.fault(INSTALL, *chunked, "--data-binary", "@-", data=framed)[0] == 413
    # 1 MiB and a byte get through, and are refused as a certificate
    status, response = serving.curl(INSTALL, *form, data=b"x" * (1024 * 1024 + 1))
    assert (status, "1024 KiB" in response["error"]) == (200, True)


def test_unknown_paths_and_methods_have_the_same_error_body(serving: Agent) -> None:
    assert serving.fault("/v1/nothing")[0] == 404
    assert serving.fault("/v1/certificate/none")[0] == 404
    assert serving.fault(INSTALL, "-X", "PUT")[0] == 405


def test_a_file_that_cannot_be_read_is_named_without_a_traceback(serving: Agent, tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls" / "current").symlink_to("generations/000001")
    status, message = serving.fault("/v1/certificate")
    assert status == 500
    assert "certificate list failed: " in message
    assert "000001/server.crt: No such file or directory" in message
    assert "Traceback" not in serving.log.read_text()


def test_every_call_that_may_change_something_is_one_audit_line(serving: Agent) -> None:
    serving.curl(INSTALL, "-F", "mode=docker_registry", "-F", "file=x")
    serving.fault(INSTALL, "-F", "mode=a\nsysreg.audit: forged", "-F", "file=x")
    serving.fault(INSTALL, "-H", "X-Auth-Token;")  # sent, and empty
    serving.curl("/v1/certificate")
    lines = [line for line in serving.log.read_text().splitlines() if line.startswith("sysreg.audit: ")]
    assert len(lines) == 3
    assert lines[0].startswith("sysreg.audit: certificate install docker_registry by root (uid 0 pid ")
    assert "refused: certificate refused" in lines[0]
    assert lines[0].endswith(" s)")
    assert "by nobody (uid 0" in lines[2]


def test_a_reload_keeps_the_agent_and_its_connections(serving: Agent) -> None:
    assert serving.process is not None
    serving.process.send_signal(signal.SIGHUP)
    serving.wait()
    assert serving.process.poll() is None


def test_a_stop_lets_the_call_under_way_finish(serving: Agent) -> None:
    """Half of a form has arrived when the agent is told to stop. It accepts the other half, and responds."""
    body = (
        b'--b\r\nContent-Disposition: form-data; name="mode"\r\n\r\ndocker_registry\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nnonsense\r\n--b--\r\n'
    )
    head = (
        f"POST {INSTALL} HTTP/1.1\r\nHost: agent\r\nContent-Length: {len(body)}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    ).encode()
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(serving.socket))
        client.sendall(head + body[:40])
        wait_until(lambda: serving.curl("/health")[0] == 200, 10, what="the agent has read the first half")
        assert serving.process is not None
        serving.process.terminate()
        wait_until(lambda: not _connects(serving.socket), 10, what="the agent accepts no more")
        client.sendall(body[40:])
        response = b"".join(iter(lambda: client.recv(65536), b""))
        assert b"certificate refused" in response
    assert serving.process.wait(30) == 0


def _connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True
