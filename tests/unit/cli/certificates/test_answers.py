"""What the operator sees of the agent's answers; no agent is there, but one that gives a single answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sysreg_cli.cli.invocation import Invocation
from sysreg_cli.cli.main import run
from tests.unit.cli.certificates.odd_agents import INSTALLED, ROOT, SUCCESS, http, install

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
