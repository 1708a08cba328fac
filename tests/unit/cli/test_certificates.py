"""What becomes of the operator's file, whatever the agent answers; the agents here are the odd ones."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sysreg_cli.cli.invocation import Invocation
from sysreg_cli.cli.main import run
from tests.certificates import authority, bundle, key_pem, server

ROOT = authority()
LEAF = server(ROOT)
PEM = bundle(LEAF, ROOT)
INSTALLED = {
    "uuid": "0a1b",
    "certtype": "docker_registry",
    "signature": f"docker_registry_{LEAF.certificate.serial_number}",
    "start_date": "2026-01-01 00:00:00+00:00",
    "expiry_date": "2027-01-01 00:00:00+00:00",
    "subject": "CN=server",
}
SUCCESS = {"success": "", "error": "", "body": "", "certificates": [INSTALLED]}


def http(body: object, status: str = "200 OK") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(data), data)


def fault(text: str) -> dict[str, str]:
    return {"error_message": json.dumps({"faultstring": text, "faultcode": "Client", "debuginfo": None})}


def _is_bare(request: bytes) -> bool:
    """Whether ``request`` has ended and has no body."""
    return request.endswith(b"\r\n\r\n") and b"Content-Type" not in request


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Callable[[bytes], dict[str, str]]]:
    """``agent(answer)``: an agent that answers one request so; returns the environment to find it."""
    with contextlib.ExitStack() as stack:

        def start(answer: bytes, during: Callable[[], object] = lambda: None) -> dict[str, str]:
            path = tmp_path / "agent.sock"
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(path))
            listener.listen()

            def serve() -> None:
                with contextlib.suppress(OSError):
                    connection, _ = listener.accept()
                    with connection:
                        received = b""
                        while (
                            b"--\r\n" not in received[-8:]
                            and not _is_bare(received)
                            and (more := connection.recv(65536))
                        ):
                            received += more
                        during()
                        connection.sendall(answer)

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            # the thread must not go on to wait on the descriptor, which another listener gets
            stack.callback(thread.join, 10)
            stack.callback(listener.shutdown, socket.SHUT_RDWR)
            return {"SYSREG_AGENT": str(path), "SYSREG_CONF": str(settings)}

        settings = tmp_path / "sysreg.conf"
        settings.touch()
        yield start


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "server.pem"
    path.write_bytes(PEM)
    return path


@pytest.fixture(autouse=True)
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root sends no token, so that no Keystone is needed."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def install(environ: dict[str, str], *words: object) -> int:
    arguments = ["certificate-install", "-m", "docker_registry", *map(str, words)]
    return run(arguments, Invocation(environ=environ))


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


PLANNED = {
    "name": "docker_registry",
    "serial": "7",
    "subject": "CN=server",
    "issuer": "CN=Root",
    "expiry_date": "2027-01-01 00:00:00+00:00",
    "days_left": 300,
    "names_lost": ["old.example"],
}


def test_a_dry_run_shows_what_would_change_and_leaves_the_file(
    agent: Callable[[bytes], dict[str, str]], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert install(agent(http({"error": "", "changes": [PLANNED]})), "--dry-run", file) == 0
    output = capsys.readouterr()
    assert output.err == ""
    assert "old.example" in output.out
    assert file.exists()


def test_a_dry_run_of_a_refused_file_fails_as_its_install_does(
    agent: Callable[[bytes], dict[str, str]], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = {"error": "certificate refused: a; b", "changes": [], "reasons": ["a", "b"], "certificates": []}
    assert install(agent(http(answer)), "--dry-run", file) == 1
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", f"system: {file}: certificate refused: a; b\n")


@pytest.mark.parametrize("answer", [{"error": "", "changes": []}, SUCCESS, {"error": ""}, []])
def test_a_dry_run_without_a_usable_response_fails(
    agent: Callable[[bytes], dict[str, str]], file: Path, answer: object
) -> None:
    assert install(agent(http(answer)), "--dry-run", file) == 1


def test_the_refused_certificates_of_a_bundle_are_named_on_stdout(
    agent: Callable[[bytes], dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bundle.pem"
    file.write_bytes(ROOT.pem)
    answer = {**SUCCESS, "refused": ["certificate 2 (Old): expired"]}
    words = ["certificate-install", "-m", "ssl_ca", str(file)]
    assert run(words, Invocation(environ=agent(http(answer)))) == 0
    output = capsys.readouterr()
    assert output.err == ""
    assert f"{file}: not installed: certificate 2 (Old): expired" in output.out


@pytest.mark.parametrize(
    ("answer", "status", "says"),
    [
        (SUCCESS, 0, ""),
        ({**SUCCESS, "error": "certificate refused: expired", "certificates": []}, 1, "refused: expired"),
        ({"error": "", "certificates": []}, 1, "names no certificate"),
    ],
)
def test_a_rollback_succeeds_only_if_the_agent_names_the_certificate(
    agent: Callable[[bytes], dict[str, str]],
    answer: dict[str, object],
    status: int,
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["certificate-rollback", "docker_registry", "--to", "7", "--timeout", "30"]
    assert run(words, Invocation(environ=agent(http(answer)))) == status
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("words", [["ssl_ca_1"], ["docker_registry", "--to", "0x7"], []])
def test_a_rollback_of_anything_else_is_wrong_usage(words: list[str]) -> None:
    assert run(["certificate-rollback", *words], Invocation(environ={})) == 2


AUTHORITY = {**INSTALLED, "certtype": "ssl_ca", "signature": "ssl_ca_7", "subject": "CN=Old CA"}


@pytest.mark.parametrize("name", ["certificate-uninstall", "ca-certificate-uninstall"])
def test_an_uninstall_names_what_it_removed(
    agent: Callable[[bytes], dict[str, str]], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = {"certificate": AUTHORITY, "clients": [{"unit": "docker.service", "state": "needed"}]}
    assert run([name, "ssl_ca_7"], Invocation(environ=agent(http(answer)))) == 0
    output = capsys.readouterr()
    assert (output.out, output.err) == ("Certificate ssl_ca_7 uninstalled: CN=Old CA\n", "")


def test_a_daemon_that_does_not_restart_is_a_failure_that_says_what_was_done(
    agent: Callable[[bytes], dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    clients = [
        {"unit": "containerd.service", "state": "done"},
        {"unit": "docker.service", "state": "failed", "reason": "no such unit"},
    ]
    answer = http({"certificate": AUTHORITY, "clients": clients})
    words = ["certificate-uninstall", "ssl_ca_7", "--restart-clients"]
    assert run(words, Invocation(environ=agent(answer))) == 1
    output = capsys.readouterr()
    assert "uninstalled" in output.out
    assert "containerd.service restarted" in output.out
    assert "docker.service was not restarted: no such unit" in output.err


def test_clients_are_not_restarted_for_the_certificate_of_the_registry(file: Path) -> None:
    assert install({}, "--restart-clients", file) == 2
    assert file.exists()


REQUEST = {
    "uuid": "1b2c",
    "names": ["a", "b"],
    "key": "p256",
    "created_at": "2026-01-01",
    "csr": "-----B\nx\n",
}


def test_a_request_prints_the_csr_alone(
    agent: Callable[[bytes], dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["certificate-request", "--name", "b", "--key", "p384"]
    assert run(words, Invocation(environ=agent(http(REQUEST)))) == 0
    output = capsys.readouterr()
    assert (output.out, output.err) == ("-----B\nx\n", "")


def test_the_pending_requests_are_listed(
    agent: Callable[[bytes], dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["certificate-request", "--list", "-f", "value"]
    assert run(words, Invocation(environ=agent(http({"requests": [REQUEST]})))) == 0
    assert capsys.readouterr().out == "1b2c a, b p256 2026-01-01\n"


@pytest.mark.parametrize(
    "words",
    [
        ["--list", "--key", "p256"],
        ["--list", "--cancel", "1b2c"],
        ["--cancel"],
        ["1b2c"],
        ["--cancel", "1b2c", "--name", "a"],
        ["--key", "dsa"],
    ],
)
def test_options_of_a_request_that_exclude_each_other_are_wrong_usage(words: list[str]) -> None:
    assert run(["certificate-request", *words], Invocation(environ={})) == 2


HOST_ROWS = [
    {"host": "w2", "role": "worker", "state": "down", "since": "2026-11-27T00:00:00+00:00"},
    {"host": "w1", "role": "worker", "state": "live"},
    {"host": "w3", "role": "worker", "state": "down"},
]


def test_a_host_that_lacks_the_certificate_in_use_is_a_failure_that_names_it(
    agent: Callable[[bytes], dict[str, str]], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = {
        **SUCCESS,
        "certificates": [{**INSTALLED, "hosts": HOST_ROWS}],
        "hosts_problem": "host w1 is failed: no space",
    }
    assert install(agent(http(answer)), file) == 1
    out, err = capsys.readouterr()
    assert "1 live, 2 down (w2, w3)" in out
    (line,) = err.splitlines()
    assert "the certificate is in use, but not on every host: host w1 is failed: no space" in line
    assert "registry-host-show" in line
    assert not file.exists()  # its key is in use


CA_ROWS = [
    {"host": "w1", "role": "worker", "state": "live"},
    {"host": "w2", "role": "worker", "state": "failed"},
]
CA_PROBLEM = "host w2 is failed: /usr/local/share/ca-certificates: No space left on device"


def test_ca_certificates_show_the_hosts_with_each_and_a_host_that_lacks_them_is_a_failure(
    agent: Callable[[bytes], dict[str, str]], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = [{**AUTHORITY, "hosts": CA_ROWS}, {**AUTHORITY, "signature": "ssl_ca_8", "hosts": CA_ROWS}]
    answer = {**SUCCESS, "certificates": both, "hosts_problem": CA_PROBLEM}
    words = ["certificate-install", "-m", "ssl_ca", str(file)]
    assert run(words, Invocation(environ=agent(http(answer)))) == 1
    out, err = capsys.readouterr()
    assert out.count("1 live, 1 failed (w2)") == 2
    assert err == (
        f"system: installed on this controller, but not on every host: {CA_PROBLEM};"
        " registry-host-show says what to do there; then the host goes on by itself\n"
    )


def test_the_hosts_of_ca_certificates_are_an_array_in_json(
    agent: Callable[[bytes], dict[str, str]], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = {**SUCCESS, "certificates": [{**AUTHORITY, "hosts": CA_ROWS}]}
    words = ["certificate-install", "-m", "ssl_ca", "-f", "json", str(file)]
    assert run(words, Invocation(environ=agent(http(answer)))) == 0
    (shown,) = json.loads(capsys.readouterr().out)
    assert [host["state"] for host in shown["hosts"]] == ["live", "failed"]


def test_an_uninstall_shows_the_hosts(
    agent: Callable[[bytes], dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    removed = {**AUTHORITY, "hosts": CA_ROWS, "warnings": ["host w3 is down"]}
    answer = {"certificate": removed, "hosts_problem": CA_PROBLEM}
    words = ["certificate-uninstall", "ssl_ca_7", "--require-all-hosts", "--wait", "5"]
    assert run(words, Invocation(environ=agent(http(answer)))) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[1:] == ["Hosts: 1 live, 1 failed (w2)", "Warning: host w3 is down"]
    assert "removed on this controller, but not on every host: host w2" in err


@pytest.mark.parametrize("column", ["hosts", "warnings"])
def test_without_a_cluster_an_uninstall_has_no_hosts(
    agent: Callable[[bytes], dict[str, str]], column: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["certificate-uninstall", "ssl_ca_7", "-f", "json", "-c", column]
    assert run(words, Invocation(environ=agent(http({"certificate": AUTHORITY})))) == 0
    assert json.loads(capsys.readouterr().out) == [{column: []}]


def test_the_hosts_are_an_array_in_json(
    agent: Callable[[bytes], dict[str, str]], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = {**SUCCESS, "certificates": [{**INSTALLED, "hosts": HOST_ROWS}]}
    assert install(agent(http(answer)), "-f", "json", file) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [host["state"] for host in shown["hosts"]] == ["down", "live", "down"]


def test_without_a_cluster_there_is_no_property_of_hosts(
    agent: Callable[[bytes], dict[str, str]], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert install(agent(http(SUCCESS)), "-f", "json", file) == 0
    assert "hosts" not in json.loads(capsys.readouterr().out)
