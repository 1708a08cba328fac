"""One site for the tests that break things: each leaves it with a live certificate and no fault set."""

from collections.abc import Iterator

import pytest

from tests.functional.certificate.site import Site


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site.temporary() as site:
        yield site
