"""What becomes of the operator's file, whatever the agent answers; the agents here are the odd ones."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.certificates import bundle, key_pem
from tests.unit.cli.certificates.odd_agents import INSTALLED, LEAF, PEM, ROOT, SUCCESS, fault, http, install


@pytest.mark.parametrize(
    "answer",
    [
        http(fault("no"), "400 Bad Request"),
        http(fault("no token"), "401 Unauthorized"),
        http(fault("not you"), "403 Forbidden"),
        http(fault("a collection runs"), "409 Conflict"),
        http(fault("broken"), "500 Internal Server Error"),
        http(fault("no keystone"), "503 Service Unavailable"),
        http(b"<html>Bad Gateway</html>", "502 Bad Gateway"),
        http(SUCCESS, "500 Internal Server Error"),
        http(b"", "302 Found"),
        http(b"", "204 No Content"),
        http(b""),
        http(b"\xff\xfe garbage"),
        http([]),
        http(None),
        http({}),
        http({"success": "", "error": "", "certificates": []}),
        http({"success": "", "error": "", "certificates": [{}]}),
        http({"success": "", "error": "", "certificates": ["x"]}),
        http({"success": "", "error": "", "certificates": {"a": 1}}),
        http({"success": "", "error": None, "certificates": [INSTALLED]}),
        http({"success": "", "certificates": [INSTALLED]}),
        http({"success": "", "error": {}, "certificates": [INSTALLED]}),
        http({"success": "", "error": "refused", "certificates": [INSTALLED]}),
        http({**SUCCESS, "certificates": [{**INSTALLED, "signature": "docker_registry_1"}]}),
        http({**SUCCESS, "certificates": [{**INSTALLED, "subject": 7}]}),
        http(SUCCESS)[:-20],
        b"",
        b"not http at all\r\n\r\n",
        b"\x00" * 1000,
    ],
)
def test_no_answer_but_success_about_this_certificate_costs_the_file(
    agent: Callable[[bytes], dict[str, str]],
    file: Path,
    answer: bytes,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert install(agent(answer), file) == 1
    assert file.read_bytes() == PEM
    output = capsys.readouterr().err
    assert output.startswith("system: ")
    assert output.count("\n") == 1
    assert "internal error, please" not in output


def test_no_agent_at_all_is_told_with_its_socket(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = str(tmp_path / "nothing.sock")
    (tmp_path / "sysreg.conf").touch()
    environ = {"SYSREG_AGENT": nowhere, "SYSREG_CONF": str(tmp_path / "sysreg.conf")}
    assert install(environ, file) == 1
    assert nowhere in capsys.readouterr().err
    assert file.exists()


def test_an_agent_that_never_answers_is_waited_for_no_longer_than_told(
    agent: Callable[..., dict[str, str]], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = threading.Event()
    assert install(agent(http(SUCCESS), during=lambda: done.wait(30)), file, "--timeout", "0.5") == 1
    done.set()
    assert "gave no answer within 0.5 s" in capsys.readouterr().err
    assert file.read_bytes() == PEM


def test_success_removes_the_file_and_says_so(
    agent: Callable[[bytes], dict[str, str]], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert install(agent(http(SUCCESS)), file) == 0
    assert not file.exists()
    output = capsys.readouterr()
    assert "holds the private key: the file will be removed" in output.out
    assert output.err == ""


def test_json_output_is_an_object_and_nothing_else(
    agent: Callable[[bytes], dict[str, str]], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert install(agent(http(SUCCESS)), file, "-f", "json") == 0
    assert json.loads(capsys.readouterr().out) == INSTALLED


def test_keep_file_keeps_it(agent: Callable[[bytes], dict[str, str]], file: Path) -> None:
    assert install(agent(http(SUCCESS)), "--keep-file", file) == 0
    assert file.read_bytes() == PEM


def test_a_link_is_installed_but_neither_it_nor_its_target_removed(
    agent: Callable[[bytes], dict[str, str]], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = file.with_name("link.pem")
    link.symlink_to(file)
    assert install(agent(http(SUCCESS)), link) == 0
    assert link.is_symlink()
    assert file.exists()
    assert "is not removed: it is a link to" in capsys.readouterr().out


def test_a_file_that_changed_meanwhile_is_left_and_that_is_a_failure(
    agent: Callable[..., dict[str, str]], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = agent(http(SUCCESS), during=lambda: file.write_bytes(b"next year's key"))
    assert install(environ, file) == 1
    assert file.read_bytes() == b"next year's key"
    assert "was not removed: it has changed meanwhile" in capsys.readouterr().err


def test_a_directory_that_was_exchanged_meanwhile_costs_no_other_file(
    agent: Callable[..., dict[str, str]], tmp_path: Path, file: Path
) -> None:
    """Another user moves the directory away, and puts a copy of the file where root would remove one."""
    directory, moved = tmp_path / "keys", tmp_path / "moved"
    directory.mkdir()
    given = Path(shutil.move(file, directory / "server.pem"))

    def exchange() -> None:
        directory.rename(moved)
        directory.mkdir()
        os.link(moved / "server.pem", given)

    assert install(agent(http(SUCCESS), during=exchange), given) == 0
    assert given.read_bytes() == PEM
    assert not (moved / "server.pem").exists()


def test_a_link_in_the_place_of_the_file_is_left(
    agent: Callable[..., dict[str, str]], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def exchange() -> None:
        file.rename(file.with_name("moved.pem"))
        file.symlink_to("moved.pem")

    assert install(agent(http(SUCCESS), during=exchange), file) == 1
    assert file.is_symlink()
    assert file.with_name("moved.pem").read_bytes() == PEM
    assert "was not removed" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", ".", "server.pem/"])
def test_what_is_no_file_is_wrong_usage(
    agent: Callable[..., dict[str, str]], file: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert install(agent(http(SUCCESS)), f"{file.parent}/{name}") == 2
    assert file.exists()
    assert capsys.readouterr().err.count("\n") == 1


def test_another_name_of_the_file_is_told(
    agent: Callable[[bytes], dict[str, str]], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.link(file, file.with_name("copy.pem"))
    assert install(agent(http(SUCCESS)), file) == 1
    assert not file.exists()
    assert "another name (hard link)" in capsys.readouterr().err


def test_standard_input_is_read(
    agent: Callable[[bytes], dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import io
    import sys

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(PEM)))
    assert install(agent(http(SUCCESS)), "-") == 0
    assert "removed" not in capsys.readouterr().out


@pytest.mark.parametrize(("size", "code"), [(64 * 1024, 0), (64 * 1024 + 1, 1)])
def test_more_than_64_kib_are_not_even_sent(
    agent: Callable[[bytes], dict[str, str]], file: Path, size: int, code: int
) -> None:
    file.write_bytes(PEM + b"\n" * (size - len(PEM)))
    assert install(agent(http(SUCCESS)), "--keep-file", file) == code


def test_the_passphrase_is_asked_for_only_if_the_key_is_encrypted_and_somebody_is_there(
    agent: Callable[[bytes], dict[str, str]], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import getpass
    import sys

    asked = []

    def answer(*_args: object, **_options: object) -> str:
        asked.append(1)
        return "secret"

    monkeypatch.setattr(getpass, "getpass", answer)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert install(agent(http(SUCCESS)), "--keep-file", file) == 0
    assert asked == []
    file.with_name("agent.sock").unlink()
    file.write_bytes(bundle(LEAF, ROOT, key=key_pem(LEAF.key, passphrase=b"secret")))
    assert install(agent(http(SUCCESS)), "--keep-file", file) == 0
    assert asked == [1]


def test_a_missing_file_is_wrong_usage_and_no_agent_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sysreg.conf").touch()
    assert install({"SYSREG_CONF": str(tmp_path / "sysreg.conf")}, tmp_path / "none.pem") == 2
    assert "none.pem: No such file" in capsys.readouterr().err
