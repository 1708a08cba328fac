"""What is installed from a source, what is refused, and what the operator and the journal learn of it."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from devstack.waiting import wait_until
from sysreg_cli.addresses import HostPort
from sysreg_cli.agent.renewal.readings import Reading
from sysreg_cli.agent.renewal.record import SourceRecord
from sysreg_cli.agent.renewal.renewal import Pace
from sysreg_cli.errors import Conflict, SysregError
from sysreg_cli.pki.selfsigned import self_signed
from sysreg_cli.settings import ClusterSettings
from tests import certificates as make
from tests.unit.agent.renewal.conftest import Host


class Given:
    """A source that holds what a test gives it."""

    def __init__(self, *readings: Reading) -> None:
        self._readings = list(readings)
        self._report: Callable[[Reading], None] | None = None

    def __str__(self) -> str:
        return "files:/given"

    def follow(self, report: Callable[[Reading], None], stopping: threading.Event) -> None:
        self._report = report
        for reading in self._readings:
            report(reading)
        stopping.wait()

    def give(self, reading: Reading) -> None:
        wait_until(lambda: self._report is not None)
        assert self._report is not None
        self._report(reading)


def reading(leaf: make.Issued, *chain: make.Issued, authority: bytes = b"") -> Reading:
    return Reading.of(leaf.key_pem, b"".join(issued.pem for issued in (leaf, *chain)), authority)


def test_what_the_source_holds_is_installed_once(host: Host) -> None:
    new = make.server(host.root)
    source = Given(reading(new, host.root))
    with host.renewing(source) as renewal:
        wait_until(lambda: renewal.record.seen)
        source.give(reading(new, host.root))
        source.give(Reading(problem="it is away"))
        wait_until(lambda: renewal.record.problem == "it is away")
        source.give(reading(new, host.root))
        wait_until(lambda: not renewal.record.problem)
    assert host.uses(new)
    assert len(host.change.installed) == 1


def test_a_refused_one_leaves_the_old_one_and_says_why(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    new, other = make.server(host.root), make.server(host.root)
    half = Reading.of(other.key_pem, new.pem + host.root.pem)
    source = Given(half)
    with caplog.at_level(logging.WARNING), host.renewing(source) as renewal:
        wait_until(lambda: renewal.record.problem)
        for _ in range(3):
            before = renewal.record
            source.give(half)
            wait_until(lambda before=before: renewal.record is not before)  # type: ignore[misc]
        assert "the private key does not match" in renewal.record.problem
        assert host.uses(host.first)
        source.give(reading(new, host.root))
        wait_until(lambda: host.uses(new))
    assert sum("does not match" in line for line in caplog.messages) == 1, "once a day"


def test_what_was_said_is_not_said_again_after_a_restart_but_after_a_day(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    source = Given(Reading(problem="it is away"))
    for _ in range(2):
        with caplog.at_level(logging.WARNING), host.renewing(source) as renewal:
            wait_until(lambda renewal=renewal: renewal.record.problem)  # type: ignore[misc]
    assert caplog.messages == ["files:/given: it is away"]
    assert renewal.record.is_due("files:/given: it is away", datetime.now(UTC) + timedelta(days=1, hours=1))


def test_what_an_operator_installed_stays_until_the_source_has_something_new(host: Host) -> None:
    first, operators, second = (make.server(host.root) for _ in range(3))
    with host.renewing(Given(reading(first, host.root))):
        wait_until(lambda: host.uses(first))
    host.change.use(operators.key_pem, operators.pem + host.root.pem)
    source = Given(reading(first, host.root))
    with host.renewing(source) as renewal:
        wait_until(lambda: "another certificate was installed" in renewal.record.problem)
        assert host.uses(operators)
        source.give(reading(second, host.root))
        wait_until(lambda: host.uses(second))


def test_an_operators_one_that_has_ended_gives_way_to_the_source(host: Host) -> None:
    first = make.server(host.root)
    with host.renewing(Given(reading(first, host.root))):
        wait_until(lambda: host.uses(first))
    past = datetime.now(UTC) - timedelta(hours=1)
    ended = make.server(host.root, start=past - timedelta(days=1), end=past)
    host.change.use(ended.key_pem, ended.pem + host.root.pem)
    with host.renewing(Given(reading(first, host.root))):
        wait_until(lambda: host.uses(first))


def test_a_record_of_another_source_does_not_count(host: Host) -> None:
    state = host.settings.paths.state
    SourceRecord("files:/other", installed="x", problem="y").save(state)
    assert SourceRecord.load(state, "files:/given") == SourceRecord("files:/given")
    (state / "certificate-source.json").write_text("{")
    assert SourceRecord.load(state, "files:/given") == SourceRecord("files:/given")


def test_an_install_that_had_to_give_way_is_tried_again(host: Host) -> None:
    new = make.server(host.root)
    host.change.failure = Conflict("a collection was still under way")
    with host.renewing(Given(reading(new, host.root))) as renewal:
        wait_until(lambda: "a collection" in renewal.record.problem)
        host.change.failure = None
        wait_until(lambda: host.uses(new))
        wait_until(lambda: not renewal.record.problem)


def test_a_failed_install_is_said_and_leaves_the_old_one(host: Host) -> None:
    host.change.failure = SysregError("the registry does not start")
    with host.renewing(Given(reading(make.server(host.root), host.root))) as renewal:
        wait_until(lambda: renewal.record.problem == "the registry does not start")
    assert host.uses(host.first)
    assert renewal.record.installed == ""


def test_a_source_that_keeps_changing_is_not_installed(host: Host) -> None:
    """Each of its states is whole, but nobody knows which is meant."""
    states = [reading(make.server(host.root), host.root) for _ in range(2)]
    source = Given()
    stopping = threading.Event()

    def flap() -> None:
        while not stopping.wait(0.02):
            states.reverse()
            source.give(states[0])

    with host.renewing(source, Pace(rest=1.0, long_rest=1.0)):
        thread = threading.Thread(target=flap, daemon=True)  # also if the test fails
        thread.start()
        assert not host.change.tried.wait(1.5)
        stopping.set()
        thread.join()
        wait_until(lambda: host.change.installed)
    assert len(host.change.installed) == 1
    assert host.in_use() == host.change.installed[0].certificates[0].serial_number


# cert-manager's habits


def without_subject(issuer: make.Issued) -> make.Issued:
    key = make.ec_key()
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=90))
        .add_extension(make.sans([make.HOST]), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(make.usage("digital_signature", "key_encipherment"), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False
        )
    )
    return make.Issued(builder.sign(issuer.key, hashes.SHA256()), key)


@pytest.mark.parametrize(
    ("habit", "length"),
    [
        ("the CA is in ca.crt", 2),
        ("the issuing CA is in both", 2),
        ("ca.crt is empty", 1),
        ("ca.crt is another CA", 2),
        ("self-signed: ca.crt is the certificate", 1),
    ],
)
def test_cert_managers_habits_are_accepted(host: Host, habit: str, length: int) -> None:
    leaf = without_subject(host.root)
    own = make.server()
    held = {
        "the CA is in ca.crt": reading(leaf, authority=host.root.pem),
        "the issuing CA is in both": reading(leaf, host.root, authority=host.root.pem),
        "ca.crt is empty": reading(leaf, authority=b"\n"),
        "ca.crt is another CA": reading(leaf, host.root, authority=make.authority("Other").pem),
        "self-signed: ca.crt is the certificate": reading(own, authority=own.pem),
    }[habit]
    with host.renewing(Given(held)) as renewal:
        wait_until(lambda: host.change.installed or renewal.record.problem)
        assert renewal.record.problem == ""
    assert len(host.change.installed[0].certificates) == length


# a self-signed certificate of sysreg's


def use_self_signed(host: Host, *names: str, days_left: float) -> int:
    start = datetime.now(UTC) - timedelta(days=365 - days_left)
    host.change.use(*self_signed(names, now=start))
    return host.in_use()


@pytest.mark.parametrize("days_left", [30.5, 29, -1])
def test_a_self_signed_one_is_renewed(host: Host, days_left: float, caplog: pytest.LogCaptureFixture) -> None:
    old = use_self_signed(host, "registry.local", days_left=days_left)
    with host.renewing(None):
        wait_until(lambda: host.in_use() != old)
        wait_until(lambda: any("other nodes have to trust" in line for line in caplog.messages))


@pytest.mark.parametrize(
    ("names", "days_left"), [(("registry.local",), 31.5), (("registry.local", "images.example"), 3)]
)
def test_a_new_one_and_one_of_the_operators_stay(
    host: Host, names: tuple[str, ...], days_left: float
) -> None:
    old = use_self_signed(host, *names, days_left=days_left)
    with host.renewing(Given(Reading(problem="a look is over"))) as renewal:
        wait_until(lambda: renewal.record.problem)
    assert host.in_use() == old


def test_one_that_an_operator_installs_meanwhile_is_not_replaced(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_self_signed(host, "registry.local", days_left=3)
    install = host.change.install

    def late(*arguments: object, **options: object) -> list[str]:
        host.change.use(host.first.key_pem, host.first.pem + host.root.pem)
        return install(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(host.change, "install", late)
    with host.renewing(None):
        wait_until(lambda: host.change.tried.is_set())
    assert host.uses(host.first)


@pytest.mark.parametrize("names", [("registry.local",), ("registry.old",)])
def test_in_a_cluster_a_self_signed_one_that_lacks_a_name_is_replaced(
    host: Host, names: tuple[str, ...]
) -> None:
    """sysreg-deploy leaves that to the agent there: hosts have to trust the next one first."""
    old = use_self_signed(host, *names, days_left=300)
    registry = dataclasses.replace(host.settings.registry, host_names=("registry.local", "registry.central"))
    host.settings = dataclasses.replace(host.settings, registry=registry)
    with host.renewing(Given(Reading(problem="a look is over"))) as renewal:
        wait_until(lambda: renewal.record.problem)
    assert host.in_use() == old, "alone, sysreg-deploy does it"
    section = ClusterSettings(endpoints=(HostPort("192.0.2.1", 2479),))
    host.settings = dataclasses.replace(host.settings, cluster=section)
    with host.renewing(None):
        wait_until(lambda: host.in_use() != old)


def test_in_a_cluster_one_of_a_ca_stays_whatever_it_lacks(host: Host) -> None:
    registry = dataclasses.replace(host.settings.registry, host_names=("registry.central",))
    section = ClusterSettings(endpoints=(HostPort("192.0.2.1", 2479),))
    host.settings = dataclasses.replace(host.settings, registry=registry, cluster=section)
    with host.renewing(Given(Reading(problem="a look is over"))) as renewal:
        wait_until(lambda: renewal.record.problem)
    assert host.uses(host.first)
