"""Whether docker, containerd, skopeo and curl trust a new certificate, on an address that is not loopback.

docker does not verify the certificate of a registry whose name resolves to 127.0.0.0/8. So the controller has
namespaces of its own, with the address 198.51.100.10. No client gets an option that names a CA: each reads
what the agent wrote for it.
"""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from devstack import images
from devstack.controller import Controller
from devstack.options import Options
from tests import certificates as make
from tests.containerd import Containerd, containerd
from tests.functional.conftest import NewController
from tests.tls_clients import openssl_chain

IMAGE = "testuser/clients"


@dataclass(frozen=True)
class Shape:
    """A kind of chain: the key's, and how many intermediates there are between it and the root."""

    kind: str
    intermediates: int

    def issue(self) -> tuple[make.Issued, ...]:
        """A new chain, from the server certificate to a new root."""
        chain = [make.authority(f"Root of {self}", key=self._key(1))]
        for depth in range(self.intermediates):
            chain.insert(
                0, make.authority(f"Intermediate {depth} of {self}", chain[0], key=self._key(2 + depth))
            )
        return (make.server(chain[0], key=self._key(0)), *chain)

    def _key(self, number: int) -> object:
        return make.rsa_key(number=number) if self.kind == "RSA" else make.ec_key(ec.SECP256R1())

    def __str__(self) -> str:
        return f"{self.kind}, {self.intermediates} intermediates"


SHAPES = [Shape("RSA", 1), Shape("ECDSA", 2), Shape("RSA", 2), Shape("ECDSA", 1)]


@pytest.fixture(scope="module")
def controller(
    new_controller: NewController, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Controller]:
    with new_controller(Options(netns=True)) as controller:
        assert login(controller).returncode == 0
        source = images.single().write_layout(tmp_path_factory.mktemp("image"))
        done = controller.run(
            ["skopeo", "copy", source, f"docker://{controller.address}/{IMAGE}"], user="testuser"
        )
        assert done.returncode == 0, done.stderr
        yield controller


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def issued(request: pytest.FixtureRequest) -> tuple[make.Issued, ...]:
    made: tuple[make.Issued, ...] = request.param.issue()
    return made


@pytest.fixture(scope="module")
def root(issued: tuple[make.Issued, ...]) -> make.Issued:
    return issued[-1]


@pytest.fixture(scope="module")
def chain(
    issued: tuple[make.Issued, ...], controller: Controller, tmp_path_factory: pytest.TempPathFactory
) -> tuple[make.Issued, ...]:
    """What `system certificate-install` just installed: without the root if there are two intermediates."""
    given = issued[:-1] if len(issued) == 4 else issued
    token = _token(controller)
    file = tmp_path_factory.mktemp("operator") / "server.pem"
    file.write_bytes(make.bundle(*given))
    file.chmod(0o600)
    done = controller.system("certificate-install", "-m", "docker_registry", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert f"docker_registry_{given[0].certificate.serial_number}" in done.stdout
    assert not file.exists()
    assert _status(controller, token, given[-1]) == "200", "a token from before the change is not accepted"
    return given


def _curl(controller: Controller, *arguments: str, config: str = "") -> subprocess.CompletedProcess[str]:
    # Secrets go through standard input: every user sees arguments.
    return controller.run(
        ["curl", "--silent", "--show-error", "--max-time", "30", "--config", "-", *arguments], input=config
    )


def _token(controller: Controller) -> str:
    account = f'user = "testuser:{controller.passwords["testuser"]}"'
    query = f"service={controller.address}&scope=repository:{IMAGE}:pull"
    done = _curl(
        controller,
        "--cacert",
        str(controller.paths.ca_file),
        f"{controller.token_url}?{query}",
        config=account,
    )
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["token"])


def _status(controller: Controller, token: str, anchor: make.Issued) -> str:
    """The registry's status for ``token``, asked by a client that trusts ``anchor`` alone."""
    trusted = controller.paths.root / "anchor-of-the-test.crt"
    trusted.write_bytes(anchor.pem)
    bearer = f'header = "Authorization: Bearer {token}"'
    arguments = ("--cacert", str(trusted), "--output", "/dev/null", "--write-out", "%{http_code}")
    done = _curl(controller, *arguments, f"{controller.url}/v2/{IMAGE}/tags/list", config=bearer)
    assert done.returncode == 0, done.stderr
    return done.stdout


def login(controller: Controller) -> subprocess.CompletedProcess[str]:
    arguments = ["docker", "login", "--username", "testuser", "--password-stdin", controller.address]
    return controller.run(arguments, user="testuser", input=controller.passwords["testuser"])


@contextmanager
def without_trust(controller: Controller) -> Iterator[None]:
    """Hide the anchors that the agent wrote for docker."""
    hidden = {path: path.read_bytes() for path in controller.trust_directory.glob("sysreg-*.crt")}
    assert hidden
    try:
        for path in hidden:
            path.unlink()
        yield
    finally:
        for path, data in hidden.items():
            path.write_bytes(data)


@pytest.mark.parametrize("listener", ["registry", "token_server", "agent"])
def test_every_listener_presents_the_new_chain(
    listener: str, controller: Controller, chain: tuple[make.Issued, ...]
) -> None:
    expected = [ssl.PEM_cert_to_DER_cert(certificate.pem.decode()) for certificate in chain]
    assert openssl_chain(controller, controller.ports[listener]) == expected


