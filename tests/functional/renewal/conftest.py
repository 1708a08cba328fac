"""One controller for each kind of source. Each test leaves a good certificate, and no fault."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.functional.certificate.breakable import BreakableController
from tests.functional.renewal.renewed import KINDS, RenewedController


@pytest.fixture(scope="module", params=KINDS)
def renewed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RenewedController]:
    with RenewedController.temporary(request.param, tmp_path_factory.mktemp("source")) as renewed:
        yield renewed


@pytest.fixture(scope="module")
def breakable() -> Iterator[BreakableController]:
    with BreakableController.temporary() as breakable:
        yield breakable
