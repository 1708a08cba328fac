"""PEM files as operators join them: each is read as a person reads it, or refused with the line.

The property: a file is accepted with exactly the certificates that a person sees in it, and never with fewer.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from sysreg_cli.errors import CertificateRefused
from sysreg_cli.pki import pem
from sysreg_cli.pki.facts import subject_of
from tests import certificates as make
from tests.unit.pki.conftest import NOW, accepted, refused

Change = Callable[[bytes], bytes]

# Each is applied to one file before the files are joined.
READ: dict[str, Change] = {
    "as it is": lambda text: text,
    "a byte order mark": lambda text: b"\xef\xbb\xbf" + text,
    "a no-break space": lambda text: b"\xc2\xa0" + text,
    "quoted in a mail": lambda text: b"".join(b"> " + line + b"\n" for line in text.splitlines()),
    "quoted twice": lambda text: b"".join(b">> " + line + b"\n" for line in text.splitlines()),
    "one line": lambda text: b" ".join(text.splitlines()) + b"\n",
    "four dashes": lambda text: text.replace(b"-----", b"----"),
    "six dashes": lambda text: text.replace(b"-----", b"------"),
    "indented": lambda text: b"".join(b"\t  " + line + b"\n" for line in text.splitlines()),
    "CRLF": lambda text: text.replace(b"\n", b"\r\n"),
    "CR": lambda text: text.replace(b"\n", b"\r"),
    "blank lines": lambda text: text.replace(b"\n", b"\n\n"),
    "no final newline": lambda text: text.rstrip(b"\n"),
    "a comment before": lambda text: b"# subject: CN=x, END of 2030, begin now\n" + text,
    "backslash n": lambda text: text.replace(b"\n", b"\\n") + b"\n",
    "backslash r, backslash n": lambda text: text.replace(b"\n", b"\\r\\n") + b"\n",
    "a JSON string": lambda text: json.dumps({"crt": text.decode()}).encode() + b"\n",
    "a Python string": lambda text: b"".join(b'  "%s\\n" +\n' % line for line in text.splitlines()),
    "a YAML block": lambda text: b"tls.crt: |\n" + b"".join(b"  %s\n" % line for line in text.splitlines()),
    "wrapped anew": lambda text: _wrapped(text, 40),
}
# A person sees a certificate here, but what is meant is not certain.
REFUSED: dict[str, Change] = {
    "lower case": lambda text: text.replace(b"BEGIN CERTIFICATE", b"begin certificate"),
    "dashes of a word processor": lambda text: text.replace(b"-----BEGIN", "–––––BEGIN".encode()),  # noqa: RUF001
    "two dashes": lambda text: text.replace(b"-----BEGIN", b"--BEGIN"),
    "no dashes": lambda text: text.replace(b"-----BEGIN CERTIFICATE-----", b"BEGIN CERTIFICATE"),
    "no dashes after": lambda text: text.replace(b"CERTIFICATE-----", b"CERTIFICATE"),
    "no BEGIN line": lambda text: text.replace(b"-----BEGIN CERTIFICATE-----\n", b""),
    "no END line": lambda text: text.replace(b"-----END CERTIFICATE-----\n", b""),
}


def _wrapped(text: bytes, width: int) -> bytes:
    if b"\n" not in text.strip():  # it is one line already, armour and all
        return text
    begin, *body, end = text.splitlines()
    whole = b"".join(body)
    return b"\n".join([begin, *(whole[at : at + width] for at in range(0, len(whole), width)), end, b""])


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
    assert any("line " in problem or "END line" in problem for problem in problems), problems


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
    assert any("UTF-16" in problem for problem in refused(b"".join(joined)))


def test_random_files_are_accepted_whole_or_refused(files: list[bytes]) -> None:
    """A short form of ``tests/fuzz``: any change, or two after another, to any of the files."""
    random.seed(1)
    outcomes = [_judge(files) for _ in range(300)]
    assert outcomes.count("accepted") > 60
    assert outcomes.count("refused") > 20


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
