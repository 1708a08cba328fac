"""What a worker makes of each change of the registry's certificate, with a real registry and its real probe.

Here the daemon runs in threads and the store in memory, so that each fault comes at its moment.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from devstack.waiting import wait_until
from sysreg_cli.cluster.keys import CERTIFICATE, Part, host_key
from sysreg_cli.cluster.problems import Problem
from sysreg_cli.cluster.records import DesiredCertificate, Outcome, Phase, encode
from tests import certificates as make
from tests.functional.worker.inprocess import Publisher, Worker, desired
from tests.functional.worker.registry import NAME, Registry
from tests.memory_store import MemoryCluster
from tests.tls_clients import served

OLD_CA, NEW_CA = make.authority("Old CA"), make.authority("New CA")
OLD = make.server(OLD_CA, names=[NAME])
NEW = make.server(NEW_CA, names=[NAME])


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with Registry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster()


@pytest.fixture
def publisher(cluster: MemoryCluster) -> Publisher:
    return Publisher(cluster)


@pytest.fixture
def worker(cluster: MemoryCluster, tmp_path: Path) -> Worker:
    return Worker(cluster, tmp_path / "w1")


class Story:
    """The states of a change from the old CA to the new one, for one registry."""

    def __init__(self, registry: Registry) -> None:
        port = registry.port
        self.before = desired(1, Phase.SETTLE, OLD, [OLD_CA], port=port)
        self.trust = desired(2, Phase.TRUST, NEW, [NEW_CA], [OLD_CA], port=port)
        self.settle = desired(2, Phase.SETTLE, NEW, [NEW_CA], [OLD_CA], port=port)


@pytest.fixture
def story(registry: Registry) -> Story:
    return Story(registry)


def lose(directory: Path) -> None:
    """Remove the certificates, as somebody does by mistake. The worker may write them anew meanwhile."""
    for path in directory.glob("*.crt"):
        path.unlink(missing_ok=True)


def both(*issued: make.Issued) -> tuple[set[bytes], set[bytes]]:
    """That docker and containerd trust exactly these."""
    pems = {one.pem for one in issued}
    return pems, pems


def test_a_change_of_the_ca_keeps_both_until_the_host_has_seen_the_new_certificate(
    registry: Registry, story: Story, worker: Worker, publisher: Publisher
) -> None:
    registry.present(OLD)
    publisher.publish(story.before)
    with worker:
        status = worker.wait_for(Outcome.LIVE, story.before)
        assert status.docker == status.containerd == story.before.sha256
        assert worker.trusted(registry.port) == both(OLD_CA)
        publisher.publish(story.trust)
        worker.wait_for(Outcome.TRUSTED, story.trust)
        assert worker.trusted(registry.port) == both(OLD_CA, NEW_CA)
        publisher.publish(story.settle)  # too early: the registry has not changed over
        assert worker.wait_for(Outcome.FAILED, story.settle).problem == Problem.NOT_TRUSTED
        assert worker.trusted(registry.port) == both(OLD_CA, NEW_CA)
        registry.present(NEW)
        worker.wait_for(Outcome.LIVE, story.settle)
        assert worker.trusted(registry.port) == both(NEW_CA)


def test_a_host_that_is_cut_off_between_trust_and_settle_pulls_on_and_settles_on_return(
    registry: Registry, story: Story, worker: Worker, publisher: Publisher
) -> None:
    registry.present(OLD)
    publisher.publish(story.before)
    with worker:
        worker.wait_for(Outcome.LIVE, story.before)
        publisher.publish(story.trust)
        worker.wait_for(Outcome.TRUSTED, story.trust)
        worker.cut_off(True)
        registry.present(NEW)
        publisher.publish(story.settle)
        # it repairs what it had, and knows of nothing else
        lose(worker.directory("docker", registry.port))
        wait_until(lambda: worker.trusted(registry.port) == both(OLD_CA, NEW_CA), what="it trusts both")
        worker.cut_off(False)
        worker.wait_for(Outcome.LIVE, story.settle)
        assert worker.trusted(registry.port) == both(NEW_CA)


def test_a_host_that_missed_a_change_is_current_when_it_starts(
    registry: Registry, story: Story, worker: Worker, publisher: Publisher
) -> None:
    registry.present(OLD)
    publisher.publish(story.before)
    with worker:
        worker.wait_for(Outcome.LIVE, story.before)
    publisher.publish(story.trust)
    registry.present(NEW)
    publisher.publish(story.settle)
    with worker:
        worker.wait_for(Outcome.LIVE, story.settle)
        assert worker.looked.wait(10)
    assert worker.trusted(registry.port) == both(NEW_CA)


def test_what_somebody_changes_on_the_disk_is_repaired(
    registry: Registry, story: Story, worker: Worker, publisher: Publisher
) -> None:
    registry.present(NEW)
    publisher.publish(story.settle)
    with worker:
        worker.wait_for(Outcome.LIVE, story.settle)
        docker, containerd = (worker.directory(one, registry.port) for one in ("docker", "containerd"))
        lose(docker)
        next(containerd.glob("*.crt")).write_text("damaged")
        (containerd / f"sysreg-{'0' * 32}.crt").write_bytes(OLD_CA.pem)
        wait_until(
            lambda: worker.trusted(registry.port) == both(NEW_CA) and len(list(containerd.iterdir())) == 2,
            what="the trust is as before",
        )
        worker.wait_for(Outcome.LIVE, story.settle)


def test_the_trust_at_an_address_that_the_registry_had_before_ends(
    registry: Registry, story: Story, worker: Worker, publisher: Publisher
) -> None:
    registry.present(NEW)
    publisher.publish(story.settle)
    with worker:
        worker.wait_for(Outcome.LIVE, story.settle)
        docker, containerd = (worker.directory(one, registry.port) for one in ("docker", "containerd"))
        for directory in (docker, containerd):
            shutil.copytree(directory, directory.with_name("registry.before:9001"))
        (docker.with_name("registry.before:9001") / "ca.crt").write_text("of the administrator")
        later = desired(3, Phase.SETTLE, NEW, [NEW_CA], port=registry.port)
        publisher.publish(later)
        worker.wait_for(Outcome.LIVE, later)
        left = [
            path.name for root in (docker, containerd) for path in root.parent.glob("registry.before:*/*")
        ]
        assert left == ["ca.crt"]
        assert worker.trusted(registry.port) == both(NEW_CA)


def test_it_is_repaired_without_the_store_too_and_at_a_start(
    registry: Registry, story: Story, worker: Worker, publisher: Publisher, cluster: MemoryCluster
) -> None:
    registry.present(NEW)
    publisher.publish(story.settle)
    with worker:
        worker.wait_for(Outcome.LIVE, story.settle)
    cluster.down = True
    lose(worker.directory("docker", registry.port))
    with worker:
        wait_until(lambda: worker.trusted(registry.port) == both(NEW_CA), what="the trust is as before")
        cluster.down = False
        worker.wait_for(Outcome.LIVE, story.settle)


def test_a_store_that_was_restored_from_an_older_state_leads_no_host_back(
    registry: Registry, story: Story, worker: Worker, publisher: Publisher, cluster: MemoryCluster
) -> None:
    registry.present(OLD)
    publisher.publish(story.before)
    older = cluster.snapshot()
    with worker:
        publisher.publish(story.trust)
        registry.present(NEW)
        publisher.publish(story.settle)
        worker.wait_for(Outcome.LIVE, story.settle)
        cluster.restore(older)
        status = worker.wait_for(Outcome.AHEAD, story.settle)
        assert "has seen change 2" in status.reason
        assert worker.trusted(registry.port) == both(NEW_CA)
        publisher.publish_raw(None)
        wait_until(lambda: "no change at all" in (worker.status() or status).reason)
        later = desired(3, Phase.SETTLE, NEW, [NEW_CA], port=registry.port)
        publisher.publish(later)
        worker.wait_for(Outcome.LIVE, later)


def test_a_directory_that_cannot_be_written_is_reported_before_the_registry_changes_over(
    registry: Registry, story: Story, worker: Worker, publisher: Publisher
) -> None:
    registry.present(OLD)
    publisher.publish(story.before)
    with worker:
        worker.wait_for(Outcome.LIVE, story.before)
        containerd = worker.directory("containerd", registry.port)
        shutil.move(containerd, containerd.with_name("aside"))
        containerd.write_text("no directory")
        publisher.publish(story.trust)
        status = worker.wait_for(Outcome.FAILED, story.trust)
        assert (status.problem, str(containerd) in status.reason) == (Problem.NOT_WRITABLE, True)
        containerd.unlink()
        worker.wait_for(Outcome.TRUSTED, story.trust)
        assert worker.trusted(registry.port)[1] >= {NEW_CA.pem}


def test_a_hosts_toml_of_the_administrator_is_named_before_the_registry_changes_over(
    registry: Registry, story: Story, worker: Worker, publisher: Publisher
) -> None:
    registry.present(OLD)
    publisher.publish(story.before)
    with worker:
        worker.wait_for(Outcome.LIVE, story.before)
        path = worker.directory("containerd", registry.port) / "hosts.toml"
        path.write_text(f'[host."https://{NAME}:{registry.port}"]\nca = "old.crt"\n')
        (path.parent / "old.crt").write_bytes(OLD_CA.pem)
        publisher.publish(story.trust)
        status = worker.wait_for(Outcome.FAILED, story.trust)
        assert (status.problem, str(path) in status.reason) == (Problem.FOREIGN_FILE, True)
        (path.parent / "old.crt").write_bytes(OLD_CA.pem + NEW_CA.pem)
        worker.wait_for(Outcome.TRUSTED, story.trust)
        registry.present(NEW)
        publisher.publish(story.settle)
        worker.wait_for(Outcome.LIVE, story.settle)


def test_a_desired_state_that_makes_no_sense_changes_nothing(
    registry: Registry, story: Story, worker: Worker, publisher: Publisher, tmp_path: Path
) -> None:
    registry.present(OLD)
    publisher.publish(story.before)
    with worker:
        worker.wait_for(Outcome.LIVE, story.before)
        document = json.loads(encode(story.trust))
        damages: list[dict[str, object]] = [
            {"host_names": ["../../escape"]},
            {"anchors": [{"sha256": "0" * 64, "pem": NEW_CA.pem.decode()}]},
            {"anchors": []},
            {"port": 0},
            {"phase": "later"},
        ]
        for damage in damages:
            publisher.publish_raw(json.dumps({**document, **damage}).encode())
            worker.wait_for_problem(Problem.DAMAGED)
            assert worker.trusted(registry.port) == both(OLD_CA)
            publisher.publish(story.before)
            worker.wait_for(Outcome.LIVE, story.before)
    assert not list(tmp_path.rglob("escape*"))


def later(certificate: make.Issued, port: int) -> DesiredCertificate:
    return desired(9, Phase.SETTLE, certificate, [certificate], port=port)


def test_what_is_wrong_with_the_registry_is_named(
    registry: Registry, worker: Worker, publisher: Publisher, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    young = make.server(names=[NAME], start=now + timedelta(days=1))
    other = make.server(names=["registry.elsewhere"])
    cases = [(young, Problem.CLOCK), (other, Problem.OTHER_CERTIFICATE)]
    with worker:
        for certificate, problem in cases:
            registry.present(certificate)
            publisher.publish(later(certificate, registry.port))
            worker.wait_for_problem(problem)
        registry.stop()
        worker.wait_for_problem(Problem.UNREACHABLE)
        with served(tmp_path, make.bundle(NEW)) as port:
            publisher.publish(desired(10, Phase.SETTLE, NEW, [NEW_CA], port=port))
            worker.wait_for_problem(Problem.NO_REGISTRY)


def test_a_host_is_alive_while_its_daemon_runs(worker: Worker, cluster: MemoryCluster) -> None:
    administrator, key = cluster.administrator(), host_key("w1", Part.ALIVE)
    with worker:
        wait_until(lambda: administrator.get(key), what="the host is alive")
    assert administrator.get(key) is None


def test_a_report_is_written_once(
    registry: Registry, story: Story, worker: Worker, publisher: Publisher, cluster: MemoryCluster
) -> None:
    registry.present(OLD)
    publisher.publish(story.before)
    with worker:
        worker.wait_for(Outcome.LIVE, story.before)
        entry = cluster.administrator().get(host_key("w1", Part.STATUS))
        lose(worker.directory("docker", registry.port))  # wait for another look
        wait_until(lambda: worker.trusted(registry.port) == both(OLD_CA))
        worker.wait_for(Outcome.LIVE, story.before)
        assert entry == cluster.administrator().get(host_key("w1", Part.STATUS))
    assert cluster.administrator().get(CERTIFICATE)
