"""Bent certificates that pki accepts, held against Go's parser and verifier: skopeo on a real TLS listener.

No Go tool chain is needed. Each accepted chain costs a process, so the mutations stay close to what is
accepted: one element of one certificate is bent, and the certificate signed again.
"""

from __future__ import annotations

import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from sysreg_cli.errors import CertificateRefused
from sysreg_cli.pki.check import ServerChain, check_server
from tests import certificates as make
from tests.fuzz import der, mutate
from tests.tls_clients import HOST, go_accepts, served


class Bender:
    """Makes bundles of which one certificate is bent: a self-signed one, or the CA of a good one."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        uri = x509.UniformResourceIdentifier
        names = [
            x509.DNSName(HOST),
            x509.RFC822Name("a@b.c"),
            uri("https://a.b/c"),
            x509.DirectoryName(make.name("x")),
        ]
        point = x509.DistributionPoint([uri("http://crl.example.org/")], None, None, None)
        rich = make.server(
            extra=[
                (x509.SubjectAlternativeName(names), False),
                (x509.CRLDistributionPoints([point]), False),
                (
                    x509.CertificatePolicies(
                        [x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), ["cps"])]
                    ),
                    False,
                ),
            ]
        )
        subtrees = [x509.DNSName(HOST), x509.RFC822Name("b.c"), uri("a.b")]
        narrow = make.authority(extra=[(x509.NameConstraints(subtrees, [x509.DNSName("no.example")]), True)])
        wide = make.authority(path_length=3)
        self._seeds = [(b"", rich)]
        self._seeds += [(make.bundle(make.server(ca, names=[HOST])), ca) for ca in (narrow, wide)]

    def bundle(self) -> bytes:
        before, issued = self._random.choice(self._seeds)
        (tree,) = der.parse(issued.certificate.public_bytes(serialization.Encoding.DER)) or []
        assert tree.children
        signed = tree.children[0]
        assert signed.children
        der.bend(self._random.choice([signed, *[signed.children[-1]] * 3]), self._random, mutate.donors())
        text = mutate.armour("CERTIFICATE", mutate.signed_again(tree, issued.key).encode())
        return (before or issued.key_pem) + text


def run(seconds: float, seed: int) -> tuple[int, list[bytes]]:
    """How many different chains pki accepted within ``seconds``, and those of them that Go refuses."""
    bender, seen, refused = Bender(seed), set[bytes](), list[bytes]()
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as directory:
        trust = Path(directory) / "trust"
        trust.mkdir()
        while time.monotonic() < end:
            chain = _accepted(bender.bundle())
            if chain is None or chain.chain_pem in seen:
                continue
            seen.add(chain.chain_pem)
            (trust / "ca.crt").write_bytes(chain.anchor.public_bytes(serialization.Encoding.PEM))
            with served(Path(directory), chain.key_pem + chain.chain_pem) as port:
                if not go_accepts(port, trust):
                    refused.append(chain.chain_pem)
    return len(seen), refused


def _accepted(data: bytes) -> ServerChain | None:
    try:
        return check_server(data, passphrase=None, host_names=[HOST], now=datetime.now(UTC))
    except CertificateRefused:
        return None
