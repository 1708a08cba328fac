"""PEM text, cut into blocks (RFC 7468, and RFC 1421 headers inside a block).

The parser accepts what operators' files contain: text around the blocks, CRLF or CR, indentation, a byte
order mark, two blocks on one line because a file lacked its last newline. This module does not import
cryptography: the CLI only needs to know whether a file holds a private key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

CERTIFICATE_LABELS = frozenset({"CERTIFICATE", "X509 CERTIFICATE"})

_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 #]{1,64})-----")
_END = re.compile(rb"-----END ([A-Z0-9 #]{1,64})-----")
_GLUED = re.compile(rb"(-----END [A-Z0-9 #]{1,64}-----)(?=-----BEGIN )")


@dataclass(frozen=True, slots=True)
class PemBlock:
    """One PEM block. Its text is in the one form that every parser accepts."""

    label: str
    text: bytes

    def __repr__(self) -> str:
        # The text may be a private key, and logs hold reprs.
        return f"PemBlock({self.label!r}, {len(self.text)} bytes)"

    @property
    def is_certificate(self) -> bool:
        return self.label in CERTIFICATE_LABELS

    @property
    def is_private_key(self) -> bool:
        return self.label.endswith("PRIVATE KEY")


def split(data: bytes) -> tuple[tuple[PemBlock, ...], tuple[str, ...]]:
    """Return the blocks of ``data`` in their order, and the problems of its armour."""
    blocks: list[PemBlock] = []
    problems: list[str] = []
    label: bytes | None = None
    body: list[bytes] = []
    for number, raw in enumerate(_GLUED.sub(rb"\1\n", data.removeprefix(b"\xef\xbb\xbf")).splitlines(), 1):
        line = raw.strip()
        if begin := _BEGIN.fullmatch(line):
            if label is not None:
                problems.append(f"line {number}: the {label.decode()} block before it has no END line")
            label, body = begin[1], []
        elif label is not None and (end := _END.fullmatch(line)):
            if end[1] == label:
                blocks.append(_block(label, body))
            else:
                problems.append(f"line {number}: END {end[1].decode()} closes a {label.decode()} block")
            label = None
        elif label is not None:
            body.append(line)
    if label is not None:
        problems.append(f"the last {label.decode()} block has no END line: the file is cut short")
    return tuple(blocks), tuple(problems)


def _block(label: bytes, body: list[bytes]) -> PemBlock:
    # Some tools write X509 CERTIFICATE. cryptography reads both, but writes and expects the plain label.
    plain = b"CERTIFICATE" if label.decode() in CERTIFICATE_LABELS else label
    headers_end = next((at + 1 for at, line in enumerate(body) if not line), 0)
    headers = body[:headers_end] if any(b":" in line for line in body[:headers_end]) else []
    encoded = [line for line in body[len(headers) :] if line]
    lines = [b"-----BEGIN %s-----" % plain, *headers, *encoded, b"-----END %s-----" % plain]
    return PemBlock(label.decode(), b"\n".join(lines) + b"\n")


def holds_private_key(data: bytes) -> bool:
    """Whether ``data`` looks as if it held a private key. A damaged key is a secret, too."""
    return re.search(rb"-----BEGIN [A-Z0-9 #]{0,64}PRIVATE KEY-----", data) is not None
