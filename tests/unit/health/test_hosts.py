"""The check of the hosts of a cluster: which states are a warning and which a failure, and the remedies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from sysreg_cli.addresses import HostPort
from sysreg_cli.cluster.judgement import State
from sysreg_cli.errors import NotAuthenticated, NotAuthorized, SysregError, Unavailable
from sysreg_cli.health import hosts
from sysreg_cli.health.readings import Readings
from sysreg_cli.health.results import Result, Skipped, Status
from sysreg_cli.settings import ClusterSettings, Settings
from sysreg_cli.v1 import collections
from sysreg_cli.v1.hosts import RegistryHost, RegistryHosts

ETCD = HostPort("192.0.2.1", 2379)
ELSEWHERE = Settings(cluster=ClusterSettings(endpoints=(ETCD,)))
OURS = Settings(cluster=ClusterSettings(listen=ETCD))
CONTROLLER = RegistryHost("controller-0", "controller", "live")
SINCE = "2026-11-27T03:00:00+00:00"


class Agent:
    """An agent that has these hosts, or cannot tell."""

    def __init__(self, *found: RegistryHost, error: SysregError | None = None) -> None:
        self._found = found
        self._error = error

    def collection_status(self) -> collections.CollectionStatus:
        return collections.CollectionStatus(collections.State.IDLE)

    def hosts(self) -> RegistryHosts:
        if self._error:
            raise self._error
        return RegistryHosts((CONTROLLER, *self._found))


def checked(agent: object, settings: Settings = ELSEWHERE) -> Result:
    made = Readings(settings, lambda: agent)  # type: ignore[arg-type, return-value]
    made.agent_calls = lambda: agent  # type: ignore[method-assign, return-value, assignment]
    return hosts.hosts(made)


def worker(number: int, state: str, remedy: str = "mend it") -> RegistryHost:
    return RegistryHost(
        f"worker-{number}", "worker", state, since=SINCE, reason=f"reason {number}", remedy=remedy
    )


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (State.LIVE, Status.OK),
        (State.TRUSTED, Status.OK),
        (State.DOWN, Status.WARNING),
        (State.JOINING, Status.WARNING),
        (State.BEHIND, Status.FAILED),
        (State.FAILED, Status.FAILED),
        (State.AHEAD, Status.FAILED),
        ("of a later version", Status.FAILED),
    ],
)
def test_a_host_that_is_gone_is_a_warning_and_one_that_is_there_and_not_as_it_has_to_be_a_failure(
    state: str, status: Status
) -> None:
    found = checked(Agent(worker(1, State.LIVE), worker(2, state)))
    assert found.status is status
    live = 3 if state == State.LIVE else 2
    assert found.what.startswith(f"{live} of 3 hosts live")
    if found.remedy:
        assert found.detail == (f"2 of 3 hosts live; worker-2 is {state} since {SINCE}: reason 2; mend it")
    elif state == State.TRUSTED:
        assert found.what == "2 of 3 hosts live; a certificate is being installed on worker-2"


def test_a_host_without_a_reason_or_a_remedy_has_one_all_the_same() -> None:
    silent = replace(worker(1, State.BEHIND, remedy=""), since="", reason="")
    assert checked(Agent(silent)).detail == (
        "1 of 2 hosts live; worker-1 is behind; if it stays so, see `journalctl -u sysreg-host` on that host"
    )


def test_failures_come_before_hosts_that_are_down_and_many_make_no_endless_cell() -> None:
    down = [worker(number, State.DOWN) for number in range(30)]
    found = checked(Agent(*down, worker(99, State.AHEAD, remedy="restart it")))
    assert found.status is Status.FAILED
    assert found.what.startswith(
        f"1 of 32 hosts live: worker-99 is ahead since {SINCE}: reason 99; restart it | worker-0 is down"
    )
    assert found.what.endswith(" | and 21 more")
    assert found.detail.endswith(": system registry-host-list")


def test_a_controller_without_a_certificate_is_a_failure() -> None:
    none = RegistryHost("controller-0", "controller", "failed", reason="no certificate", remedy="deploy")
    agent = Agent()
    agent.hosts = lambda: RegistryHosts((none,))  # type: ignore[method-assign]
    assert checked(agent).detail == "0 of 1 hosts live; controller-0 is failed: no certificate; deploy"


@pytest.mark.parametrize("error", [Unavailable("etcd is away"), NotAuthenticated("etcd refuses; check it")])
def test_an_etcd_that_does_not_answer_is_a_failure(error: SysregError) -> None:
    found = checked(Agent(error=error))
    assert (found.status, found.detail) == (Status.FAILED, str(error))


def test_an_etcd_of_this_controller_is_restarted_if_it_does_not_answer() -> None:
    found = checked(Agent(error=Unavailable("etcd is away")), OURS)
    assert found.status is Status.FAILED
    assert found.detail.startswith("etcd is away; ")
    assert found.detail.endswith(": systemctl restart sysreg-etcd.service")
    assert "restart" not in checked(Agent(error=NotAuthenticated("etcd refuses")), OURS).detail


def _skipped(check: Callable[[], Result], reason: str) -> None:
    with pytest.raises(Skipped, match=reason):
        check()


def test_without_a_cluster_and_where_the_agent_tells_nothing_the_check_is_skipped() -> None:
    _skipped(lambda: checked(Agent(), Settings()), "this controller has no cluster")

    class Refusing(Agent):
        def collection_status(self) -> collections.CollectionStatus:
            raise NotAuthorized("the role reader is needed")

    _skipped(lambda: checked(Refusing(error=NotAuthorized("no"))), "the role reader is needed")
