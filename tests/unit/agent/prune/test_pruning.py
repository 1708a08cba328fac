"""A prune of storages by chance: it does what its dry run says, and touches nothing that a kept tag needs."""

from __future__ import annotations

import contextlib
import os
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sysreg_cli.agent.garbage import planning
from sysreg_cli.agent.prune.plan import Verdict
from sysreg_cli.agent.prune.pruning import Order, Removal, prune
from sysreg_cli.agent.prune.rules import StoredTag
from sysreg_cli.agent.storage.deleted import DeletedTag, deleted_tags
from sysreg_cli.agent.storage.mark import Marks
from sysreg_cli.agent.storage.snapshot import Snapshot
from sysreg_cli.agent.storage.tags import TagStorage
from sysreg_cli.errors import NotFound, NotSupported, SysregError, Unavailable
from sysreg_cli.settings import RetentionSettings
from sysreg_cli.tokens.write_lock import WriteLock
from sysreg_cli.v1.prune import Decision, Pruning
from tests.unit.agent.prune.stores import DAY, NOW, files, fill, push_days_ago, rule, settings_for
from tests.unit.agent.storage.builder import Storage

# in memory where there is such a file system
_FAST = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def tags_of(storage: Storage) -> set[str]:
    return {f"{name}:{tag}" for name, it in Snapshot(storage.root).repositories.items() for tag in it.tags}


def directory_of(image: str) -> str:
    repository, _, tag = image.rpartition(":")
    return f"docker/registry/v2/repositories/{repository}/_manifests/tags/{tag}/"


def needed_by(storage: Storage, tags: set[str]) -> set[str]:
    """Return the manifests (NAME@DIGEST) and blobs that some tags (NAME:TAG) need."""
    snapshot = Snapshot(storage.root)
    needed: set[str] = set()
    for name, repository in snapshot.repositories.items():
        marks = Marks(snapshot, repository)
        marks.add({digest for tag, digest in repository.tags.items() if digest and f"{name}:{tag}" in tags})
        needed |= {f"{name}@{digest}" for digest in marks.manifests} | marks.blobs
    return needed


def collection(storage: Storage) -> planning.SweepPlan:
    """Return what a collection removes that keeps nothing for its age."""
    return planning.make(Snapshot(storage.root), now=NOW * 2, grace=0, delete_untagged=True)


@given(seed=st.integers(0, 2**32))
@settings(
    max_examples=100,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_a_prune_does_what_its_dry_run_says_and_touches_nothing_that_a_kept_tag_needs(seed: int) -> None:
    chance = random.Random(seed)
    with TemporaryDirectory(dir=_FAST) as directory:
        storage = Storage(Path(directory) / "storage")
        fill(storage, chance)
        protected = tuple(chance.sample(["plain", "a/x:1", "*:t2", "b/*"], chance.randint(0, 1)))
        configured = settings_for(storage, protected=protected)
        rules = {f"rule{number}": rule(chance) for number in range(chance.randint(1, 3))}
        order = Order(rules, policy=True, dry_run=True, unlimited=chance.random() < 0.3)
        before = files(storage.root)
        planned = prune(configured, order, lambda: NOW)
        assert files(storage.root) == before, "the dry run has changed something"
        done = prune(configured, replace(order, dry_run=False), lambda: NOW)
        assert replace(done, dry_run=True) == planned

        gone = {it.image for it in done.tags if it.decision is Decision.DELETE}
        kept, after = tags_of(storage), files(storage.root)
        assert not gone & kept
        removed = tuple(map(directory_of, gone))
        records = {path for path in after.keys() - before.keys() if "/blobs/" in path}
        assert after == {
            **{path: data for path, data in before.items() if not path.startswith(removed)},
            **{path: after[path] for path in records},
        }
        assert {str(it) for it in deleted(storage)} == gone
        plan = collection(storage)
        manifests = {f"{name}@{digest}" for name, found in plan.manifests.items() for digest in found}
        assert not needed_by(storage, kept) & {*manifests, *plan.blobs}
        assert_promises(done, order, protected)


def assert_promises(done: Pruning, order: Order, protected: tuple[str, ...]) -> None:
    """Each tag has a reason, nothing protected goes, and of no image more than allowed."""
    assert all(it.reason for it in done.tags)
    gone = [it.image for it in done.tags if it.decision is Decision.DELETE]
    assert not [it for it in gone if "b/*" in protected and it.startswith("b/")]
    assert "a/x:1" not in gone or "a/x:1" not in protected
    if not order.unlimited:
        tags = Counter(it.image.rpartition(":")[0] for it in done.tags)
        limit = max(it.at_most for it in order.rules.values())
        for image, number in Counter(it.rpartition(":")[0] for it in gone).items():
            assert number * 100 <= tags[image] * limit, image


def deleted(storage: Storage) -> list[DeletedTag]:
    snapshot = Snapshot(storage.root)
    return [it for repository in snapshot.repositories.values() for it in deleted_tags(snapshot, repository)]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "storage")


