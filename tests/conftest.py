"""Settings and fixtures for every test."""

import signal
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from devstack.keystone import RunningKeystone

# A shell that starts pytest in the background lets it ignore SIGINT. Its children would inherit that, and no
# Ctrl-C would reach them.
signal.signal(signal.SIGINT, signal.default_int_handler)

# An example takes as long as it takes: the machine may be busy.
settings.register_profile(
    "untimed", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def keystone() -> Iterator[RunningKeystone]:
    """The Keystone that the controllers of one test process share."""
    with RunningKeystone.temporary() as keystone:
        keystone.wait_ready()
        yield keystone


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    names = Counter(item.nodeid for item in items)
    if twice := {name for name, count in names.items() if count > 1}:
        # pytest-xdist knows the tests of a file by their names, and would run only one of these.
        raise pytest.UsageError(f"several tests have one name: {', '.join(sorted(twice))}")