def test_docker_login_works_with_the_new_ca_and_fails_without(
    controller: Controller, chain: tuple[make.Issued, ...]
) -> None:
    done = login(controller)
    assert done.returncode == 0, done.stderr
    with without_trust(controller):
        done = login(controller)
        assert done.returncode != 0
        assert "x509: certificate signed by unknown authority" in done.stderr
    assert login(controller).returncode == 0


def test_skopeo_and_the_system_command_trust_it_by_the_same_directory(
    controller: Controller, chain: tuple[make.Issued, ...]
) -> None:
    assert login(controller).returncode == 0
    inspect = ["skopeo", "inspect", f"docker://{controller.address}/{IMAGE}"]
    tags = ("registry-image-tags", IMAGE, "--format", "value")
    assert controller.run(inspect, user="testuser").returncode == 0
    done = controller.system(*tags, env={"SYSREG_REGISTRY_CA": ""})
    assert (done.returncode, done.stdout, done.stderr) == (0, "latest\n", "")
    with without_trust(controller):
        assert "x509" in controller.run(inspect, user="testuser").stderr
        done = controller.system(*tags, env={"SYSREG_REGISTRY_CA": ""})
        assert done.returncode == 1
        assert "certificate" in done.stderr


@pytest.fixture(scope="module")
def client(controller: Controller, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    with containerd(controller, tmp_path_factory.mktemp("containerd")) as started:
        yield started


def test_containerd_pulls_with_the_new_ca_and_fails_without(
    controller: Controller, chain: tuple[make.Issued, ...], client: Containerd, tmp_path: Path
) -> None:
    hosts = controller.paths.root / "containerd" / "certs.d"
    reference = f"{controller.address}/{IMAGE}:latest"
    done = client.fetch(reference, "--hosts-dir", str(hosts), user="testuser")
    assert done.returncode == 0, done.stderr
    done = client.fetch(reference, "--hosts-dir", str(tmp_path / "nothing"), user="testuser")
    assert done.returncode != 0
    assert "x509" in done.stderr


def test_a_hosts_toml_of_the_administrator_stays_and_brings_a_warning(
    controller: Controller, tmp_path: Path
) -> None:
    hosts = controller.paths.root / "containerd" / "certs.d" / controller.address / "hosts.toml"
    managed = hosts.read_bytes() if hosts.exists() else b""
    hosts.parent.mkdir(parents=True, exist_ok=True)
    hosts.write_text('server = "https://mirror.example.org"\n')
    try:
        root = make.authority()
        file = tmp_path / "server.pem"
        file.write_bytes(make.bundle(make.server(root), root))
        done = controller.system("certificate-install", "-m", "docker_registry", str(file), "-f", "json")
        assert done.returncode == 0, done.stderr
        assert f"{hosts} was not written by sysreg-agent" in done.stdout
        assert hosts.read_text() == 'server = "https://mirror.example.org"\n'
    finally:
        hosts.write_bytes(managed) if managed else hosts.unlink()


def test_with_its_root_among_the_systems_cas_curl_needs_no_option(
    controller: Controller, chain: tuple[make.Issued, ...], root: make.Issued, tmp_path: Path
) -> None:
    url = f"{controller.url}/v2/"
    assert _curl(controller, url).returncode == 60
    file = tmp_path / "ca.pem"
    file.write_bytes(root.pem)
    done = controller.system("certificate-install", "-m", "ssl_ca", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert f"ssl_ca_{root.certificate.serial_number}" in done.stdout
    assert file.exists(), "there is no key in it"
    assert _curl(controller, url).returncode == 0


def test_after_a_wrong_certificate_one_rollback_lets_remote_clients_pull_again(
    controller: Controller, tmp_path: Path
) -> None:
    """A remote client trusts the company's CA alone, and nobody changes that."""
    company, other = make.authority("Company"), make.authority("Other Company")
    remote = tmp_path / "remote"
    remote.mkdir()
    (remote / "ca.crt").write_bytes(company.pem)

    def pull() -> subprocess.CompletedProcess[str]:
        source = f"docker://{controller.address}/{IMAGE}"
        arguments = ["skopeo", "copy", "--src-cert-dir", str(remote), source, f"dir:{tmp_path / 'pulled'}"]
        return controller.run(arguments, user="testuser")

    def install(root: make.Issued) -> str:
        leaf = make.server(root)
        file = tmp_path / "server.pem"
        file.write_bytes(make.bundle(leaf, root))
        done = controller.system("certificate-install", "-m", "docker_registry", str(file))
        assert (done.returncode, done.stderr) == (0, "")
        return str(leaf.certificate.serial_number)

    right = install(company)
    assert login(controller).returncode == 0
    assert pull().returncode == 0
    wrong = install(other)
    assert "x509: certificate signed by unknown authority" in pull().stderr

    done = controller.system("certificate-rollback", "docker_registry")

    assert (done.returncode, done.stderr) == (0, "")
    assert f"docker_registry_{right}" in done.stdout
    done = pull()
    assert done.returncode == 0, done.stderr
    listed = controller.system("certificate-list", "--history", "-f", "value", "-c", "serial", "-c", "state")
    assert listed.stdout.splitlines()[-3:] == [f"{right} kept", f"{wrong} kept", f"{right} in use"]
