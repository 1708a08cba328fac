"""Attacks from one address: a login from another one stays fast, root's calls too, and memory comes back.

    python -m tests.soak.attacks [--seconds N]

Addresses of 127/8 stand for different clients. The attacker has no account. Each attack lasts ``--seconds``;
a minute later the memory of the daemons is compared with that before.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import itertools
import signal
import socket
import ssl
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import psutil

from devstack.controller import Controller
from devstack.options import Options
from devstack.programs import AGENT, KEYSTONE, REGISTRY, TOKEN_SERVER
from sysreg_cli.v1 import paths
from sysreg_cli.v1.unix_socket import UnixHTTPConnection

MAX_LOGIN_SECONDS = 2.0
MAX_ROOT_SECONDS = 1.0
_ATTACKER, _HONEST = "127.0.0.66", "127.0.0.2"
_PAUSE = 0.5
_REST = 60.0
_MEMORY_GROWTH = 1.1


@dataclass
class Report:
    """What an attack did to others. Times are seconds."""

    attack: str
    #: what the attacker got, by kind
    tries: Counter[str] = field(default_factory=Counter)
    logins: list[float] = field(default_factory=list)
    calls: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    #: of each daemon, MiB: before, the highest, and after the rest
    memory: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    log_lines: int = 0

    def problems(self) -> Iterator[str]:
        """What breaks a promise."""
        yield from self.wrong
        if max(self.logins, default=0.0) > MAX_LOGIN_SECONDS:
            yield f"{self.attack}: a login took {max(self.logins):.1f} s"
        if max(self.calls, default=0.0) > MAX_ROOT_SECONDS:
            yield f"{self.attack}: a call of root took {max(self.calls):.1f} s"
        for daemon, (before, _, after) in self.memory.items():
            if after > before * _MEMORY_GROWTH:
                yield f"{self.attack}: {daemon} keeps {after:.0f} MiB, and had {before:.0f}"

    def __str__(self) -> str:
        memory = ", ".join(
            f"{daemon.partition('.')[0]} {before:.0f}/{peak:.0f}/{after:.0f} MiB"
            for daemon, (before, peak, after) in self.memory.items()
        )
        return (
            f"{self.attack}: {dict(self.tries)}, {self.log_lines} log lines\n"
            f"  {len(self.logins)} logins, slowest {max(self.logins, default=0):.2f} s;"
            f" {len(self.calls)} calls of root, slowest {max(self.calls, default=0):.2f} s; {memory}"
        )


class Users:
    """Users of Keystone, each for one login: the token server knows none of their passwords."""

    def __init__(self, controller: Controller, number: int) -> None:
        keystone = controller.keystone_admin()
        self._left = []
        for _ in range(number):
            name, password = f"u{uuid.uuid4().hex[:12]}", uuid.uuid4().hex
            keystone.users.create(name, domain="default", password=password)
            self._left.append((name, password))

    def next(self) -> tuple[str, str] | None:
        return self._left.pop() if self._left else None


def run(controller: Controller, attack: str, seconds: float, users: Users, *, rest: float = 0) -> Report:
    """Attack ``controller``, and log in and call as root meanwhile. ``rest``: how long memory may take."""
    report = Report(attack)
    stop = threading.Event()
    daemons = (TOKEN_SERVER, AGENT)
    before = {daemon: _resident(controller.pid(daemon)) for daemon in daemons}
    peak = dict(before)
    log_before = len(controller.log(TOKEN_SERVER).splitlines())
    with ThreadPoolExecutor(2) as honest, _attacking(ATTACKS[attack], controller, stop, report):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            waiting = [
                honest.submit(_log_in, controller, users, report),
                honest.submit(_call, controller, report),
            ]
            for done in waiting:
                done.result()
            for daemon in daemons:
                peak[daemon] = max(peak[daemon], _resident(controller.pid(daemon)))
            stop.wait(_PAUSE)
        stop.set()
    report.log_lines = len(controller.log(TOKEN_SERVER).splitlines()) - log_before
    if rest:
        time.sleep(rest)
        for daemon in daemons:
            report.memory[daemon] = before[daemon], peak[daemon], _resident(controller.pid(daemon))
    return report


def _log_in(controller: Controller, users: Users, report: Report) -> None:
    """A user whom the token server does not know logs in from another address."""
    user = users.next()
    if user is None:
        return
    began = time.monotonic()
    try:
        status = _ask(controller, _basic(*user), _HONEST)
    except OSError as error:
        status = type(error).__name__
    if "it answered 500" in status:
        # Keystone on SQLite fails now and then under load, whoever asks
        report.tries["500 of Keystone"] += 1
        return
    report.logins.append(time.monotonic() - began)
    if not status.startswith("200"):
        report.wrong.append(f"{report.attack}: a right login got {status}")


def _call(controller: Controller, report: Report) -> None:
    """Root lists the certificates over the unix socket."""
    began = time.monotonic()
    connection = UnixHTTPConnection(controller.paths.agent_socket, timeout=30)
    try:
        connection.request("GET", paths.CERTIFICATE)
        status = connection.getresponse().status
        if status != 200:
            report.wrong.append(f"{report.attack}: a call of root got {status}")
    except OSError as error:
        report.wrong.append(f"{report.attack}: a call of root got {type(error).__name__}")
    finally:
        connection.close()
    report.calls.append(time.monotonic() - began)


@contextlib.contextmanager
def _attacking(
    attack: tuple[Callable[[Controller, threading.Event, Report], None], int],
    controller: Controller,
    stop: threading.Event,
    report: Report,
) -> Iterator[None]:
    work, number = attack
    workers = [threading.Thread(target=work, args=(controller, stop, report)) for _ in range(number)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        stop.set()
        for worker in workers:
            worker.join()


def _wrong_pairs(controller: Controller, stop: threading.Event, report: Report) -> None:
    """Ask with a new wrong password each time, and do not wait for the response."""
    while not stop.is_set():
        try:
            status = _ask(controller, _basic("admin", uuid.uuid4().hex), _ATTACKER, timeout=0.5)
        except OSError as error:
            status = type(error).__name__
        report.tries[status] += 1


def _silence(controller: Controller, stop: threading.Event, report: Report) -> None:
    """Open connections to both daemons, as many as there are descriptors, and send nothing."""
    held: list[socket.socket] = []
    for port in itertools.cycle((controller.ports["token_server"], controller.ports["agent"])):
        if stop.is_set():
            break
        if len(held) >= 4000:
            stop.wait(_PAUSE)
            continue
        try:
            held.append(socket.create_connection(("127.0.0.1", port), 5, (_ATTACKER, 0)))
            report.tries["connected"] += 1
        except OSError as error:
            report.tries[type(error).__name__] += 1
            stop.wait(0.01)
    for connection in held:
        connection.close()


def _refusals(controller: Controller, stop: threading.Event, report: Report) -> None:
    """Get refused over one connection as fast as possible."""
    connection = _connection(controller, _ATTACKER, 30)
    while not stop.is_set():
        connection.request("GET", "/token/", headers={"User-Agent": "\x9b\x85" * 20})
        with connection.getresponse() as response:
            response.read()
            report.tries[str(response.status)] += 1
    connection.close()


def _handshakes(controller: Controller, stop: threading.Event, report: Report) -> None:
    """Connect, finish the handshake, and leave."""
    while not stop.is_set():
        try:
            connection = _connection(controller, _ATTACKER, 5)
            connection.connect()
            connection.close()
            report.tries["connected"] += 1
        except OSError as error:
            report.tries[type(error).__name__] += 1


def _tokens_while_keystone_hangs(controller: Controller, stop: threading.Event, report: Report) -> None:
    """Send unknown Keystone tokens to the agent, whose Keystone does not answer."""
    context = ssl.create_default_context(cafile=controller.paths.ca_file)
    context.check_hostname = False
    while not stop.is_set():
        connection = http.client.HTTPSConnection(
            "127.0.0.1",
            controller.ports["agent"],
            timeout=1,
            context=context,
            source_address=(_ATTACKER, 0),
        )
        try:
            connection.request("GET", paths.CERTIFICATE, headers={"X-Auth-Token": uuid.uuid4().hex})
            report.tries[str(connection.getresponse().status)] += 1
        except OSError as error:
            report.tries[type(error).__name__] += 1
        finally:
            connection.close()


#: name -> what one thread of the attacker does, and the number of threads
ATTACKS: dict[str, tuple[Callable[[Controller, threading.Event, Report], None], int]] = {
    "wrong pairs": (_wrong_pairs, 16),
    "silent connections": (_silence, 1),
    "refusals": (_refusals, 4),
    "handshakes": (_handshakes, 8),
    "tokens while Keystone hangs": (_tokens_while_keystone_hangs, 16),
}


def _connection(controller: Controller, address: str, timeout: float) -> http.client.HTTPSConnection:
    context = ssl.create_default_context(cafile=controller.paths.ca_file)
    url = urlsplit(controller.token_url)
    return http.client.HTTPSConnection(
        str(url.hostname), url.port, timeout=timeout, context=context, source_address=(address, 0)
    )


def _ask(controller: Controller, authorization: str, address: str, timeout: float = 30) -> str:
    """Ask for a token from ``address``. Return the status. Raises OSError."""
    connection = _connection(controller, address, timeout)
    try:
        connection.request("GET", "/token/", headers={"Authorization": authorization})
        response = connection.getresponse()
        return (
            str(response.status)
            if response.status in (200, 401, 429)
            else f"{response.status} {response.read()!r}"
        )
    except http.client.HTTPException as error:
        raise ConnectionError(str(error)) from error
    finally:
        connection.close()


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _resident(pid: int) -> float:
    with open(f"/proc/{pid}/status") as status:  # noqa: PTH123
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1024


def _warm_up(controller: Controller) -> None:
    """Let both daemons load what they need for the first login, so that their memory can be compared."""
    _log_in(controller, Users(controller, 1), Report("none"))
    connection = UnixHTTPConnection(controller.paths.agent_socket, timeout=30)
    connection.request("GET", paths.CERTIFICATE, headers={"X-Auth-Token": uuid.uuid4().hex})
    connection.getresponse()
    connection.close()


@contextlib.contextmanager
def hanging_keystone(controller: Controller, attack: str) -> Iterator[None]:
    """Let Keystone hang if the attack is about that."""
    keystone = psutil.Process(controller.pid(KEYSTONE))
    workers = [keystone, *keystone.children(recursive=True)] if "Keystone hangs" in attack else []
    for worker in workers:
        worker.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for worker in workers:
            worker.send_signal(signal.SIGCONT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    print(f"{len(ATTACKS)} attacks of {options.seconds:g} s and {_REST:g} s of rest each", flush=True)
    problems: list[str] = []
    with Controller.temporary(Options(programs=(KEYSTONE, REGISTRY, TOKEN_SERVER, AGENT))) as controller:
        _warm_up(controller)
        for attack in ATTACKS:
            number = 0 if "Keystone hangs" in attack else int(options.seconds / _PAUSE)
            users = Users(controller, number)
            with hanging_keystone(controller, attack):
                report = run(controller, attack, options.seconds, users, rest=_REST)
            print(report, flush=True)
            problems += report.problems()
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()
