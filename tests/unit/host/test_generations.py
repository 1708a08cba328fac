"""One link says which key and chain are in use; the history is short, unfinished changes leave nothing."""

from pathlib import Path

import pytest

from sysreg_cli.host.generations import Generations
from tests import certificates as make


@pytest.fixture
def generations(tmp_path: Path) -> Generations:
    first = tmp_path / "generations" / "first"
    first.mkdir(parents=True)
    (first / "server.crt").write_bytes(b"first chain")
    (tmp_path / "current").symlink_to("generations/first")
    return Generations(tmp_path)


def install(generations: Generations) -> str:
    name = generations.next_name()
    generations.create(name, b"key", b"chain")
    generations.use(name)
    generations.prune()
    return name


def test_nothing_is_in_use_before_the_first(tmp_path: Path) -> None:
    assert Generations(tmp_path).current() is None
    assert Generations(tmp_path).names() == []
    assert Generations(tmp_path).next_name() == "000001"


def test_a_file_beside_the_generations_disturbs_nothing(generations: Generations, tmp_path: Path) -> None:
    (tmp_path / "generations/notes.txt").write_text("mine")
    for _ in range(4):
        name = install(generations)
    assert generations.names()[-1] == name
    assert (tmp_path / "generations/notes.txt").exists()


def test_key_and_chain_are_protected(generations: Generations) -> None:
    name = install(generations)
    files = generations.path(name)
    assert (files / "server.key").stat().st_mode & 0o777 == 0o440
    assert (files / "server.crt").stat().st_mode & 0o777 == 0o444


def test_the_current_link_shows_the_chain_that_was_given(generations: Generations, tmp_path: Path) -> None:
    root = make.authority()
    leaf = make.server(root)
    generations.create("000001", b"key", leaf.pem + root.pem)
    generations.use("000001")
    assert generations.certificates("000001") == (leaf.certificate, root.certificate)
    assert (tmp_path / "current" / "server.crt").read_bytes() == leaf.pem + root.pem


def test_the_last_three_are_kept(generations: Generations) -> None:
    names = [install(generations) for _ in range(5)]
    assert generations.names() == names[-3:]
    assert generations.current() == names[-1]


def test_the_deployed_one_is_the_oldest_whatever_its_name(generations: Generations) -> None:
    names = [install(generations), install(generations)]
    assert generations.names() == ["first", *names]
    assert generations.before(names[1]) == ["first", names[0]]


def test_going_back_restores_the_old_link_and_pruning_removes_the_new_one(generations: Generations) -> None:
    generations.create("000001", b"key", b"chain")
    generations.use("000001")
    generations.go_back("first")
    assert generations.current() == "first"
    generations.prune()
    assert generations.names() == ["first"]


def test_numbers_sort_as_numbers(generations: Generations) -> None:
    for name in ("999999", "1000000"):
        generations.create(name, b"key", b"chain")
    assert generations.names() == ["first", "999999", "1000000"]
    assert generations.next_name() == "1000001"
