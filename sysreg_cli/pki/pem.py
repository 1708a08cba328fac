"""PEM text, cut into blocks (RFC 7468, and RFC 1421 headers inside a block).

Operators join files from many tools. The parser reads what a person reads in such a file: text around the
blocks, any line ends, indentation, quoting as in a mail or a program, a block on one line, a byte order mark
or a no-break space before a block, four or six dashes, UTF-16. It never skips a block in silence: it reports
each line with BEGIN or END that it cannot read. Hand-written, because libraries skip such lines.

This module does not import cryptography: the CLI only needs to know whether a file holds a private key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

CERTIFICATE_LABELS = frozenset({"CERTIFICATE", "X509 CERTIFICATE"})

_LABEL = rb"([A-Z0-9 #]{1,64}?)"
# Five dashes first, so that the END of one block and the BEGIN of the next may touch. The last alternative is
# armour that is not understood.
_ARMOUR = re.compile(
    rb"-----(BEGIN|END) " + _LABEL + rb"-----"
    rb"|-{3,8}[ \t]{0,2}(BEGIN|END)[ \t]{1,2}" + _LABEL + rb"[ \t]{0,2}-{3,8}"
    rb"|(?i:(?:-|\xe2\x80[\x90-\x95]){2,8}[ \t]{0,2}(?:BEGIN|END)\b|(?:BEGIN|END)[ \t]{1,2}[A-Z0-9 ]{0,32}"
    rb"(?:CERTIFICATE|PRIVATE[ ]KEY)\b)"
    # base64 of DER outside of a block, whose BEGIN and END lines are lost
    rb"|MI[GHI][A-Za-z0-9+/]{45,}"
)
# White space, and what quotes a line of a mail or a string of a program. A plus sign is base64.
_BLANK = rb"(?:\s|\xc2\xa0|\xef\xbb\xbf|\xe2\x80[\x80-\x8b])"
_STRING_END = re.compile(rb"[\"'][+,;\\\s]*?(?=\n|\Z)")
_EDGES = re.compile(rb"\A(?:" + _BLANK + rb"|[>\"'])+|(?:" + _BLANK + rb"|[\"',;\\])+\Z")
_HEADER = re.compile(rb"[A-Za-z0-9-]+:.*")
_LINE_LENGTH = 64
# a line of base64 in UTF-16, whose letters have zeros between them, and one in any other encoding
_WIDE = re.compile(rb"(?:[A-Za-z0-9+/=-]\0){20,}")
_PLAIN = re.compile(rb"[A-Za-z0-9+/=-]{20,}")


@dataclass(frozen=True, slots=True)
class PemBlock:
    """One PEM block. Its text is in the one form that every parser accepts. ``line`` is that of its BEGIN."""

    label: str
    text: bytes
    line: int

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
    """Return the blocks of ``data`` in their order, and the problems of its armour with their lines."""
    text, problem = _decode(data)
    if problem:
        return (), (problem,)
    blocks: list[PemBlock] = []
    problems: list[str] = []
    label, body_at, begun = "", 0, 0
    number, counted_to = 1, 0
    for armour in _ARMOUR.finditer(text):
        # only from the last one on: a file may have tens of thousands of such lines
        number += text.count(b"\n", counted_to, armour.start())
        counted_to = armour.start()
        kind = armour[1] or armour[3]
        found = (armour[2] or armour[4] or b"").decode().strip()
        if armour[0].startswith(b"MI"):
            if not label:
                problems.append(f"line {number}: a block has no BEGIN line before it")
        elif kind is None:
            problems.append(f"line {number}: this BEGIN or END line is damaged (not -----BEGIN LABEL-----)")
        elif kind == b"BEGIN":
            if label:
                problems.append(f"line {number}: the {label} block before it has no END line")
            label, body_at, begun = found, armour.end(), number
        elif not label:
            problems.append(f"line {number}: END {found} has no BEGIN line before it")
        else:
            if found == label:
                blocks.append(_block(label, text[body_at : armour.start()], begun))
            else:
                problems.append(f"line {number}: END {found} closes a {label} block")
            label = ""
    if label:
        problems.append(f"line {begun}: this {label} block has no END line: the file is cut short")
    return tuple(blocks), tuple(problems)


def holds_private_key(data: bytes) -> bool:
    """Whether ``data`` looks as if it held a private key. A damaged key is a secret, too."""
    return re.search(rb"BEGIN [A-Z0-9 #]{0,64}PRIVATE KEY", data.replace(b"\0", b"")) is not None


def _decode(data: bytes) -> tuple[bytes, str]:
    """Return the text in UTF-8 with plain line ends, and what is wrong with its encoding."""
    wide = list(_WIDE.finditer(data)) if b"\0" in data else []
    if wide:
        # Blocks of a part in another encoding, or with other byte order, would vanish.
        big_endian = wide[0].start() % 2 == 1
        others = [match for match in wide if match.start() % 2 != big_endian]
        if other := next(iter(others), None) or _PLAIN.search(data):
            line = data.count(b"\n", 0, max(other.start(), wide[0].start())) + 1
            return b"", f"line {line}: the encoding changes; save all of the file as UTF-8"
        text = data.decode("utf-16-be" if big_endian else "utf-16-le", "replace")
        data = text.removeprefix("\ufeff").encode()
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n"), ""


def _block(label: str, body: bytes, line: int) -> PemBlock:
    # a block that was taken from a program or JSON has the two characters \n in place of line ends
    body = _STRING_END.sub(b"", body).replace(b"\\r", b"").replace(b"\\n", b"\n")
    lines = [_EDGES.sub(b"", line) for line in body.split(b"\n")]
    while lines and not lines[0]:
        lines.pop(0)
    headers: list[bytes] = []
    if b"" in lines and all(_HEADER.fullmatch(line) for line in lines[: lines.index(b"")]):
        headers = [*lines[: lines.index(b"")], b""]
        lines = lines[len(headers) :]
    encoded = b"".join(b"".join(lines).split())
    wrapped = [encoded[at : at + _LINE_LENGTH] for at in range(0, len(encoded), _LINE_LENGTH)]
    # Some tools write X509 CERTIFICATE. cryptography reads both, but writes and expects the plain label.
    plain = b"CERTIFICATE" if label in CERTIFICATE_LABELS else label.encode()
    text = [b"-----BEGIN %s-----" % plain, *headers, *wrapped, b"-----END %s-----" % plain]
    return PemBlock(label, b"\n".join(text) + b"\n", line)
