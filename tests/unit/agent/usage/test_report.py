"""What a caller learns of the usage of others."""

from __future__ import annotations

from pathlib import Path

from sysreg_cli.agent.usage.report import Query, read_usage
from sysreg_cli.v1.usage import Grouping
from tests.unit.agent.prune.stores import settings_for
from tests.unit.agent.storage.builder import Storage


def test_the_figures_of_a_user_have_nothing_of_images_that_the_caller_does_not_see(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "storage")
    storage.image("alice/public", "v1", layers=(b"p",))
    storage.image("alice/secret", "v1", layers=(bytes(100_000),))
    query = Query(lambda name: name == "alice/public", whole=False, by=Grouping.USER)
    found = read_usage(settings_for(storage), query)
    (row,) = found.rows
    assert (row.images, row.tags) == (1, 1)
    assert row.size == row.unique == found.bytes_referenced < 100_000
