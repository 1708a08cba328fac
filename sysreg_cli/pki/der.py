"""Parts of a certificate exactly as they are encoded (DER, X.690), which cryptography does not show."""

from __future__ import annotations

SEQUENCE, INTEGER = 0x30, 0x02


def read(data: bytes) -> tuple[int, bytes, bytes]:
    """Return (tag, content, rest) of the first element of ``data``. Raises ValueError."""
    if len(data) < 2:
        raise ValueError("cut short")
    tag, length, start = data[0], data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    if length > len(data) - start:
        raise ValueError("cut short")
    return tag, data[start : start + length], data[start + length :]


def elements(content: bytes) -> list[tuple[int, bytes]]:
    """Return (tag, content) of every element in a row. Raises ValueError."""
    row = []
    while content:
        tag, inner, content = read(content)
        row.append((tag, inner))
    return row


def integers(content: bytes) -> list[int]:
    """Return every INTEGER in the SEQUENCEs of ``content``, however deep. Raises ValueError."""
    numbers: list[int] = []
    pending = [content]
    while pending:
        for tag, inner in elements(pending.pop()):
            if tag == SEQUENCE:
                pending.append(inner)
            elif tag == INTEGER:
                numbers.append(int.from_bytes(inner, "big", signed=True))
    return numbers


def signature_algorithms(certificate: bytes, signed: bytes) -> tuple[bytes, bytes]:
    """Return the algorithms inside and outside the signed part. RFC 5280 4.1.1.2 demands that they are equal.

    Raises ValueError.
    """
    _, outer, _ = read(certificate[certificate.index(signed) + len(signed) :])
    _, content, _ = read(signed)
    # version [0], which X.509 version 1 lacks, then the serial number, then the algorithm
    inside = [inner for tag, inner in elements(content) if tag != 0xA0]
    if len(inside) < 2:
        raise ValueError("cut short")
    return inside[1], outer


def name_strings(name: bytes) -> list[tuple[int, bytes]]:
    """Return (tag, content) of every value in an encoded Name (RFC 5280 4.1.2.4). Raises ValueError."""
    _, sets, _ = read(name)
    return [
        value
        for _, attributes in elements(sets)
        for _, attribute in elements(attributes)
        for value in elements(attribute)[1:]
    ]
