"""What every test stands on."""

import signal
from collections import Counter
from collections.abc import Iterator

import pytest

from devstack.keystone import RunningKeystone

# A shell that starts us in its background leaves SIGINT ignored, and every process of ours would inherit
# that: no Ctrl-C would ever reach one.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The files that take longest, the longest first: a process takes a file at a time, and none should begin one
# of these when the others are done.
_LONG = (
    "functional/certificate/test_faults.py",
    "controller/test_repair.py",
    "functional/garbage/test_kill.py",
    "functional/test_controller_lifecycle.py",
    "controller/test_faults.py",
    "controller/test_guide.py",
    "functional/garbage/test_soak.py",
    "functional/images/test_delete_killed.py",
    "controller/test_rollover.py",
    "functional/certificate/test_install.py",
    "unit/pki/test_vectors.py",
    "functional/garbage/test_collect.py",
    "controller/test_boot.py",
    "functional/images/test_list.py",
    "functional/cli/test_formats.py",
    "functional/cli/test_formats_of_changes.py",
    "functional/certificate/test_clients.py",
    "functional/certificate/test_authorization.py",
)


@pytest.fixture(scope="session")
def keystone() -> Iterator[RunningKeystone]:
    """The Keystone that the controllers of one test process share."""
    with RunningKeystone.temporary() as keystone:
        keystone.wait_ready()
        yield keystone


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(_LONG)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0].removeprefix("tests/"), len(_LONG)))
    names = Counter(item.nodeid for item in items)
    if twice := {name for name, count in names.items() if count > 1}:
        # A process that takes a file at a time knows its tests by their names, and would run one of them.
        raise pytest.UsageError(f"several tests have one name: {', '.join(sorted(twice))}")
