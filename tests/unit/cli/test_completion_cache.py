"""The files that bash completion reads: own, private, whole, and never anybody else's."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from sysreg_cli.cli.completion_cache import CacheOwner, forget_tags, remember_names, remember_tags

ADMIN = CacheOwner("registry.local:9001", "", "http://keystone:5000/v3", "Default", "admin", "")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    directory = tmp_path / "home"
    directory.mkdir()
    return directory


def files(home: Path) -> list[Path]:
    return sorted((home / ".cache/sysreg").glob("*")) if home.exists() else []


def words(file: Path) -> list[str]:
    return file.read_text().splitlines()[2:]


def test_names_are_kept_sorted_behind_their_time_and_key(home: Path) -> None:
    before = int(time.time())
    remember_names(ADMIN, ["zoo", "alpine"], {"HOME": str(home)})
    (file,) = files(home)
    head, key, *rest = file.read_text().splitlines()
    assert head.startswith("sysreg-completion 1 ")
    assert before <= int(head.split()[2]) <= time.time()
    assert key == "registry.local:9001||http://keystone:5000/v3|Default|admin||"
    assert rest == ["alpine", "zoo"]


def test_only_the_owner_can_read_them(home: Path) -> None:
    (home / ".cache").mkdir()
    (home / ".cache/sysreg").mkdir(mode=0o755)
    remember_names(ADMIN, ["alpine"], {"HOME": str(home)})
    (file,) = files(home)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_users_registries_and_repositories_do_not_share_a_file(home: Path) -> None:
    environ = {"HOME": str(home)}
    remember_names(ADMIN, ["alpine"], environ)
    remember_names(ADMIN._replace(user="testuser"), ["testuser/own"], environ)
    remember_names(ADMIN._replace(registry="other:9001"), ["other"], environ)
    remember_tags(ADMIN, "alpine", ["v1"], environ)
    assert sorted(word for file in files(home) for word in words(file)) == [
        "alpine",
        "other",
        "testuser/own",
        "v1",
    ]


def test_what_is_no_name_or_tag_is_left_out(home: Path) -> None:
    environ = {"HOME": str(home)}
    remember_names(ADMIN, ["$(touch x)", "a b", "ok", "`id`", "x;y", ""], environ)
    remember_tags(ADMIN, "ok", ["$HOME", "v1", "-x", "\n"], environ)
    assert [words(file) for file in files(home)] == [["ok"], ["v1"]]


def test_a_key_of_several_lines_is_not_kept(home: Path) -> None:
    remember_names(ADMIN._replace(user="a\nb"), ["alpine"], {"HOME": str(home)})
    assert files(home) == []


def test_a_deleted_tag_is_no_longer_offered(home: Path) -> None:
    environ = {"HOME": str(home)}
    remember_tags(ADMIN, "alpine", ["v1"], environ)
    forget_tags(ADMIN, "alpine", environ)
    forget_tags(ADMIN, "alpine", environ)
    assert files(home) == []


def test_very_long_names_still_make_a_file(home: Path) -> None:
    remember_tags(ADMIN, "a" * 255, ["v1"], {"HOME": str(home)})
    (file,) = files(home)
    assert len(file.name) == 200


@pytest.mark.parametrize("link", [".cache", ".cache/sysreg"])
def test_a_symbolic_link_is_not_followed(home: Path, tmp_path: Path, link: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (home / link).parent.mkdir(exist_ok=True)
    (home / link).symlink_to(elsewhere)
    remember_names(ADMIN, ["alpine"], {"HOME": str(home)})
    assert list(elsewhere.iterdir()) == []


def test_a_link_in_the_place_of_the_file_is_replaced_not_written_through(home: Path, tmp_path: Path) -> None:
    remember_names(ADMIN, ["alpine"], {"HOME": str(home)})
    (file,) = files(home)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    file.unlink()
    file.symlink_to(victim)
    remember_names(ADMIN, ["alpine"], {"HOME": str(home)})
    assert victim.read_text() == "precious"
    assert not file.is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a directory to another user")
def test_under_sudo_the_home_of_the_other_user_is_left_alone(home: Path) -> None:
    os.chown(home, 65534, 65534)
    remember_names(ADMIN, ["alpine"], {"HOME": str(home)})
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("environ", [{}, {"HOME": ""}, {"HOME": "relative"}, {"HOME": "/no/such/home"}])
def test_without_a_home_nothing_is_kept_and_nothing_fails(environ: dict[str, str]) -> None:
    remember_names(ADMIN, ["alpine"], environ)


def test_xdg_cache_home_is_used_when_absolute(home: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    remember_names(ADMIN, ["alpine"], {"HOME": str(home), "XDG_CACHE_HOME": str(cache)})
    assert len(list((cache / "sysreg").iterdir())) == 1
    remember_names(ADMIN, ["alpine"], {"HOME": str(home), "XDG_CACHE_HOME": "relative"})
    assert len(files(home)) == 1


def test_files_nobody_asks_for_any_more_go(home: Path) -> None:
    remember_tags(ADMIN, "old", ["v1"], {"HOME": str(home)})
    (old,) = files(home)
    os.utime(old, (time.time() - 90000,) * 2)
    remember_tags(ADMIN, "new", ["v1"], {"HOME": str(home)})
    assert old not in files(home)
    assert len(files(home)) == 1
