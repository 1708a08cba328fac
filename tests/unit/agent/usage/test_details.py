"""One image, as the storage tells it."""

from __future__ import annotations

from pathlib import Path

from sysreg_cli.agent.garbage import edits
from sysreg_cli.agent.usage.details import read_details
from sysreg_cli.agent.usage.report import Query, read_usage
from sysreg_cli.reference import parse
from sysreg_cli.v1.usage import Grouping
from tests.unit.agent.prune.stores import settings_for
from tests.unit.agent.storage.builder import Storage


def test_what_a_collection_pins_for_itself_changes_no_figure(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "storage")
    storage.image("app", "v1", layers=(b"layer",))
    settings = settings_for(storage)
    query = Query(lambda _name: True, whole=True, by=Grouping.IMAGE)
    before = read_details(settings, parse("app:v1"), query.sees), read_usage(settings, query).rows
    assert before[0].unique == before[0].size

    edits.write_pin(storage.root, {storage.blob(b"layer"): 5})

    assert (read_details(settings, parse("app:v1"), query.sees), read_usage(settings, query).rows) == before


def test_an_untagged_manifest_is_no_tag_afterwards(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "storage")
    digest = storage.image("app", layers=(b"layer",))
    storage.image("app", "v1", layers=(b"other",))
    details = read_details(settings_for(storage), parse(f"app@{digest}"), lambda _name: True)
    assert details.unique == details.size
    assert details.also_tagged == ()
    assert details.part_of == ()
