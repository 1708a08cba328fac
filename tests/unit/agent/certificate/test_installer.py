"""A dry run and the install after it agree, and a dry run changes nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from sysreg_cli.v1 import paths
from sysreg_cli.v1.certificates import Mode
from tests import certificates as make
from tests.unit.agent.certificate.api import Requested, call
from tests.unit.agent.certificate.host import Host

PASSPHRASE = b"secret"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


class Inputs:
    """Files with random faults, and the mode in which each is to be installed."""

    csr = ""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        now = datetime.now(UTC)
        self._root = make.authority("Root")
        self._issuing = make.authority("Issuing", self._root)
        ended = now - timedelta(days=1)
        self._authorities = [
            self._root,
            self._issuing,
            make.authority("Old", end=ended, start=ended - timedelta(days=9)),
            make.authority("Weak", key=make.rsa_key(1024)),
            make.authority("Not signing", key_usage=make.usage("crl_sign")),
            make.authority("Soon", end=now + timedelta(days=3)),
            *(make.authority(f"Other {number}") for number in range(40)),
        ]
        self._leaves: list[Callable[[make.Issued], make.Issued]] = [
            make.server,
            make.server,
            lambda issuer: make.server(issuer, names=[make.HOST, "other.example"]),
            lambda issuer: make.server(issuer, names=["other.example"]),
            lambda issuer: make.server(issuer, end=ended, start=ended - timedelta(days=9)),
            lambda issuer: make.server(issuer, start=now + timedelta(days=1)),
            lambda issuer: make.server(issuer, key=make.rsa_key(1024), names=[]),
            lambda issuer: make.issue("ca", issuer, ca=True, names=[make.HOST]),
        ]

    def draw(self) -> tuple[Mode, bytes, str]:
        """A mode, a file, and a passphrase."""
        choose = self._random
        if choose.random() < 0.4:
            parts = [one.pem for one in choose.sample(self._authorities, choose.randint(1, 4))]
            if choose.random() < 0.1:
                parts.append(self._root.key_pem)
            return Mode.SSL_CA, self._damaged(b"".join(parts)), ""
        if choose.random() < 0.1:
            return Mode.DOCKER_REGISTRY, self._without_key() + self._issuing.pem, ""
        leaf = choose.choice(self._leaves)(self._issuing)
        chain = choose.choice([[leaf, self._issuing], [leaf, self._issuing, self._root], [leaf]])
        if choose.random() < 0.2:
            choose.shuffle(chain)
        key = choose.choice(
            [
                *([leaf.key_pem] * 6),
                *(
                    make.key_pem(leaf.key, passphrase=PASSPHRASE),
                    make.key_pem(make.ec_key()),
                    leaf.key_pem * 2,
                    b"",
                ),
            ]
        )
        data = key + b"".join(one.pem for one in chain)
        return Mode.DOCKER_REGISTRY, self._damaged(data), choose.choice(["", "secret", "wrong"])

    def _without_key(self) -> bytes:
        """A certificate for the key of the latest request, which is pending or was installed before."""
        return make.server(self._issuing, key=Requested(x509.load_pem_x509_csr(self.csr.encode()))).pem

    def _damaged(self, data: bytes) -> bytes:
        if self._random.random() < 0.7:
            return data
        place = self._random.randrange(len(data))
        return self._random.choice(
            [
                data[:place],
                data[:place] + b"\0" + data[place:],
                data.replace(b"-----END", b"----END", 1),
                data.replace(b"\n", b"\r\n"),
                b"\xef\xbb\xbf" + data,
                data[:place] + b"x" + data[place + 1 :],
            ]
        )


def test_a_dry_run_and_the_install_after_it_agree_on_200_random_files(host: Host) -> None:
    inputs = Inputs(seed=15)
    outcomes = {"": 0, "refused": 0}
    for number in range(200):
        if number % 25 == 0:
            inputs.csr = call(host, "POST", paths.CERTIFICATE_REQUEST)["csr"]
        mode, data, passphrase = inputs.draw()
        fields = {"mode": mode.value, "passphrase": passphrase}
        before = host.snapshot()
        now = datetime.now(UTC)  # a reason may name the time
        preview = call(host, "POST", paths.CERTIFICATE_PREVIEW, fields, data, now=now)
        assert host.snapshot() == before, f"the dry run of input {number} changed something"
        installed = call(host, "POST", paths.CERTIFICATE_INSTALL, fields, data, now=now)
        for field in ("error", "reasons", "refused"):
            assert installed[field] == preview[field], f"input {number}: {field}"
        if installed["error"]:
            assert host.snapshot() == before, f"input {number} was refused, and changed something"
        assert [one["name"] for one in installed["certificates"]] == [
            one["name"] for one in preview["changes"]
        ]
        assert [one["warnings"] for one in installed["certificates"]] == [
            one["warnings"] for one in preview["changes"]
        ]
        outcomes["refused" if installed["error"] else ""] += 1
    assert min(outcomes.values()) > 40, outcomes


def test_a_dry_run_says_what_would_change(host: Host) -> None:
    call(
        host,
        "POST",
        paths.CERTIFICATE_INSTALL,
        {"mode": "docker_registry"},
        _server([make.HOST, "old.example"]),
    )
    root = make.authority("New Root")
    leaf = make.server(root, names=[make.HOST, "192.0.2.7"])
    (change,) = call(
        host, "POST", paths.CERTIFICATE_PREVIEW, {"mode": "docker_registry"}, make.bundle(leaf, root)
    )["changes"]
    assert change["serial"] == str(leaf.certificate.serial_number)
    in_use = host.generations.certificates(host.generations.current() or "")[0]
    assert change["replaces"] == str(in_use.serial_number)
    assert (change["names_gained"], change["names_lost"]) == (["192.0.2.7"], ["old.example"])
    assert change["issuer"] == "CN=New Root"
    assert change["days_left"] == 364
    assert change["listeners"] == [
        "docker-registry.service at registry.local:9001",
        "sysreg-token-server.service at registry.local:9002",
    ]
    assert change["restarts"] == ["reload sysreg-token-server.service", "restart docker-registry.service"]
    assert "have docker trust the certificate of registry.local:9001 alone" in change["trust"]


def test_a_bundle_is_refused_only_if_nothing_in_it_is_new(host: Host) -> None:
    now = datetime.now(UTC)
    good = make.authority("Good")
    old = make.authority("Old", start=now - timedelta(days=9), end=now - timedelta(days=1))
    fields = {"mode": "ssl_ca"}
    first = call(host, "POST", paths.CERTIFICATE_INSTALL, fields, good.pem + old.pem)
    assert first["error"] == ""
    assert [one["subject"] for one in first["certificates"]] == ["CN=Good"]
    assert len(first["refused"]) == 1
    assert first["refused"][0].startswith("certificate 2 (Old): expired at")
    second = call(host, "POST", paths.CERTIFICATE_INSTALL, fields, good.pem + old.pem)
    assert second["reasons"] == first["refused"]
    assert call(host, "POST", paths.CERTIFICATE_INSTALL, fields, good.pem)["error"] == ""


def _server(names: list[str]) -> bytes:
    root = make.authority()
    return make.bundle(make.server(root, names=names), root)