def order(*images: str, **rule: Any) -> Order:
    unlimited, dry_run = rule.pop("unlimited", True), rule.pop("dry_run", False)
    return Order(
        {"": RetentionSettings(images or ("*",), **rule)}, by="somebody", dry_run=dry_run, unlimited=unlimited
    )


def test_only_tags_go_and_a_collection_that_deletes_untagged_manifests_frees_what_was_told(
    storage: Storage,
) -> None:
    for days in range(4):
        storage.image("app", f"v{days}", layers=(b"shared", bytes([days]) * 100))
        push_days_ago(storage, "app", f"v{days}", days)
    storage.image("other", "v1", layers=(bytes([3]) * 100,))
    done = prune(settings_for(storage), order("app", keep=2), lambda: NOW)
    assert tags_of(storage) == {"app:v0", "app:v1", "other:v1"}
    assert done.removed == 2
    assert sum(it.unique for it in done.tags if it.decision is Decision.DELETE) == done.freed > 100
    freed = collection(storage)
    (record,) = {it.record for it in deleted(storage)}
    assert sum(freed.blobs.values()) - freed.blobs[record] == done.freed
    assert {str(it) for it in deleted(storage)} == {"app:v2", "app:v3"}
    assert {it.by for it in deleted(storage)} == {"somebody"}


def test_a_glob_that_matches_nothing_stops_everything(storage: Storage) -> None:
    storage.image("app", "v1")
    for wanted, said in (
        (order("app", "ap", keep=0), "no image matches ap"),
        (order("app", match=("v2",)), "no tag of these images matches v2"),
    ):
        with pytest.raises(NotFound, match=said):
            prune(settings_for(storage), wanted, lambda: NOW)
    assert tags_of(storage) == {"app:v1"}


def test_a_policy_whose_images_are_not_there_is_a_problem_and_the_others_are_applied(
    storage: Storage,
) -> None:
    storage.image("app", "v1")
    rules = {"gone": RetentionSettings(("gone/*",), keep=0), "app": RetentionSettings(("app",), keep=0)}
    done = prune(settings_for(storage), Order(rules, policy=True, unlimited=True), lambda: NOW)
    assert tags_of(storage) == set()
    assert done.problems == ("no image matches gone/*; correct the section [retention NAME] in sysreg.conf",)


def test_a_storage_of_another_driver_is_not_pruned(storage: Storage) -> None:
    configured = settings_for(storage)
    configured.registry.config.write_text("storage: {s3: {bucket: b}}")
    with pytest.raises(NotSupported, match="has the driver s3, which the agent cannot read"):
        prune(configured, order(keep=1))


def test_while_a_collection_holds_writes_nothing_is_removed(storage: Storage) -> None:
    storage.image("app", "v1")
    configured = settings_for(storage)
    with contextlib.closing(WriteLock(configured.paths.state).hold()):
        with pytest.raises(Unavailable, match="while a garbage collection runs"):
            prune(configured, order(keep=0), lambda: NOW)
        assert prune(configured, order(keep=0, dry_run=True), lambda: NOW).removed == 1
    assert tags_of(storage) == {"app:v1"}


