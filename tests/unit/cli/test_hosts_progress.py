"""How far the hosts are: one line on a terminal that is gone in the end, and nothing anywhere else."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator
from typing import cast

import pytest

from devstack.waiting import wait_until
from sysreg_cli.cli import hosts_progress
from sysreg_cli.cli.agent_client import AgentClient
from sysreg_cli.cli.invocation import Invocation
from sysreg_cli.errors import Unavailable
from sysreg_cli.v1.hosts import RegistryHost, RegistryHosts

CONTROLLER = RegistryHost("controller-0", "controller", "live")


def workers(*states: str) -> list[RegistryHost]:
    return [CONTROLLER, *(RegistryHost(f"w{n}", "worker", state) for n, state in enumerate(states, 1))]


class Agent:
    """An agent whose list of hosts changes. An exception in ``answers`` is raised."""

    def __init__(self, *answers: list[RegistryHost] | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.closed = threading.Event()

    def another(self, _invocation: Invocation) -> Agent:
        return self

    def hosts(self) -> RegistryHosts:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return RegistryHosts(tuple(answer))

    def close(self) -> None:
        self.closed.set()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return Terminal()


@contextlib.contextmanager
def shown(agent: Agent, terminal: Terminal, *, until: threading.Event | None = None) -> Iterator[None]:
    """What the command does. With ``until``, the terminal stays there after its end until the event."""
    with contextlib.redirect_stderr(terminal):
        with hosts_progress.shown(cast("AgentClient", agent), Invocation(), pause=0.005):
            yield
        if until:
            until.set()
            assert agent.closed.wait(10)


def test_the_line_follows_the_hosts_and_is_gone_in_the_end(terminal: Terminal) -> None:
    agent = Agent(workers("trusted", "behind"), Unavailable("busy"), workers("live", "live"))
    with shown(agent, terminal):
        wait_until(lambda: "2 of 2 hosts live" in terminal.getvalue(), what="both are live")
    assert agent.closed.wait(10)
    first, *_, erased = terminal.getvalue().split("\r\x1b[K")[1:]
    assert first == "0 of 2 hosts live; behind: w2; trusted: w1"
    assert erased == ""
    assert "\n" not in terminal.getvalue()


def test_a_line_is_never_longer_than_the_terminal(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    agent = Agent(workers(*["behind"] * 50))
    with shown(agent, terminal):
        wait_until(terminal.getvalue, what="the line is shown")
    assert all(len(line) <= 19 for line in terminal.getvalue().split("\r\x1b[K"))


def test_a_controller_that_is_alone_shows_nothing(terminal: Terminal) -> None:
    agent = Agent([CONTROLLER])
    with shown(agent, terminal):
        assert agent.closed.wait(10)
    assert (agent.asked, terminal.getvalue()) == (1, "")


@pytest.mark.parametrize("term", ["dumb", None])
def test_scripts_and_dumb_terminals_get_nothing(
    terminal: Terminal, term: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = Agent(workers("live"))
    if term:
        monkeypatch.setenv("TERM", term)
    else:
        monkeypatch.setattr(terminal, "isatty", lambda: False)
    with shown(agent, terminal):
        pass
    assert (agent.asked, terminal.getvalue()) == (0, "")


def test_a_look_that_hangs_does_not_hold_up_the_command_and_writes_nothing_late(terminal: Terminal) -> None:
    agent, go_on, asked = Agent(workers("behind")), threading.Event(), threading.Event()
    hosts = agent.hosts

    def hang() -> RegistryHosts:
        asked.set()
        go_on.wait(30)
        return hosts()

    agent.hosts = hang  # type: ignore[method-assign]
    with shown(agent, terminal, until=go_on):
        assert asked.wait(10)
    assert terminal.getvalue() == ""
