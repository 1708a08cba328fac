"""The check of the hosts of the cluster: each of them has the registry's certificate, and says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sysreg_cli.errors import SysregError, Unavailable
from sysreg_cli.health.readings import Readings
from sysreg_cli.health.remedies import ETCD_UNIT, restart
from sysreg_cli.health.results import Remedy, Result, Skipped, Status, failed, ok, warning

if TYPE_CHECKING:
    from sysreg_cli.v1.hosts import RegistryHost

# what is wrong with hosts, in one cell
_MAX_HOSTS = 10
_SEE_ALL = Remedy("do what stands behind each of these; all hosts", "system registry-host-list")


def hosts(readings: Readings) -> Result:
    """Each host of the cluster is there, and has the certificates that it is to have."""
    settings = readings.settings
    if not settings.cluster.endpoints:
        raise Skipped("this controller has no cluster")
    try:
        readings.collections()
    except SysregError as error:
        raise Skipped(error.message) from None  # the agent tells this caller nothing
    try:
        found = readings.agent_calls().hosts().hosts
    except Unavailable as error:
        if settings.cluster.listen is None:
            return Result(Status.FAILED, error.message)
        return failed(error.message, restart(settings, ETCD_UNIT))
    except SysregError as error:
        return Result(Status.FAILED, error.message)  # as the agent says it, the message ends in the remedy
    return _judged(found)


def _judged(found: Sequence[RegistryHost]) -> Result:
    # without a cluster, nothing imports its rooms
    from sysreg_cli.cluster.judgement import State

    absent = (State.DOWN, State.JOINING)
    what = f"{sum(host.state == State.LIVE for host in found)} of {len(found)} hosts live"
    changing = [host.host for host in found if host.state == State.TRUSTED]
    if changing:
        what += f"; a certificate is being installed on {', '.join(changing)}"
    wrong = [host for host in found if host.state not in (State.LIVE, State.TRUSTED)]
    if not wrong:
        return ok(what)
    wrong.sort(key=lambda host: host.state in absent)  # failures come first
    judge = warning if wrong[0].state in absent else failed
    if len(wrong) == 1:
        return judge(f"{what}; {_described(wrong[0])}", _remedy(wrong[0]))
    shown = [f"{_described(host)}; {_remedy(host)}" for host in wrong[:_MAX_HOSTS]]
    if len(wrong) > _MAX_HOSTS:
        shown.append(f"and {len(wrong) - _MAX_HOSTS} more")
    return judge(f"{what}: {' | '.join(shown)}", _SEE_ALL)


def _described(host: RegistryHost) -> str:
    since = f" since {host.since}" if host.since else ""
    reason = f": {host.reason}" if host.reason else ""
    return f"{host.host} is {host.state}{since}{reason}"


def _remedy(host: RegistryHost) -> Remedy:
    """Return the remedy that ``registry-host-show`` names. A host that is behind may have none there."""
    from sysreg_cli.cluster.problems import Problem, remedy

    return Remedy(host.remedy or f"if it stays so, {remedy(Problem.INTERNAL)}")
