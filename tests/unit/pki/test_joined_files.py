"""PEM files as operators join them: each is read as a person reads it, or refused with the line.

The property: a file is accepted with exactly the certificates that a person sees in it, and never with fewer.
"""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from sysreg_cli.errors import CertificateRefused
from sysreg_cli.pki import pem
from sysreg_cli.pki.facts import subject_of
from tests import certificates as make
from tests.fuzz import joined as fuzz
from tests.fuzz.joined import READ, REFUSED
from tests.unit.pki.conftest import NOW, accepted, refused


@pytest.fixture(scope="module")
def files(root: make.Issued, intermediate: make.Issued) -> list[bytes]:
    """The key, the server certificate, the intermediate and the root, each as a file."""
    server = make.server(intermediate)
    return [server.key_pem, server.pem, intermediate.pem, root.pem]


@pytest.mark.parametrize("changed", range(4))
@pytest.mark.parametrize("change", READ)
def test_a_file_is_read_as_its_author_meant_it(change: str, changed: int, files: list[bytes]) -> None:
    joined = [READ[change](text) if number == changed else text for number, text in enumerate(files)]
    chain = accepted(b"".join(joined))
    assert chain.chain_pem == b"".join(files[1:])
    assert chain.key_pem == files[0]
    assert pem.holds_private_key(joined[0])


@pytest.mark.parametrize("changed", [1, 2, 3])
@pytest.mark.parametrize("change", REFUSED)
def test_a_line_that_is_not_understood_is_named(change: str, changed: int, files: list[bytes]) -> None:
    joined = [REFUSED[change](text) if number == changed else text for number, text in enumerate(files)]
    problems = refused(b"".join(joined))
    assert any("line " in problem for problem in problems), problems


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_read(encoding: str, files: list[bytes]) -> None:
    data = b"".join(files).decode().encode(encoding)
    assert accepted(data).chain_pem == b"".join(files[1:])
    assert pem.holds_private_key(data)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("changed", range(4))
def test_parts_in_utf_16_are_not_skipped(changed: int, encoding: str, files: list[bytes]) -> None:
    joined = [
        text.decode().encode(encoding) if number == changed else text for number, text in enumerate(files)
    ]
    assert any("the encoding changes" in problem for problem in refused(b"".join(joined)))


def test_random_files_are_accepted_whole_or_refused(files: list[bytes]) -> None:
    """Any change, or two after another, to any of the files."""
    random.seed(1)
    outcomes = [_judge(files) for _ in range(300)]
    assert outcomes.count("accepted") > 60
    assert outcomes.count("refused") > 20


def test_files_of_public_authorities_are_read_whole_or_refused_with_a_line() -> None:
    """A short form of ``python -m tests.fuzz.joined``."""
    outcomes = fuzz.run(400)
    assert outcomes["read"] > 200
    assert outcomes["refused"] > 50


def _judge(files: list[bytes]) -> str:
    changes = [*READ.values(), *READ.values(), *REFUSED.values()]
    changed = [random.choice(changes)(random.choice(changes)(text)) for text in files]
    data = b"".join(changed)
    try:
        chain = accepted(data)
    except CertificateRefused:
        return "refused"
    assert chain.chain_pem == b"".join(files[1:]), data.decode(errors="replace")
    return "accepted"


def test_a_certificate_without_a_subject_shows_its_first_name() -> None:
    key = make.ec_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(make.sans([make.HOST, "other.local"]), critical=True)
    )
    assert subject_of(builder.sign(key, hashes.SHA256())) == make.HOST