class _StorageOfOthers:
    """A storage that others change meanwhile: what each call of ``remove`` does is given.

    ``left`` are the tags of an image after an error. ``asked`` are those that were to be removed.
    """

    def __init__(self, *outcomes: list[str] | SysregError, left: Sequence[str] = ("1", "2")) -> None:
        self._outcomes = iter(outcomes)
        self._left = left
        self.asked: list[str] = []

    def tags(self, _repository: str) -> dict[str, str]:
        return dict.fromkeys(self._left, "")

    def remove(
        self,
        _repository: str,
        tags: Mapping[str, str],
        _trees: Mapping[str, tuple[str, ...]],
        *,
        by: str,
        pushed: Mapping[str, float],
    ) -> list[str]:
        assert (by, pushed.keys()) == ("me", tags.keys())
        self.asked += tags
        outcome = next(self._outcomes)
        if isinstance(outcome, SysregError):
            raise outcome
        return outcome


def test_what_was_not_removed_after_all_is_shown_as_kept() -> None:
    verdicts = [
        Verdict(image, StoredTag(tag, "sha256:" + 64 * "0", NOW), Decision.DELETE, "old")
        for image, tag in (("a", "1"), ("a", "2"), ("b", "1"), ("c", "1"))
    ]
    collects = Unavailable("a collection runs", next_step="try again later")
    removal = Removal(_StorageOfOthers(["2"], SysregError("no rights"), collects), "me")  # type: ignore[arg-type]
    assert {str(it): (it.decision, it.reason) for it in removal.run(verdicts)} == {
        "a:1": (Decision.KEEP, "it was pushed again meanwhile"),
        "a:2": (Decision.DELETE, "old"),
        "b:1": (Decision.KEEP, "not removed: no rights"),
        "c:1": (Decision.KEEP, "not removed: a collection runs"),
    }
    assert removal.problems == [
        "b: 1 tag was not removed: no rights",
        "c: 1 tag was not removed: a collection runs; try again later",
    ]


def test_tags_that_are_gone_when_a_removal_fails_are_shown_as_removed() -> None:
    verdicts = [_goes("a", tag) for tag in ("1", "2", "3")]
    removal = Removal(_StorageOfOthers(SysregError("no rights"), left=["3"]), "me")  # type: ignore[arg-type]
    assert [it.goes for it in removal.run(verdicts)] == [True, True, False]
    assert removal.problems == ["a: 1 tag was not removed: no rights"]


def test_a_signature_is_never_removed_before_its_image() -> None:
    signature, second = _goes("a", "sha256-0.sig", "v1"), _goes("a", "sha256-1.sig", "sha256-0.sig")
    verdicts = [signature, second, _goes("a", "v1")]
    storage: Any = _StorageOfOthers(["v1"], ["sha256-0.sig"], ["sha256-1.sig"])
    assert all(it.goes for it in Removal(storage, "me").run(verdicts))
    assert storage.asked == ["v1", "sha256-0.sig", "sha256-1.sig"]

    storage = _StorageOfOthers([])  # v1 was pushed again
    kept = Removal(storage, "me").run(verdicts)
    assert storage.asked == ["v1"]
    assert [it.reason for it in kept] == [
        "belongs to a:v1, which was not removed",
        "belongs to a:sha256-0.sig, which was not removed",
        "it was pushed again meanwhile",
    ]


def _goes(image: str, tag: str, *owners: str) -> Verdict:
    return Verdict(image, StoredTag(tag, "sha256:" + 64 * "0", NOW), Decision.DELETE, "old", owners)


def test_a_tag_that_is_pushed_again_with_the_same_image_stays(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.image("app", "v1")
    push_days_ago(storage, "app", "v1", 40)
    remove = TagStorage.remove

    def pushed_before(tags: TagStorage, *words: Any, **options: Any) -> list[str]:
        push_days_ago(storage, "app", "v1", 0)
        return remove(tags, *words, **options)

    monkeypatch.setattr(TagStorage, "remove", pushed_before)
    done = prune(settings_for(storage), order("app", older_than=30 * DAY), lambda: NOW)
    assert tags_of(storage) == {"app:v1"}
    assert [it.reason for it in done.tags] == ["it was pushed again meanwhile"]


@pytest.mark.parametrize("policy", [False, True])
def test_a_registry_without_images_has_nothing_to_prune(storage: Storage, policy: bool) -> None:
    for _ in range(2):
        wanted = replace(order(keep=5), policy=policy)
        done = prune(settings_for(storage), wanted, lambda: NOW)
        assert (done.tags, done.problems) == ((), ())
        (storage.repositories / "app/_layers").mkdir(parents=True, exist_ok=True)
