"""Two processes read a large storage. They find what one finds, whatever becomes of the second."""

from __future__ import annotations

import gc
import operator
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sysreg_cli.agent.garbage import planning
from sysreg_cli.agent.storage import readers as first_process
from sysreg_cli.agent.storage import snapshot as snapshots
from sysreg_cli.agent.storage.readers import Check, Readers, no_cycle_search
from sysreg_cli.agent.storage.snapshot import Snapshot
from sysreg_cli.host.ownership import as_user
from tests.unit.agent.storage.builder import Storage
from tests.unit.agent.usage.test_accounting import by_chance

_DEADLINE = 30.0


@pytest.fixture(autouse=True)
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})


@pytest.fixture
def readers() -> Iterator[Readers]:
    """Two processes that are ready to read."""
    with Readers() as both:
        start(both)
        yield both


def start(readers: Readers) -> None:
    """Start the second process, and wait until it is ready: a small storage is read before that."""
    readers.start()
    assert readers._connection is not None
    assert readers._connection.poll(_DEADLINE)


def second(readers: Readers) -> psutil.Process:
    """The second process."""
    assert readers._process is not None
    return psutil.Process(readers._process.pid)


def process_of(_item: int, _check: Check) -> int:
    """Return which process reads the item. It takes a moment, so that each has its part."""
    time.sleep(0.002)
    return os.getpid()


def doubled(item: int, _check: Check) -> int:
    return 2 * item


def killed(item: int, _check: Check) -> int:
    """End the second process in the middle of its work."""
    if item >= 0 and os.environ.get("FIRST") != str(os.getpid()):
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def may_read(path: str, check: Check) -> tuple[int, bool]:
    try:
        Path(path).read_text()
    except PermissionError:
        return process_of(0, check), False
    return process_of(0, check), True


class Unknown:
    """A function that the second process does not have."""

    def __call__(self, item: int, check: Check) -> int:
        return doubled(item, check)

    def __reduce__(self) -> tuple[object, ...]:
        return operator.attrgetter("unknown"), ("",)


def fails(item: int, _check: Check) -> int:
    raise FileNotFoundError(item, "it has gone", f"/file{item}")


def stops(_item: int, _check: Check) -> None:
    """Hang in the second process, as in a storage that does not answer."""
    if os.environ.get("FIRST") != str(os.getpid()):
        signal.pause()


def test_both_processes_work_and_the_order_is_kept(readers: Readers) -> None:
    processes = list(readers.map(process_of, range(200)))
    assert len(processes) == 200
    assert set(processes) == {os.getpid(), second(readers).pid}
    assert list(readers.map(doubled, range(1000))) == list(range(0, 2000, 2))
    assert list(readers.map(doubled, [])) == []
    assert list(readers.map(doubled, [7])) == [14]


@pytest.mark.parametrize("when", ["before", "while it works"])
def test_a_second_process_that_dies_is_done_without(
    readers: Readers, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    if when == "before":
        second(readers).kill()
        assert list(readers.map(doubled, range(100))) == list(range(0, 200, 2))
    else:
        monkeypatch.setenv("FIRST", str(os.getpid()))
        assert list(readers.map(killed, range(100))) == list(range(100))
    assert list(readers.map(process_of, range(10))) == [os.getpid()] * 10


def test_a_second_process_that_cannot_start_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/none")
    with Readers() as readers:
        readers.start()
        assert list(readers.map(doubled, range(100))) == list(range(0, 200, 2))


def test_a_second_process_of_another_version_is_done_without(
    readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_process, "__version__", "0.0.1")
    assert set(readers.map(process_of, range(200))) == {os.getpid()}
    readers.start()
    assert readers._process is None, "it fails once only"


def test_a_part_that_the_second_process_does_not_understand_is_read_by_the_first(readers: Readers) -> None:
    assert list(readers.map(Unknown(), range(100))) == list(range(0, 200, 2))


def test_one_processor_has_no_second_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0})
    with Readers() as readers:
        readers.start()
        assert list(readers.map(process_of, range(3))) == [os.getpid()] * 3


def test_no_process_outlives_the_with_statement() -> None:
    with Readers() as readers:
        start(readers)
        first = second(readers)
    assert not first.is_running()
    readers.start()
    assert readers._process is None
    with readers:
        start(readers)
        assert set(readers.map(process_of, range(200))) == {os.getpid(), second(readers).pid}


def test_the_second_process_ends_when_the_first_is_killed() -> None:
    code = (
        "import psutil, sys\n"
        "from sysreg_cli.agent.storage.readers import Readers\n"
        "readers = Readers().__enter__()\n"
        "readers.start()\n"
        "print(readers._process.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        other = psutil.Process(int(first.stdout.readline()))
        first.kill()
    other.wait(_DEADLINE)


def test_an_error_in_the_second_process_is_raised_by_the_first(readers: Readers) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        list(readers.map(fails, range(100)))
    assert caught.value.filename == "/file0"


def test_a_check_ends_the_work_while_the_second_process_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRST", str(os.getpid()))
    left = 105

    def check() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise InterruptedError

    with Readers(check) as readers:
        start(readers)
        with pytest.raises(InterruptedError):
            list(readers.map(stops, range(100)))
        other = second(readers)
    assert not other.is_running()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it reads with the rights of another user")
def test_the_second_process_has_the_rights_of_the_first(tmp_path: Path) -> None:
    """Root would read any file to which the owner of the storage planted a link."""
    secret = tmp_path / "secret"
    secret.touch(0o600)
    with as_user(65534, 65534), Readers() as readers:
        start(readers)
        answers = list(readers.map(may_read, [str(secret)] * 200))
    assert {pid for pid, _ in answers} > {os.getpid()}
    assert not any(may for _, may in answers)


@settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 2**32))
def test_two_processes_find_in_a_damaged_storage_what_one_finds(readers: Readers, seed: int) -> None:
    with TemporaryDirectory() as directory:
        root = Path(directory)
        by_chance(Storage(root), random.Random(seed))
        now = time.time()
        assert found(root, readers, now) == found(root, Readers(), now)


def test_a_large_storage_is_read_by_two_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr(Readers, "start", lambda _self: started.append(True))
    storage = Storage(tmp_path)
    for number in range(snapshots._MANY):
        assert not started
        Snapshot(tmp_path)
        storage.upload(f"image{number}", b"layer")
    Snapshot(tmp_path)
    assert started


def found(root: Path, readers: Readers, now: float) -> tuple[object, ...]:
    """Return all that is read of a storage for a collection, and what the collection would do."""
    snapshot = Snapshot(root, readers=readers)
    plans = [planning.make(snapshot, now=now, grace=0, delete_untagged=it) for it in (False, True)]
    again = planning.make(Snapshot(root, snapshot, readers=readers), now=now, grace=0)
    return (
        snapshot.repositories,
        snapshot.blobs,
        snapshot.manifests,
        snapshot.strays,
        sorted(snapshot.foreign),
        {name: set(snapshot.layers(name)) for name in snapshot.repositories},
        plans,
        again,
    )


def test_the_search_for_cycles_goes_on_after_the_last_reading() -> None:
    first, second = no_cycle_search(), no_cycle_search()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled()
