"""A key that the agent makes stays with the agent, and no certificate for it is lost."""

from __future__ import annotations

import os
import stat
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sysreg_cli.host import failpoint
from sysreg_cli.v1 import paths
from tests import certificates as make
from tests.killed import failpoints, killed
from tests.unit.agent.certificate.api import Requested, call
from tests.unit.agent.certificate.host import Host


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "host")


def request(host: Host, query: str = "") -> Any:
    return call(host, "POST", paths.CERTIFICATE_REQUEST, query=query)


def pending(host: Host) -> list[str]:
    requests = call(host, "GET", paths.CERTIFICATE_REQUEST)["requests"]
    return [one["uuid"] for one in requests]


def issued(csr: str) -> bytes:
    """What a CA answers: a certificate with the names of the request, and the CA."""
    parsed = x509.load_pem_x509_csr(csr.encode())
    names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    root = make.authority()
    leaf = make.server(root, key=Requested(parsed), names=[str(name.value) for name in names])
    return leaf.pem + root.pem


def install(host: Host, pem: bytes) -> Any:
    return call(host, "POST", paths.CERTIFICATE_INSTALL, {"mode": "docker_registry"}, pem)


def uses_its_key(host: Host) -> bool:
    """Whether the key in use belongs to the certificate in use."""
    current = host.generations.current()
    assert current is not None
    key = load_pem_private_key(host.generations.key(current), None)
    return key.public_key() == host.generations.certificates(current)[0].public_key()


@pytest.mark.parametrize(
    ("kind", "shown"), [("p256", "prime256v1"), ("p384", "secp384r1"), ("rsa3072", "3072 bit")]
)
def test_openssl_accepts_a_request_for_the_names(host: Host, kind: str, shown: str) -> None:
    made = request(host, f"name=registry.example&name=192.0.2.7&name=REGISTRY.local&key={kind}")
    assert made["names"] == [make.HOST, "registry.example", "192.0.2.7"]
    assert made["key"] == kind
    text = subprocess.run(
        ["openssl", "req", "-verify", "-noout", "-text"],
        input=made["csr"], capture_output=True, text=True, check=True, timeout=30,
    ).stdout  # fmt: skip
    assert "DNS:registry.local, DNS:registry.example, IP Address:192.0.2.7" in text
    assert shown in text


def test_the_key_is_for_root_alone_and_leaves_no_trace_elsewhere(host: Host) -> None:
    made = request(host)
    directory = host.settings.certificate.directory / "requests"
    (file,) = directory.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o400
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert "PRIVATE KEY" not in str(made)
    assert "PRIVATE KEY" not in str(call(host, "GET", paths.CERTIFICATE_REQUEST))


def test_the_certificate_is_installed_without_a_key_and_ends_the_request(host: Host) -> None:
    made, other = request(host), request(host)
    pem = issued(made["csr"])
    before = host.snapshot()
    preview = call(host, "POST", paths.CERTIFICATE_PREVIEW, {"mode": "docker_registry"}, pem)
    assert preview["error"] == ""
    assert host.snapshot() == before
    assert install(host, pem)["error"] == ""
    assert host.in_use()
    assert uses_its_key(host)
    assert pending(host) == [other["uuid"]]


def test_a_certificate_for_no_pending_request_is_refused(host: Host) -> None:
    made = request(host)
    pem = issued(made["csr"])
    leaf = make.server()
    assert "no request of certificate-request" in install(host, leaf.pem)["error"]
    call(host, "DELETE", f"{paths.CERTIFICATE_REQUEST}/{made['uuid']}")
    assert pending(host) == []
    assert "no request of certificate-request" in install(host, pem)["error"]
    assert "is pending" in call(host, "DELETE", f"{paths.CERTIFICATE_REQUEST}/{made['uuid']}")["error"]


def test_an_install_that_fails_keeps_the_request(host: Host) -> None:
    made = request(host)
    host.services.broken = {host.generations.next_name()}
    assert "not installed" in install(host, issued(made["csr"]))["error"]
    assert pending(host) == [made["uuid"]]


@pytest.mark.parametrize(
    "query", ["name=a_b", "name=", "name=*.example", "name=a%0ab", "key=dsa", f"name={'a' * 64}"]
)
def test_what_no_certificate_can_have_is_refused(host: Host, query: str) -> None:
    assert request(host, query)["error"]
    assert pending(host) == []


def test_the_number_of_pending_requests_is_limited(host: Host) -> None:
    for _ in range(20):
        request(host)
    assert "--cancel" in request(host)["error"]


def test_a_damaged_request_is_left_out(host: Host) -> None:
    made = request(host)
    directory = host.settings.certificate.directory / "requests"
    for name, text in (("0a.pem", ""), ("0b.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n")):
        (directory / name).write_text(text)
    assert pending(host) == [made["uuid"]]
    assert install(host, issued(made["csr"]))["error"] == ""


def test_killed_anywhere_there_is_a_whole_request_or_none(host: Host, tmp_path: Path) -> None:
    directory = host.settings.certificate.directory / "requests"
    for place in range(1, len(failpoints(tmp_path, lambda: request(host))) + 2):
        before = pending(host)
        was_killed = killed(place, lambda: request(host))
        host.recover()
        assert {path.stem for path in directory.iterdir()} == set(pending(host))
        assert len(pending(host)) - len(before) == (0 if was_killed else 1)


@pytest.mark.parametrize("fault", ["ENOSPC", "ENOSPC+", "EIO", "EROFS"])
def test_a_request_that_fails_leaves_nothing(
    host: Host, tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in range(1, len(failpoints(tmp_path, lambda: request(host))) + 1):
        before = host.snapshot()
        monkeypatch.setenv(failpoint.VARIABLE, f"{place}:{fault}")
        failpoint.reset()
        assert request(host)["error"]
        monkeypatch.delenv(failpoint.VARIABLE)
        assert host.snapshot() == before


def test_killed_anywhere_an_install_loses_neither_the_key_nor_the_certificate(
    host: Host, tmp_path: Path
) -> None:
    """Either the request is still pending, or its key is in use."""
    outcomes = set()
    names = failpoints(tmp_path, lambda: install(host, issued(request(host)["csr"])))
    for place in range(1, len(names) + 1):
        made = request(host)
        pem = issued(made["csr"])
        killed(place, partial(install, host, pem))
        host.recover()
        host.services.live = host.generations.current() or ""
        certificate = x509.load_pem_x509_certificate(pem)
        current = host.generations.certificates(host.generations.current() or "")[0]
        is_pending = pending(host) == [made["uuid"]]
        assert is_pending == (current != certificate), names[place - 1]
        assert uses_its_key(host)
        outcomes.add(is_pending)
        if is_pending:
            assert install(host, pem)["error"] == ""
        assert pending(host) == []
    assert outcomes == {True, False}
    assert os.environ.get(failpoint.VARIABLE) is None
