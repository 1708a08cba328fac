"""A directory as a source: which files are read, and that each way of replacing them is noticed."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from devstack.waiting import wait_until
from sysreg_cli.agent.renewal.directory import FollowedDirectory, _content
from sysreg_cli.agent.renewal.readings import Reading
from sysreg_cli.settings import DirectorySource


def written(directory: Path, content: str) -> None:
    """In place, as a script does."""
    directory.mkdir(exist_ok=True)
    for name in ("privkey.pem", "fullchain.pem"):
        (directory / name).write_text(content)


def renamed(directory: Path, content: str) -> None:
    """By a rename of each file."""
    directory.mkdir(exist_ok=True)
    for name in ("privkey.pem", "fullchain.pem"):
        (directory / "new").write_text(content)
        (directory / "new").rename(directory / name)


def certbot(directory: Path, content: str) -> None:
    """certbot's ``live`` links into ``archive``; it replaces each link."""
    archive = directory.parent / "archive"
    archive.mkdir(exist_ok=True)
    directory.mkdir(exist_ok=True)
    number = len(list(archive.iterdir())) // 2 + 1
    for kind in ("privkey", "fullchain"):
        (archive / f"{kind}{number}.pem").write_text(content)
    for kind in ("privkey", "fullchain"):
        link = directory / f"{kind}.pem"
        link.unlink(missing_ok=True)
        link.symlink_to(f"../archive/{kind}{number}.pem")


def kubelet(directory: Path, content: str) -> None:
    """The volume of a secret or a CSI driver: the link ``..data`` is replaced by a rename."""
    directory.mkdir(exist_ok=True)
    old = (directory / "..data").resolve().name if (directory / "..data").is_symlink() else ""
    name = f"..2026_{content}"
    (directory / name).mkdir()
    for kind in ("privkey.pem", "fullchain.pem"):
        (directory / name / kind).write_text(content)
        if not old:
            (directory / kind).symlink_to(f"..data/{kind}")
    (directory / "..data_tmp").symlink_to(name)
    (directory / "..data_tmp").rename(directory / "..data")
    if old:
        shutil.rmtree(directory / old)


def whole_directory(directory: Path, content: str) -> None:
    """The directory is a link, which is replaced."""
    place = directory.with_name(f"release-{content}")
    written(place, content)
    directory.with_name("link").symlink_to(place)
    directory.with_name("link").rename(directory)


@pytest.mark.parametrize("replace", [written, renamed, certbot, kubelet, whole_directory])
def test_each_way_of_replacing_the_files_is_noticed(
    replace: Callable[[Path, str], None], tmp_path: Path
) -> None:
    readings: list[Reading] = []
    stopping = threading.Event()
    replace(tmp_path / "live", "A")
    follower = FollowedDirectory(DirectorySource(tmp_path / "live"), poll_seconds=0.01)
    thread = threading.Thread(target=follower.follow, args=(readings.append, stopping))
    thread.start()
    try:
        for content in "ABC":
            if content != "A":
                replace(tmp_path / "live", content)
            expected = f"{content}\n{content}\n".encode()
            wait_until(lambda expected=expected: readings[-1].candidates == (expected,))  # type: ignore[misc]
    finally:
        stopping.set()
        thread.join()


def reading(directory: Path) -> Reading:
    return FollowedDirectory(DirectorySource(directory)).read()


def test_the_names_of_cert_managers_driver_are_read_with_the_ca(tmp_path: Path) -> None:
    for name in ("tls.key", "tls.crt", "ca.crt"):
        (tmp_path / name).write_text(name)
    assert reading(tmp_path).candidates == (b"tls.key\ntls.crt\nca.crt", b"tls.key\ntls.crt\n")
    (tmp_path / "ca.crt").unlink()
    assert reading(tmp_path).candidates == (b"tls.key\ntls.crt\n",)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    assert reading(tmp_path / "none").problem == f"there is no directory {tmp_path}/none"
    assert "holds no fullchain.pem" in reading(tmp_path).problem
    (tmp_path / "fullchain.pem").write_text("x")
    assert reading(tmp_path).problem == f"{tmp_path}/privkey.pem: No such file or directory"
    (tmp_path / "privkey.pem").symlink_to("privkey.pem")
    assert "symbolic links" in reading(tmp_path).problem


def test_odd_files_do_not_stop_the_agent(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fullchain.pem")
    (tmp_path / "privkey.pem").symlink_to("/dev/zero")
    held = reading(tmp_path)
    assert len(held.candidates[0]) < 70_000
    (tmp_path / "privkey.pem").unlink()
    (tmp_path / "privkey.pem").mkdir()
    assert "directory" in reading(tmp_path).problem


def test_a_reading_never_shows_a_key() -> None:
    assert "secret" not in repr(Reading.of(b"secret key", b"chain", b"ca"))


def test_a_directory_in_place_of_a_file_leaks_no_descriptor(tmp_path: Path) -> None:
    (tmp_path / "privkey.pem").mkdir()
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(IsADirectoryError):
        _content(tmp_path / "privkey.pem")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
