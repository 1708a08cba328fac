"""One controller for the tests that break things. Each test leaves a live certificate and no fault."""

from collections.abc import Iterator

import pytest

from tests.functional.certificate.breakable import BreakableController


@pytest.fixture(scope="module")
def breakable() -> Iterator[BreakableController]:
    with BreakableController.temporary() as breakable:
        yield breakable
