"""The parts around the plan: what is read of the registry, remembered, and changed in the storage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sysreg_cli.agent.garbage import edits, registry_config, releases
from sysreg_cli.agent.garbage.collector import Output
from sysreg_cli.agent.garbage.history import MOST_RESULTS, History, Running
from sysreg_cli.agent.garbage.result import PHASES, Options, Progress, Result
from sysreg_cli.agent.garbage.store import FilesystemStore
from sysreg_cli.errors import SysregError
from tests.unit.agent.garbage.storage import Storage

# -- config.yml ----------------------------------------------------------------------------------------


def test_debians_own_config_is_understood(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text(
        "storage:\n  cache: {blobdescriptor: inmemory}\n  filesystem: {rootdirectory: /srv}\n"
        "  delete: {enabled: true}\nhttp:\n  addr: :5000\n"
    )
    config = registry_config.read(path)
    assert (config.driver, config.root, config.cache) == ("filesystem", Path("/srv"), "inmemory")
    assert (config.listen, config.debug) == (":5000", "")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("storage: {}", "no driver"),
        ("storage: {s3: {}, filesystem: {}}", "or several"),
        ("- a list", "no driver"),
        ("a: b: c", "not YAML"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "config.yml"
    path.write_text(text)
    with pytest.raises(SysregError, match=reason):
        registry_config.read(path)


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(SysregError, match=r"config\.yml: No such file"):
        registry_config.read(tmp_path / "config.yml")


# -- the collector's output ----------------------------------------------------------------------------


def test_output_is_understood_however_it_is_cut() -> None:
    text = "a: marking manifest sha256:1 \na: marking blob sha256:2\nblob eligible for deletion: sha256:3\n"
    output = Output()
    for character in text:
        output.feed(character)
    assert (output.manifests, output.eligible) == (1, ["sha256:3"])


# -- memory --------------------------------------------------------------------------------------------


def test_history_survives_and_keeps_the_latest_results(tmp_path: Path) -> None:
    directory = tmp_path / "garbage"
    history = History.load(directory)
    for number in range(MOST_RESULTS + 2):
        history.end(Result(str(number), Options(grace=number), "then", warnings=["w"] * 200))
    history.running = Running("last", Options(dry_run=True), "now")
    history.save()
    again = History.load(directory)
    assert again.running == history.running
    assert again.results == history.results
    assert [result.id for result in again.results][:2] == [str(MOST_RESULTS + 1), str(MOST_RESULTS)]
    assert len(again.results) == MOST_RESULTS
    assert again.results[0].warnings[-1] == "and 100 more"


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"running": 7, "results": []}', '{"results": [{"id": 1}]}']
)
def test_a_damaged_history_is_forgotten(tmp_path: Path, damage: str) -> None:
    directory = tmp_path / "garbage"
    directory.mkdir()
    (directory / "history.json").write_text(damage)
    assert History.load(directory).running is None


def test_what_was_to_be_freed_is_remembered_until_it_is_forgotten(tmp_path: Path) -> None:
    assert releases.recall(tmp_path) == {}
    releases.remember(tmp_path, 7.25, ["sha256:1", "sha256:2"])
    releases.remember(tmp_path, 8.5, ["sha256:2"])
    assert releases.recall(tmp_path) == {"sha256:2": 8.5}
    releases.forget(tmp_path)
    releases.forget(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"sha256:1\n", b"\xff\n"])
def test_a_damaged_memory_of_what_was_to_be_freed_is_none(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "freeing").write_bytes(damage)
    assert releases.recall(tmp_path) == {}


def test_progress_never_goes_back() -> None:
    progress, seen = Progress(), []
    for phase in PHASES:
        for within in (0.0, 0.5, 1.0, 2.0):
            progress.enter(phase, within)
            seen.append(progress.fraction)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


# -- edits ---------------------------------------------------------------------------------------------


def test_pins_keep_what_they_name_and_leave_nothing_behind(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    storage.image("app", "1", layers=(b"layer",))
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    digest = storage.blob(b"layer")
    edits.write_pin(tmp_path, {digest: 5})
    store = FilesystemStore(tmp_path)
    (pin,) = store.repositories[edits.PIN_REPOSITORY].revisions
    manifest = store.manifest(pin)
    assert manifest is not None
    assert digest in manifest.references
    assert edits.remove_pins(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before
    assert not edits.remove_pins(tmp_path)


def test_a_pin_that_was_cut_short_is_removed_as_well(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    edits.write_pin(tmp_path, {storage.blob(b"layer"): 5})
    (pin,) = FilesystemStore(tmp_path).repositories[edits.PIN_REPOSITORY].revisions
    storage.lose(pin)
    edits.remove_pins(tmp_path)
    assert edits.PIN_REPOSITORY not in FilesystemStore(tmp_path).repositories


def test_an_unlinked_manifest_is_forgotten_by_its_tags_history(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    old = storage.image("app", "1", layers=(b"old",))
    new = storage.image("app", "1", layers=(b"new",))
    edits.unlink_manifests(tmp_path, {"app": [old]})
    store = FilesystemStore(tmp_path)
    assert store.repositories["app"].revisions == {new}
    assert store.repositories["app"].tags == {"1": new}
    assert store.tagged_time("app", old) == 0.0
    assert json.loads(storage.path(old).read_bytes())
