"""An installed certificate is what registry, token server and agent present, and what docker trusts.

The controller has a network namespace with the address 198.51.100.10, because docker does not verify the
certificates of loopback addresses.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from devstack.controller import Controller
from devstack.options import Options
from tests.certificates import authority, bundle, ec_key, issue, key_pem, rsa_key, server
from tests.functional.certificate.breakable import Bundle
from tests.functional.conftest import NewController
from tests.tls_clients import openssl_chain

ROOT = authority("Company Root")
FIRST = authority("Company Issuing", ROOT)
SECOND = authority("Company Edge", FIRST)

KINDS = {
    "RSA signed by a root that is sent too": (server(ROOT, key=rsa_key()), ROOT),
    "ECDSA with one intermediate": (server(FIRST, key=ec_key()), FIRST),
    "RSA with two intermediates": (server(SECOND, key=rsa_key(number=1)), SECOND, FIRST),
    "ECDSA with two intermediates and the root": (server(SECOND), SECOND, FIRST, ROOT),
    "ECDSA self-signed": (server(),),
}


@pytest.fixture(scope="module")
def inside(new_controller: NewController) -> Iterator[Controller]:
    with new_controller(Options(netns=True)) as controller:
        yield controller


def everywhere(controller: Controller) -> list[list[bytes]]:
    return [
        openssl_chain(controller, controller.ports[name]) for name in ("registry", "token_server", "agent")
    ]


def login(controller: Controller) -> tuple[int, str]:
    done = controller.run(
        ["docker", "login", "--username", "testuser", "--password-stdin", controller.address],
        user="testuser",
        input=controller.passwords["testuser"],
    )
    return done.returncode, done.stderr


def file_with(directory: Path, data: bytes) -> Path:
    path = directory / "server.pem"
    path.write_bytes(data)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_the_new_certificate_is_live_everywhere_and_docker_trusts_it(
    inside: Controller, tmp_path: Path, kind: str
) -> None:
    chain = KINDS[kind]
    wanted = Bundle(bundle(*chain), chain[0], chain)
    token_url = f"{inside.token_url}?service={inside.address}&scope=registry:catalog:*"
    old_token = json.loads(
        inside.run(
            [
                "curl",
                "-sf",
                "--cacert",
                str(inside.paths.ca_file),
                "--user",
                f"admin:{inside.passwords['admin']}",
                token_url,
            ]
        ).stdout
    )["token"]

    file = file_with(tmp_path, wanted.pem)
    done = inside.system("certificate-install", "-m", "docker_registry", str(file))

    assert (done.returncode, done.stderr) == (0, "")
    assert "holds the private key: the file will be removed" in done.stdout
    assert f"docker_registry_{wanted.leaf.certificate.serial_number}" in done.stdout
    assert not file.exists()
    assert everywhere(inside) == [wanted.der] * 3
    status = inside.run(
        [
            *("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", str(inside.paths.ca_file)),
            *("-H", f"Authorization: Bearer {old_token}", f"{inside.url}/v2/_catalog"),
        ]
    ).stdout
    assert status == "200", "a token issued before the change is refused after it"

    # only what the install itself put there: the devstack's own file of the first certificate goes
    (inside.trust_directory / "ca.crt").unlink(missing_ok=True)
    code, message = login(inside)
    assert code == 0, message
    trusted = f"/etc/docker/certs.d/{inside.address}"
    assert inside.run(["mv", trusted, "/etc/docker/hidden"]).returncode == 0
    try:
        code, message = login(inside)
    finally:
        assert inside.run(["mv", "/etc/docker/hidden", trusted]).returncode == 0
    assert code != 0
    assert "x509" in message


@pytest.mark.parametrize(
    ("data", "reasons"),
    [
        (bundle(server(ROOT), ROOT, key=key_pem(ec_key())), ["does not match|don't match|not.*belong"]),
        (
            bundle(server(ROOT, names=["other.example"]), SECOND),
            ["lacks the DNS name registry.local", "not issued"],
        ),
        (server(ROOT).pem + ROOT.pem, ["no private key"]),
        (b"not a certificate at all", ["no certificate", "no private key"]),
        (bundle(issue("ca", ROOT, ca=True, names=["registry.local"]), ROOT), ["is a CA"]),
    ],
    ids=["foreign key", "name and order", "no key", "no PEM", "a CA"],
)
def test_a_refused_certificate_changes_nothing_and_says_why(
    inside: Controller, tmp_path: Path, data: bytes, reasons: list[str]
) -> None:
    file = file_with(tmp_path, data)
    before, generation = everywhere(inside), (inside.paths.tls / "current").readlink()
    pid = inside.pid("docker-registry.service")

    done = inside.system("certificate-install", "-m", "docker_registry", str(file))

    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    for reason in reasons:
        assert re.search(reason, done.stderr), done.stderr
    assert file.read_bytes() == data
    assert everywhere(inside) == before
    assert (inside.paths.tls / "current").readlink() == generation
    assert inside.pid("docker-registry.service") == pid, "the registry was restarted for nothing"


def test_an_encrypted_key_needs_its_passphrase(inside: Controller, tmp_path: Path) -> None:
    leaf = server(ROOT)
    file = file_with(tmp_path, bundle(leaf, ROOT, key=key_pem(leaf.key, passphrase=b"opensesame")))
    install = ("certificate-install", "-m", "docker_registry", str(file))
    without = inside.system(*install)
    wrong = inside.system(*install, env={"SYSREG_PASSPHRASE": "wrong"})
    assert (without.returncode, wrong.returncode) == (1, 1)
    assert "passphrase" in without.stderr
    assert "passphrase" in wrong.stderr
    assert file.exists()
    right = inside.system(*install, env={"SYSREG_PASSPHRASE": "opensesame"})
    assert (right.returncode, right.stderr) == (0, "")
    assert not file.exists()
    assert b"ENCRYPTED" not in (inside.paths.tls / "current" / "server.key").read_bytes()


def test_a_ca_is_added_to_the_systems_bundle_once(inside: Controller, tmp_path: Path) -> None:
    # two in one file, one of them twice
    file = file_with(tmp_path, ROOT.pem + FIRST.pem + ROOT.pem)
    for _ in range(2):
        done = inside.system("certificate-install", "-m", "ssl_ca", str(file))
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.count("| signature") == 2
        assert file.exists()
    trusted = inside.run(["cat", "/etc/ssl/certs/ca-certificates.crt"]).stdout
    assert trusted.count(ROOT.pem.decode().strip()) == 1
    listed = inside.system("certificate-list", "-f", "value", "-c", "name").stdout.split()
    assert [name.partition("_")[0] for name in listed] == ["docker", "ssl", "ssl"]
    assert f"ssl_ca_{ROOT.certificate.serial_number}" in listed


def test_a_dry_run_changes_nothing_and_is_true(inside: Controller, tmp_path: Path) -> None:
    leaf = server(FIRST, names=["registry.local", "198.51.100.10"])
    file = file_with(tmp_path, bundle(leaf, FIRST))
    before, generation = everywhere(inside), (inside.paths.tls / "current").readlink()
    in_use = json.loads(inside.system("certificate-show", "docker_registry", "-f", "json").stdout)
    install = ("certificate-install", "-m", "docker_registry", str(file))

    done = inside.system(*install, "--dry-run", "-f", "json")

    assert (done.returncode, done.stderr) == (0, "")
    planned = json.loads(done.stdout)
    assert planned["serial"] == str(leaf.certificate.serial_number)
    assert in_use["signature"] == f"docker_registry_{planned['replaces']}"
    assert planned["names_gained"] == ["198.51.100.10"]
    assert len(planned["listeners"]) == 3
    assert everywhere(inside) == before
    assert (inside.paths.tls / "current").readlink() == generation
    installed = json.loads(inside.system(*install, "--keep-file", "-f", "json").stdout)
    assert installed["signature"] == f"docker_registry_{planned['serial']}"
    assert not json.loads(inside.system(*install, "--dry-run", "-f", "json").stdout)["trust"]


def test_the_good_certificates_of_a_large_bundle_are_installed(inside: Controller, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    old = authority("Old", start=now - timedelta(days=9), end=now - timedelta(days=1))
    good = [authority(f"Public {number}") for number in range(40)]
    data = b"".join(b"# a comment\n" * 200 + one.pem for one in [*good[:20], old, *good[20:]])
    assert len(data) > 64 * 1024
    install = ("certificate-install", "-m", "ssl_ca", str(file_with(tmp_path, data)))
    done = inside.system(*install)
    assert (done.returncode, done.stderr) == (0, "")
    assert "not installed: certificate 21 (Old): expired at" in done.stdout
    trusted = inside.run(["cat", "/etc/ssl/certs/ca-certificates.crt"]).stdout
    assert all(one.pem.decode().strip() in trusted for one in good)
    again = inside.system(*install)
    assert again.returncode == 1
    assert "no certificate is new: certificate 21 (Old): expired at" in again.stderr


def test_an_uninstalled_ca_is_trusted_no_more(inside: Controller, tmp_path: Path) -> None:
    ca = authority("Left Company")
    leaf = tmp_path / "leaf.pem"
    leaf.write_bytes(server(ca).pem)
    verify = [
        "openssl",
        "verify",
        "-CApath",
        "/etc/ssl/certs",
        "-CAfile",
        "/etc/ssl/certs/ca-certificates.crt",
    ]
    install = ("certificate-install", "-m", "ssl_ca", str(file_with(tmp_path, ca.pem)))
    assert inside.system(*install).returncode == 0
    assert inside.run([*verify, str(leaf)]).returncode == 0

    done = inside.system("certificate-uninstall", f"ssl_ca_{ca.certificate.serial_number}")

    assert (done.returncode, done.stderr) == (0, "")
    assert inside.run([*verify, str(leaf)]).returncode != 0
    links = inside.run(["find", "/etc/ssl/certs", "-xtype", "l", "-lname", "*sysreg-*"])
    assert links.stdout == ""
    refused = inside.system("certificate-uninstall", "docker_registry")
    assert refused.returncode == 1
    assert "certificate-rollback docker_registry" in refused.stderr


def test_a_requested_certificate_needs_no_key_in_its_file(inside: Controller, tmp_path: Path) -> None:
    made = inside.system("certificate-request", "--name", "registry.example")
    assert (made.returncode, made.stderr) == (0, "")
    csr = x509.load_pem_x509_csr(made.stdout.encode())
    (uuid,) = inside.system("certificate-request", "--list", "-f", "value", "-c", "uuid").stdout.split()
    key = inside.paths.tls / "requests" / f"{uuid}.pem"
    assert key.stat().st_mode & 0o777 == 0o400
    # what a company's CA does with the request
    (tmp_path / "ca.key").write_bytes(ROOT.key_pem)
    (tmp_path / "ca.pem").write_bytes(ROOT.pem)
    (tmp_path / "csr.pem").write_text(made.stdout)
    issuing = f"-days 90 -CA {tmp_path / 'ca.pem'} -CAkey {tmp_path / 'ca.key'} -copy_extensions copy"
    leaf = subprocess.run(
        ["openssl", "x509", "-req", "-in", str(tmp_path / "csr.pem"), *issuing.split()],
        capture_output=True, check=True, timeout=30,
    ).stdout  # fmt: skip
    file = file_with(tmp_path, leaf + ROOT.pem)

    done = inside.system("certificate-install", "-m", "docker_registry", str(file))

    assert (done.returncode, done.stderr) == (0, "")
    assert file.exists(), "there is no key in it"
    assert not key.exists()
    assert inside.system("certificate-request", "--list").stdout == "\n"
    live = x509.load_der_x509_certificate(everywhere(inside)[0][0])
    assert live.public_key() == csr.public_key()
    names = live.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName)[-1] == "registry.example"


def test_list_and_show_agree_by_name_and_by_uuid(inside: Controller, tmp_path: Path) -> None:
    shown = json.loads(inside.system("certificate-show", "docker_registry", "-f", "json").stdout)
    by_uuid = json.loads(inside.system("certificate-show", shown["uuid"], "-f", "json").stdout)
    assert by_uuid == shown
    data = b"".join(authority(f"Twin {number}", serial=77).pem for number in (1, 2))
    installed = inside.system("certificate-install", "-m", "ssl_ca", str(file_with(tmp_path, data)))
    assert installed.returncode == 0
    listed = json.loads(inside.system("certificate-list", "-f", "json").stdout)
    assert shown["uuid"] in [certificate["uuid"] for certificate in listed]
    twins = [certificate for certificate in listed if certificate["name"].startswith("ssl_ca_77_")]
    assert {twin["subject"] for twin in twins} == {"CN=Twin 1", "CN=Twin 2"}
    for twin in twins:
        by_name = json.loads(inside.system("certificate-show", twin["name"], "-f", "json").stdout)
        assert by_name["uuid"] == twin["uuid"]
    several = inside.system("certificate-show", "ssl_ca_77").stderr
    assert all(twin["name"] in several for twin in twins)
    assert "UUID" not in inside.system("certificate-list").stdout
    assert shown["uuid"] in inside.system("certificate-list", "-c", "uuid", "-f", "value").stdout
    missing = inside.system("certificate-show", "ssl_ca_1")
    assert missing.returncode == 1
    assert missing.stderr == "system: no certificate ssl_ca_1; see the names with certificate-list\n"
