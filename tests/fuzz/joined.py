"""Files that are joined from real ones, as operators and their tools do it: quoted, re-encoded, reordered.

The property: such a file is read with exactly the certificates that a person sees in it, or it is refused
with a line number. ``python -m tests.fuzz.joined`` tries 5,000.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import cryptography_vectors
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sysreg_cli.errors import CertificateRefused
from sysreg_cli.pki.check import read_certificates

Change = Callable[[bytes], bytes]


def _wrapped(text: bytes, width: int) -> bytes:
    if b"\n" not in text.strip():  # it is one line already, armour and all
        return text
    begin, *body, end = text.splitlines()
    whole = b"".join(body)
    return b"\n".join([begin, *(whole[at : at + width] for at in range(0, len(whole), width)), end, b""])


#: Each is applied to one file before the files are joined.
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
#: A person sees a certificate here, but what is meant is not certain.
REFUSED: dict[str, Change] = {
    "lower case": lambda text: text.replace(b"BEGIN CERTIFICATE", b"begin certificate"),
    "dashes of a word processor": lambda text: text.replace(b"-----BEGIN", "–––––BEGIN".encode()),  # noqa: RUF001
    "two dashes": lambda text: text.replace(b"-----BEGIN", b"--BEGIN"),
    "no dashes": lambda text: text.replace(b"-----BEGIN CERTIFICATE-----", b"BEGIN CERTIFICATE"),
    "no dashes after": lambda text: text.replace(b"CERTIFICATE-----", b"CERTIFICATE"),
    "no BEGIN line": lambda text: text.replace(b"-----BEGIN CERTIFICATE-----\n", b""),
    "no END line": lambda text: text.replace(b"-----END CERTIFICATE-----\n", b""),
    "a character that base64 lacks": lambda text: text.replace(b"\nMI", b"\nM!I", 1),
    "a line is missing": lambda text: b"\n".join(text.split(b"\n")[:4] + text.split(b"\n")[5:]),
}
_ENCODINGS = ("utf-16", "utf-16-le", "utf-16-be", "utf-8-sig")
_BETWEEN = (
    b"",
    b"\n",
    b"\n\n",
    b"\nIntermediate, see the BEGIN of the mail:\n",
    b"\x0c\n",
    b"\xef\xbb\xbf",
    b" ",
)


def real_files() -> list[bytes]:
    """Certificates of public CAs and servers, as PEM without text around it."""
    directory = Path(cryptography_vectors.__file__).parent / "x509"
    names = ("cryptography.io.pem", "letsencryptx3.pem", "rapidssl_sha256_ca_g3.pem", "wildcard_san.pem")
    found = [x509.load_pem_x509_certificate((directory / name).read_bytes()) for name in names]
    return [certificate.public_bytes(Encoding.PEM) for certificate in found]


def join(files: list[bytes], random: Random) -> tuple[bytes, list[bytes]]:
    """Join some of ``files``. Return the joined file, and the files that a person sees in it, in order."""
    chosen = random.choices(files, k=random.randint(1, 5))
    changed = []
    for text in chosen:
        for _ in range(random.randint(0, 2)):
            changes = REFUSED if random.random() < 0.05 else READ
            text = random.choice(list(changes.values()))(text)
        if random.random() < 0.05:
            text = text.decode().encode(random.choice(_ENCODINGS))
        changed.append(text + random.choice(_BETWEEN))
    data = b"".join(changed)
    if b"\0" not in data and random.random() < 0.1:
        data = data.decode("utf-8", "replace").encode(random.choice(_ENCODINGS))
    return data, list(dict.fromkeys(chosen))


def judge(data: bytes, seen: list[bytes]) -> str:
    """Return "read" or "refused". Raises AssertionError if the file is read otherwise than a person does."""
    try:
        certificates = read_certificates(data)
    except CertificateRefused as refused:
        assert any(re.search(r"\bline \d+", problem) for problem in refused.problems), refused.problems
        return "refused"
    assert [certificate.public_bytes(Encoding.PEM) for certificate in certificates] == seen
    return "read"


def run(number: int) -> Counter[str]:
    """Judge the first ``number`` files. Return how many were read, and how many refused."""
    files = real_files()
    outcomes: Counter[str] = Counter()
    for seed in range(number):
        data, seen = join(files, Random(seed))
        try:
            outcomes[judge(data, seen)] += 1
        except AssertionError as error:
            error.add_note(f"file {seed}: {data!r}")
            raise
    return outcomes


def main() -> int:
    print(f"joined files: {dict(run(5000))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
