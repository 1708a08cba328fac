"""Seeds made at run time, and mutations that know PEM and DER: blocks, elements, and signatures made anew."""

from __future__ import annotations

import base64
import functools
from datetime import UTC, datetime, timedelta
from random import Random

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sysreg_cli.pki import pem
from tests import certificates as make
from tests.fuzz import der
from tests.fuzz.target import PASSPHRASE


@functools.cache
def seeds() -> tuple[bytes, ...]:
    """Bundles of every shape that is accepted, and some that are not."""
    root = make.authority("Root", path_length=2)
    sub = make.authority("Sub", root, path_length=0)
    rsa_root = make.authority("RSA Root", key=make.rsa_key())
    rich = make.server(
        sub,
        names=[make.HOST, "*.example.org", "198.51.100.10", "2001:db8::1"],
        extra=[
            (
                x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), ["cps"])]),
                True,
            ),
            (x509.OCSPNoCheck(), False),
            (x509.CRLDistributionPoints([_point()]), False),
        ],
    )
    narrow = make.authority(
        "Narrow",
        root,
        extra=[(x509.NameConstraints([x509.DNSName("local")], [x509.DNSName("example.org")]), True)],
    )
    small = make.server(root, key=make.ec_key(ec.SECP384R1()), algorithm=hashes.SHA384())
    plain = make.server(rsa_root, key=make.rsa_key(number=1))
    expired = make.authority("Old", end=datetime.now(UTC) - timedelta(hours=1))
    return (
        make.bundle(make.server()),
        make.bundle(rich, sub, root),
        make.bundle(make.server(narrow), narrow, root),
        make.bundle(small, root, key=make.key_pem(small.key, "TraditionalOpenSSL")),
        make.bundle(plain, rsa_root, key=make.key_pem(plain.key, "TraditionalOpenSSL", PASSPHRASE)),
        make.bundle(rich, sub, key=make.key_pem(rich.key, "PKCS8", PASSPHRASE)),
        root.pem + sub.pem + narrow.pem + rsa_root.pem,
        expired.pem,
        b"",
    )


def _point() -> x509.DistributionPoint:
    name = x509.UniformResourceIdentifier("http://crl.example.org/")
    return x509.DistributionPoint([name], None, None, None)


@functools.cache
def _blocks() -> tuple[pem.PemBlock, ...]:
    return tuple(block for seed in seeds() for block in pem.split(seed)[0])


@functools.cache
def donors() -> list[der.Node]:
    return [node for block in _blocks() if (node := _tree(block)) is not None]


def _body(block: pem.PemBlock) -> bytes:
    lines = [line for line in block.text.splitlines() if b":" not in line and not line.startswith(b"-----")]
    try:
        return base64.b64decode(b"".join(lines))
    except ValueError:
        return b""


def _tree(block: pem.PemBlock) -> der.Node | None:
    nodes = der.parse(_body(block))
    return nodes[0] if nodes else None


def armour(label: str, body: bytes) -> bytes:
    return b"-----BEGIN %s-----\n%s-----END %s-----\n" % (
        label.encode(),
        base64.encodebytes(body),
        label.encode(),
    )


def mutate(data: bytes, random: Random) -> bytes:
    """Bend ``data`` once or a few times."""
    if random.random() < 0.1 or b"-----BEGIN" not in data:
        data = random.choice(seeds())
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        data = random.choice((_bent_block, _bent_block, _bent_block, _bent_block, _rearranged, _bent_text))(
            data, random
        )
    return data


def _bent_block(data: bytes, random: Random) -> bytes:
    blocks = list(pem.split(data)[0])
    if not blocks:
        return data
    at = random.randrange(len(blocks))
    tree = _tree(blocks[at])
    if tree is None:
        return data
    certificate = blocks[at].is_certificate and tree.children and len(tree.children) == 3
    part = tree.children[0] if certificate and tree.children and random.random() < 0.9 else tree
    for _ in range(random.choice([1, 1, 2, 3])):
        der.bend(part, random, donors())
    if certificate and len(tree.children or ()) == 3 and random.random() < 0.7:
        tree = signed_again(tree, random.choice(_signing_keys()))
    body = bytearray(tree.encode())
    if random.random() < 0.1 and body:
        body[random.randrange(len(body))] ^= 1 << random.randrange(8)
    texts = [block.text for block in blocks]
    texts[at] = armour(blocks[at].label, bytes(body))
    return b"".join(texts)


def signed_again(tree: der.Node, key: ec.EllipticCurvePrivateKey) -> der.Node:
    """The certificate ``tree`` with its first part signed by ``key``, ecdsa-with-SHA256."""
    assert tree.children
    signature = key.sign(tree.children[0].encode(), ec.ECDSA(hashes.SHA256()))
    (algorithm,) = der.parse(bytes.fromhex("300a06082a8648ce3d040302")) or []
    return der.Node(0x30, children=[tree.children[0], algorithm, der.Node(0x03, signature, None, b"\0")])


@functools.cache
def _signing_keys() -> list[ec.EllipticCurvePrivateKey]:
    keys = []
    for block in _blocks():
        if block.is_private_key and b"ENCRYPTED" not in block.text:
            key = serialization.load_pem_private_key(block.text, None)
            if isinstance(key, ec.EllipticCurvePrivateKey):
                keys.append(key)
    return keys


def _rearranged(data: bytes, random: Random) -> bytes:
    blocks = list(pem.split(data)[0])
    what = random.randrange(6)
    if what == 0 or not blocks:
        blocks.insert(random.randint(0, len(blocks)), random.choice(_blocks()))
    elif what == 1:
        del blocks[random.randrange(len(blocks))]
    elif what == 2:
        random.shuffle(blocks)
    elif what == 3:
        blocks.append(random.choice(blocks))
    elif what == 4:
        at = random.randrange(len(blocks))
        label = random.choice(blocks + list(_blocks())).label
        blocks[at] = pem.PemBlock(label, armour(label, _body(blocks[at])), blocks[at].line)
    else:
        blocks[random.randrange(len(blocks))] = random.choice(_blocks())
    return b"".join(block.text for block in blocks)


def _bent_text(data: bytes, random: Random) -> bytes:
    lines = data.splitlines(keepends=True)
    what = random.randrange(6)
    at = random.randrange(len(lines)) if lines else 0
    if what == 0:
        return data.replace(b"\n", random.choice([b"\r\n", b"\r", b"", b"\n\n", b" \n\t"]))
    if what == 1 and lines:
        del lines[at]
    elif what == 2:
        lines.insert(
            at,
            random.choice([b"Proc-Type: 4,ENCRYPTED\n", b"DEK-Info: AES-256-CBC,00\n", b"\n", b"\0\xff\n"]),
        )
    elif what == 3:
        return data[: random.randrange(len(data) + 1)]
    elif what == 4 and lines:
        lines[at] = random.choice(lines)
    else:
        changed = bytearray(data)
        for _ in range(random.choice([1, 3])):
            if changed:
                changed[random.randrange(len(changed))] = random.randrange(256)
        return bytes(changed)
    return b"".join(lines)
