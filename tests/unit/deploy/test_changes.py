"""A plan is a value that is printed or applied; nothing is applied that would replace what others wrote."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from sysreg_cli.deploy import changes
from sysreg_cli.deploy.changes import PlannedChange, make_plan
from sysreg_cli.deploy.deployment import Deployment
from sysreg_cli.deploy.file import File
from sysreg_cli.deploy.resource import Change, Context, Resource
from sysreg_cli.deploy.units import RunningUnit
from sysreg_cli.errors import Conflict, SysregError
from sysreg_cli.settings import PathSettings, RegistrySettings, Settings
from tests.unit.deploy.machine import FakePrograms, context_of

_UNIT = "some.service"
_ACTIVE = {f"systemctl show --value --property ActiveState {_UNIT}": "active"}


def deployment(directory: Path, *resources: Resource) -> Deployment:
    return Deployment(File(directory / "sample", b"sample\n", seed=True), resources, (RunningUnit(_UNIT),))


def lines(plan: Sequence[PlannedChange]) -> list[str]:
    return [planned.change.line for planned in plan]


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return context_of(tmp_path / "state", FakePrograms(outputs=dict(_ACTIVE)))


def test_a_plan_lists_all_changes_in_order_and_makes_none(tmp_path: Path, context: Context) -> None:
    files = [File(tmp_path / name, b"text\n", restarts=(_UNIT,)) for name in "ab"]
    plan = make_plan(deployment(tmp_path, *files).all, context)
    assert lines(plan) == [
        f"create {tmp_path}/sample",
        f"create {tmp_path}/a",
        f"create {tmp_path}/b",
        f"restart {_UNIT}",
    ]
    assert list(tmp_path.iterdir()) == []
    assert context.pending == set()


def test_a_run_reports_what_the_plan_listed_and_a_second_run_nothing(
    tmp_path: Path, context: Context
) -> None:
    whole = deployment(tmp_path, File(tmp_path / "a", b"text\n", restarts=(_UNIT,)))
    reported: list[str] = []
    context = dataclasses.replace(context, report=reported.append)
    planned = lines(make_plan(whole.all, context))
    assert changes.apply(whole, context, adopt=False) == len(planned)
    assert reported == planned
    assert changes.apply(whole, context, adopt=False) == 0
    assert lines(make_plan(whole.all, context)) == []


def test_restarts_of_a_run_that_failed_are_made_by_the_next(tmp_path: Path, context: Context) -> None:
    whole = deployment(tmp_path, File(tmp_path / "a", b"text\n", restarts=(_UNIT,)))
    assert isinstance(context.programs, FakePrograms)
    context.programs.failing = {f"systemctl restart {_UNIT}": "Job failed"}
    with pytest.raises(SysregError, match="Job failed"):
        changes.apply(whole, context, adopt=False)
    programs = FakePrograms(outputs=dict(_ACTIVE))
    assert changes.apply(whole, context_of(tmp_path / "state", programs), adopt=False) == 1
    assert f"systemctl restart {_UNIT}" in programs.changes


def test_files_of_others_are_refused_before_anything_is_changed(tmp_path: Path, context: Context) -> None:
    (tmp_path / "b").write_text("theirs")
    whole = deployment(tmp_path, *(File(tmp_path / name, b"text\n") for name in "ab"))
    with pytest.raises(Conflict, match=r"refused to replace .*/b, which sysreg-deploy did not write"):
        changes.apply(whole, context, adopt=False)
    assert not (tmp_path / "a").exists()
    assert changes.apply(whole, context, adopt=True) == 3
    assert (tmp_path / "b").read_text() == "text\n"


@dataclass(frozen=True)
class Copy(Resource):
    """A file with the content of another."""

    path: Path
    source: Path

    def compare(self, context: Context) -> Change | None:
        same = self.path.read_text() == self.source.read_text()
        return None if same else Change("copy", self._copy)

    def _copy(self, context: Context) -> None:
        shutil.copy(self.source, self.path)


def test_a_change_that_another_one_requires_is_made_in_the_same_run(tmp_path: Path, context: Context) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    whole = deployment(tmp_path, Copy(copy, source), File(source, b"new\n"))
    context.record.take(source)
    for path in (source, copy):
        path.write_text("old\n")
    assert "copy" not in lines(make_plan(whole.all, context))
    changes.apply(whole, context, adopt=False)
    assert copy.read_text() == "new\n"


@dataclass(frozen=True)
class Broken(Resource):
    """Differs whatever is done; ``apply`` does it."""

    action: Callable[[Context], None]

    def compare(self, context: Context) -> Change | None:
        return Change("repair it", self.action)


def test_a_change_without_effect_is_an_error(tmp_path: Path, context: Context) -> None:
    with pytest.raises(SysregError, match="repair it: done, but"):
        changes.apply(deployment(tmp_path, Broken(lambda _: None)), context, adopt=False)


def test_an_error_of_the_system_names_the_file_and_the_remedy(tmp_path: Path, context: Context) -> None:
    broken = Broken(lambda _: (tmp_path / "missing/file").touch())
    with pytest.raises(SysregError, match=r"missing/file: No such file or directory; repair that, then"):
        changes.apply(deployment(tmp_path, broken), context, adopt=False)


@pytest.mark.parametrize("purge", [False, True])
def test_removal_undoes_everything_but_the_images(tmp_path: Path, context: Context, purge: bool) -> None:
    image = tmp_path / "storage/docker/image"
    image.parent.mkdir(parents=True)
    image.touch()
    settings = Settings(
        registry=RegistrySettings(storage=tmp_path / "storage"), paths=PathSettings(state=tmp_path / "state")
    )
    whole = deployment(tmp_path, File(tmp_path / "new/a", b"text\n"))
    changes.apply(whole, context, adopt=False)
    (tmp_path / "state/services").touch()
    changes.remove(whole, context, settings, purge=purge)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.iterdir()}
    assert left == {"storage"}
    assert image.exists() is not purge


def test_what_a_killed_run_left_beside_its_files_is_removed(tmp_path: Path, context: Context) -> None:
    whole = deployment(tmp_path, File(tmp_path / "new/a", b"text\n"))
    changes.apply(whole, context, adopt=False)
    leftover = tmp_path / "new/.sysreg-a.0123"
    leftover.touch()
    changes.apply(whole, context, adopt=False)
    assert not leftover.exists()
