"""DER as a tree that can be bent and written again with right lengths."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

INTERESTING = (
    b"", b"\x00", b"\xff", b"\x7f", b"\x80", b"\x01\x00\x00\x00\x00", b"\x00" * 20, b"\xff" * 40,
    b"registry.local", b"*", b"\xc3\x28", b"99991231235959Z", b"000000000000Z", b"\x55\x1d\x13", b"1",
)  # fmt: skip


@dataclass
class Node:
    """One element, of ``content`` or of ``children``; ``prefix`` counts a BIT STRING's unused bits."""

    tag: int
    content: bytes = b""
    children: list[Node] | None = None
    prefix: bytes = b""

    def encode(self) -> bytes:
        parts = self.content if self.children is None else b"".join(child.encode() for child in self.children)
        return tlv(self.tag, self.prefix + parts)

    def walk(self) -> list[Node]:
        return [self, *(node for child in self.children or () for node in child.walk())]

    def copy(self) -> Node:
        children = None if self.children is None else [child.copy() for child in self.children]
        return Node(self.tag, self.content, children, self.prefix)


def tlv(tag: int, content: bytes) -> bytes:
    if len(content) < 128:
        return bytes([tag, len(content)]) + content
    octets = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content


def parse(data: bytes, depth: int = 0) -> list[Node] | None:
    """The elements that make up ``data``, or None if it isn't DER through and through."""
    nodes: list[Node] = []
    while data:
        if len(data) < 2 or depth > 20 or data[0] & 0x1F == 0x1F:
            return None
        tag, length, start = data[0], data[1], 2
        if length & 0x80:
            start += length & 0x7F
            length = int.from_bytes(data[2:start], "big")
        if start + length > len(data):
            return None
        content, data = data[start : start + length], data[start + length :]
        prefix = content[:1] if tag == 0x03 else b""
        inner = None
        # Extensions and keys sit as DER in strings of octets and bits.
        if tag & 0x20 or (tag in (0x03, 0x04) and content[len(prefix) :][:1] in (b"\x30", b"\x03", b"\x04")):
            inner = parse(content[len(prefix) :], depth + 1)
            if inner is None and tag & 0x20:
                return None
        nodes.append(Node(tag, content[len(prefix) :], inner or None, prefix))
    return nodes


def bend(root: Node, random: Random, donors: list[Node]) -> None:
    """Change one thing somewhere in the tree."""
    node = random.choice(root.walk())
    what = random.randrange(8)
    if node.children and what == 0:
        del node.children[random.randrange(len(node.children))]
    elif node.children and what == 1:
        node.children.append(random.choice(node.children).copy())
    elif node.children and what == 2:
        random.shuffle(node.children)
    elif what == 3:
        node.tag = random.choice([*range(1, 31), 0x30, 0x31, 0xA0, 0xA1, 0xA3, 0x80, 0x81, 0x82, 0x87])
    elif what == 4 and donors:
        given = random.choice(random.choice(donors).walk())
        node.tag, node.content, node.prefix = given.tag, given.content, given.prefix
        node.children = None if given.children is None else [child.copy() for child in given.children]
    elif node.children is None or what == 5:
        node.content = _bytes(node.content, random)
        node.children = None
    elif what == 6:
        for _ in range(random.choice([1, 50])):
            inner = Node(node.tag, node.content, node.children, node.prefix)
            node.children, node.content, node.prefix = [inner], b"", b""


def _bytes(content: bytes, random: Random) -> bytes:
    changed = bytearray(content)
    what = random.randrange(5)
    if what == 0 or not changed:
        return random.choice(INTERESTING)
    at = random.randrange(len(changed))
    if what == 1:
        changed[at] ^= 1 << random.randrange(8)
    elif what == 2:
        changed[at] = random.randrange(256)
    elif what == 3:
        del changed[at:]
    else:
        changed[at:at] = random.choice(INTERESTING)
    return bytes(changed)
