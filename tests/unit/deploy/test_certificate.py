"""Which certificate sysreg-deploy renews, and which it leaves to the operator."""

from __future__ import annotations

import dataclasses
import grp
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sysreg_cli.addresses import HostPort
from sysreg_cli.agent.alarms.reminder import expiry_warning
from sysreg_cli.deploy.certificate import ReplacedByAgent, ServerCertificate
from sysreg_cli.deploy.machine import Programs
from sysreg_cli.errors import SysregError
from sysreg_cli.host.generations import KEY_GROUP, Generations
from sysreg_cli.pki.selfsigned import self_signed
from sysreg_cli.settings import CertificateSettings, ClusterSettings, PathSettings, Settings
from tests import certificates as make
from tests.unit.deploy.machine import apply, context_of, required

NOW = datetime.now(UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "tls").mkdir()
    return dataclasses.replace(
        Settings(),
        certificate=CertificateSettings(directory=tmp_path / "tls"),
        paths=PathSettings(state=tmp_path / "state"),
    )


def use(settings: Settings, key: bytes, chain: bytes) -> None:
    generations = Generations(settings.certificate.directory)
    name = generations.next_name()
    generations.create(name, key, chain)
    generations.use(name)


def certificate(settings: Settings) -> ServerCertificate:
    """The resource, with the group that the keys get on the machine of this test."""
    names = {group.gr_name for group in grp.getgrall()}
    return ServerCertificate(settings, key_group=KEY_GROUP if KEY_GROUP in names else "root")


def wanted(settings: Settings) -> str:
    """What a run would do about the certificate."""
    change = certificate(settings).compare(context_of(settings.paths.state))
    return change.line if change else ""


def test_the_first_certificate_is_self_signed(settings: Settings) -> None:
    context = context_of(settings.paths.state)
    assert apply(certificate(settings), context) == "create a self-signed certificate for registry.local"
    assert certificate(settings).refusal() is None


def test_the_newest_good_generation_is_used_before_another_is_made(settings: Settings) -> None:
    context = context_of(settings.paths.state)
    apply(certificate(settings), context)
    use(settings, *self_signed(["other.example"], now=NOW))
    line = apply(certificate(settings), context)
    assert line.startswith("use the certificate of generation 000001 instead of the one in use: ")
    (settings.certificate.directory / "current").unlink()
    assert apply(certificate(settings), context) == "use the certificate of generation 000001 again"


def test_all_generations_keep_their_keys_secret(settings: Settings) -> None:
    context = context_of(settings.paths.state)
    apply(certificate(settings), context)
    use(settings, *self_signed(["registry.local"], now=NOW))
    old = settings.certificate.directory / "generations/000001/server.key"
    old.chmod(0o666)
    change = required(certificate(settings), context)
    assert f"set {old} to 0440" in change.line
    apply(certificate(settings), context)


@pytest.mark.parametrize(("left", "renewed"), [(29, True), (31, False)])
def test_a_self_signed_one_is_renewed_before_it_ends(settings: Settings, left: int, renewed: bool) -> None:
    use(settings, *self_signed(["registry.local"], now=NOW - timedelta(days=365 - left)))
    assert ("it is self-signed and ends at" in wanted(settings)) is renewed
    assert bool(expiry_warning(settings.certificate, NOW)) is renewed


def test_one_with_further_names_is_the_operators(settings: Settings) -> None:
    start = NOW - timedelta(days=364)
    use(settings, *self_signed(["registry.local", "images.example"], now=start))
    assert wanted(settings) == ""
    assert expiry_warning(settings.certificate, NOW) != ""


def test_a_new_one_is_never_due_at_once(settings: Settings) -> None:
    always = dataclasses.replace(settings.certificate, min_days_warning=3650)
    settings = dataclasses.replace(settings, certificate=always)
    use(settings, *self_signed(["registry.local"], now=NOW))
    assert wanted(settings) == ""


def test_an_operators_one_is_left_and_its_problem_told(settings: Settings) -> None:
    root = make.authority()
    good = make.server(root)
    use(settings, good.key_pem, good.pem + root.pem)
    assert certificate(settings).refusal() is None
    expired = make.server(root, start=NOW - timedelta(days=9), end=NOW - timedelta(days=1))
    use(settings, expired.key_pem, expired.pem + root.pem)
    assert wanted(settings) == ""
    refused = certificate(settings).refusal()
    assert refused is not None
    assert "certificate-install" in refused.next_step
    assert "ended at" in expiry_warning(settings.certificate, NOW)


@pytest.fixture
def cluster(settings: Settings) -> Settings:
    """The settings of a controller that has a cluster."""
    section = ClusterSettings(endpoints=(HostPort("192.0.2.1", 2479),))
    return dataclasses.replace(settings, cluster=section)


def with_names(settings: Settings, *names: str) -> Settings:
    return dataclasses.replace(settings, registry=dataclasses.replace(settings.registry, host_names=names))


def test_in_a_cluster_the_agent_replaces_it_because_hosts_have_to_trust_the_next_one_first(
    cluster: Settings,
) -> None:
    context = context_of(cluster.paths.state)
    apply(certificate(cluster), context)  # the first one: nobody trusts another
    assert wanted(cluster) == ""
    assert ReplacedByAgent(cluster, "sysreg-agent.service").compare(context) is None
    more = with_names(cluster, "registry.local", "registry.central")
    before = Generations(cluster.certificate.directory).current()
    assert wanted(more) == ""
    change = ReplacedByAgent(more, "sysreg-agent.service").compare(context)
    assert change
    assert change.line.startswith("have sysreg-agent.service replace the certificate in use on all hosts: ")
    assert "registry.central" in change.line
    assert Generations(cluster.certificate.directory).current() == before


def test_one_that_ends_is_left_to_the_agent_too_but_not_one_without_its_key(cluster: Settings) -> None:
    context = context_of(cluster.paths.state)
    use(cluster, *self_signed(["registry.local"], now=NOW - timedelta(days=364)))
    assert wanted(cluster) == ""
    assert ReplacedByAgent(cluster, "sysreg-agent.service").compare(context)
    (cluster.certificate.directory / "current").resolve().joinpath("server.key").unlink()
    assert "create a self-signed certificate" in wanted(cluster)
    assert ReplacedByAgent(cluster, "sysreg-agent.service").compare(context) is None


class Agent(Programs):
    """systemctl, whose restart has the agent do ``work``."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work

    def change(self, *command: str, timeout: float = 0) -> None:
        assert command == ("systemctl", "restart", "sysreg-agent.service")
        self._work()


def test_it_waits_until_the_agent_has_done_it_and_says_what_to_look_at_if_not(cluster: Settings) -> None:
    use(cluster, *self_signed(["registry.local"], now=NOW))
    more = with_names(cluster, "registry.local", "registry.central")
    context = context_of(cluster.paths.state)
    idle = dataclasses.replace(context, programs=Agent(lambda: None))
    change = ReplacedByAgent(more, "sysreg-agent.service", seconds=0.0).compare(idle)
    assert change
    with pytest.raises(SysregError, match="has not replaced the certificate in use: ") as caught:
        change.apply(idle)
    assert "journalctl -u sysreg-agent.service" in caught.value.next_step
    names = more.registry.host_names
    change.apply(
        dataclasses.replace(context, programs=Agent(lambda: use(more, *self_signed(names, now=NOW))))
    )
    assert ReplacedByAgent(more, "sysreg-agent.service").compare(context) is None
