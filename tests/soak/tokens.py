"""Mixed token load on 32 connections for a long time: no wrong answer, and memory that stays flat.

    python -m tests.soak.tokens [--minutes N]

Reads, pushes, logins, POSTs, Keystone tokens, hundreds of scopes, wrong passwords, nonsense; meanwhile the
write lock is taken for a second now and then, and the token server is told to reload.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import itertools
import random
import signal
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from devstack.controller import Controller
from devstack.options import Options
from devstack.programs import KEYSTONE, TOKEN_SERVER
from sysreg_cli.tokens.write_lock import WriteLock

CONNECTIONS = 32
_LOCK_CHECK_SECONDS = 10.0
_RELOAD_EVERY = 30.0
_WARM_UP = 3.0


@dataclass(frozen=True)
class Request:
    """One request, and the status it has to get."""

    kind: str
    expected: int
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    form: str = ""


@dataclass
class Report:
    """What was seen: answers by kind, wrong ones in words, resident memory in MiB."""

    seconds: float
    answers: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)

    @property
    def is_flat(self) -> bool:
        """Whether the second half took no more than a few percent, which is the allocator's breathing."""
        _, middle, end = self.memory
        return end <= middle * 1.05 + 2

    def __str__(self) -> str:
        total = sum(self.answers.values())
        kinds = ", ".join(f"{name} {count}" for name, count in sorted(self.answers.items()))
        start, middle, end = self.memory
        return (
            f"{total} answers in {self.seconds:.0f} s ({total / self.seconds:.0f}/s): {kinds}\n"
            f"errors: {len(self.errors)}\n"
            f"memory, MiB resident: start {start:.1f}, middle {middle:.1f}, end {end:.1f}"
        )


def run(controller: Controller, seconds: float) -> Report:
    """Load the token server of ``controller`` for ``seconds``; no error is raised for what it answers."""
    report = Report(seconds)
    choices = _requests(controller)
    stop = threading.Event()
    workers = [
        threading.Thread(target=_work, args=(controller, choices, number, stop, report))
        for number in range(CONNECTIONS)
    ]
    disturber = threading.Thread(target=_disturb, args=(controller, stop))
    for thread in (*workers, disturber):
        thread.start()
    try:
        for pause in (min(_WARM_UP, seconds / 4), seconds / 2, seconds / 2):
            time.sleep(pause)
            report.memory.append(_resident(controller.pid(TOKEN_SERVER)))
    finally:
        stop.set()
        for thread in (*workers, disturber):
            thread.join()
    return report


def _requests(controller: Controller) -> Callable[[random.Random], Request]:
    """Chooses the next request: what clients do most comes most."""

    def basic(user: str, password: str = "") -> dict[str, str]:
        pair = f"{user}:{password or controller.passwords[user]}"
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}

    def scopes(*texts: str) -> str:
        return urlencode([("service", controller.address), *(("scope", text) for text in texts)])

    own = "repository:testuser/soak:"
    form = {"grant_type": "password", "username": "testuser", "password": controller.passwords["testuser"]}
    token = controller.keystone_client("testuser").session.get_token()
    fixed = [
        (40, Request("pull", 200, scopes(own + "pull"), basic("testuser"))),
        (15, Request("push", 200, scopes(own + "push,pull"), basic("testuser"))),
        (5, Request("delete", 200, scopes(own + "*"), basic("testuser"))),
        (5, Request("login", 200, scopes(), basic("testuser2"))),
        (5, Request("post", 200, form=urlencode({**form, "scope": own + "pull"}))),
        (5, Request("catalog", 200, scopes("registry:catalog:*"), basic("admin"))),
        (
            3,
            Request("many scopes", 200, scopes(*(f"{own[:-1]}{n}:pull" for n in range(200))), basic("admin")),
        ),
        (5, Request("keystone token", 200, scopes(own + "pull"), {"X-Auth-Token": token})),
        (5, Request("wrong password", 401, scopes(own + "pull"), basic("testuser", "stale"))),
        (3, Request("nobody", 401, scopes(own + "pull"))),
        (3, Request("capitals", 403, scopes(own + "pull"), basic("Upper"))),
        (3, Request("nonsense", 400, "scope=%00%ff", basic("testuser"))),
        (2, Request("bad base64", 400, scopes(), {"Authorization": "Basic !"})),
    ]
    weights = list(itertools.accumulate(weight for weight, _ in fixed))
    pool = [request for _, request in fixed]

    def choose(source: random.Random) -> Request:
        if source.random() < 0.002:
            # few enough for the budget of refused pairs that one client has
            stranger = basic(f"ghost{source.randrange(10)}", "x")
            return Request("unknown user", 401, scopes(own + "pull"), stranger)
        return source.choices(pool, cum_weights=weights)[0]

    return choose


def _work(
    controller: Controller,
    choose: Callable[[random.Random], Request],
    number: int,
    stop: threading.Event,
    report: Report,
) -> None:
    """One connection, kept alive while the server keeps it."""
    source = random.Random(number)
    context = ssl.create_default_context(cafile=controller.paths.ca_file)
    address = urlsplit(controller.token_url).netloc
    connection = http.client.HTTPSConnection(address, context=context, timeout=60)
    while not stop.is_set():
        request = choose(source)
        try:
            if request.form:
                kind = {"Content-Type": "application/x-www-form-urlencoded"}
                connection.request("POST", "/token/", request.form, kind)
            else:
                connection.request("GET", f"/token/?{request.query}", headers=request.headers)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            report.errors.append(f"{request.kind}: {type(error).__name__}: {error}")
            connection.close()
            continue
        if answer.status != request.expected:
            report.errors.append(f"{request.kind}: {answer.status} {body[:200]!r}")
        report.answers[request.kind] += 1
    connection.close()


def _disturb(controller: Controller, stop: threading.Event) -> None:
    """A collection holds the write lock for a second; an operator reloads."""
    write_lock = WriteLock(controller.paths.state)
    for due, action in _schedule(time.monotonic()):
        if stop.wait(max(0.0, due - time.monotonic())):
            return
        if action == "write_lock":
            with write_lock.hold():
                stop.wait(1)
        else:
            controller.signal(TOKEN_SERVER, signal.SIGHUP)


def _schedule(start: float) -> Iterator[tuple[float, str]]:
    for number in itertools.count(1):
        yield start + number * _LOCK_CHECK_SECONDS, "write_lock"
        if number * _LOCK_CHECK_SECONDS % _RELOAD_EVERY == 0:
            yield start + number * _LOCK_CHECK_SECONDS, "reload"


def _resident(pid: int) -> float:
    with open(f"/proc/{pid}/status") as status:  # noqa: PTH123
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    options = parser.parse_args()
    print(f"token load on {CONNECTIONS} connections for {options.minutes:g} minutes", flush=True)
    with Controller.temporary(Options(programs=(KEYSTONE, TOKEN_SERVER))) as controller:
        report = run(controller, options.minutes * 60)
    print(report)
    for error in report.errors[:20]:
        print(f"  {error}")
    if report.errors or not report.is_flat:
        sys.exit("the token server did not stand the load")


if __name__ == "__main__":
    main()
