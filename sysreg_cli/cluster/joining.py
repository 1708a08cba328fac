"""How a host joins: what the join file holds, and the exchange that makes it useless after one use.

The file holds a user of etcd who may do one thing: ask once to be let in. The host asks with a public key
that it has just made. The controller makes the user of the host, seals the password with that key, and
answers once. So a copy of the file gives no access after the host has asked, and etcd never holds a password
in clear.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from datetime import datetime

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sysreg_cli.cluster.keys import (
    DESIRED,
    JoinPart,
    Part,
    check_host_name,
    host_key,
    join_key,
    joining_prefix,
)
from sysreg_cli.cluster.port import Rights
from sysreg_cli.errors import ProtocolError, UsageError
from sysreg_cli.v1 import wire

#: how long a join file is good, in seconds
JOIN_SECONDS = 3600
_FORMAT = 1
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class Offer:
    """That a host may join until then, ISO 8601 in UTC."""

    expires_at: str


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """The public key of a host that asks to be let in, X25519 in hexadecimal (RFC 7748)."""

    public_key: str


@dataclass(frozen=True, slots=True)
class JoinAnswer:
    """The sealed password of the host's user: public key of the sealer, nonce, and box, in hexadecimal."""

    public_key: str
    nonce: str
    box: str
    at: str = ""


@dataclass(frozen=True, slots=True)
class Invitation:
    """What the join file holds. ``ca``, ``certificate`` and ``key`` are PEM, for the connection to etcd.

    ``address`` is that of the registry for /etc/hosts, "" if its names resolve without that.
    """

    host: str
    role: str
    expires_at: str
    endpoints: tuple[str, ...]
    host_names: tuple[str, ...]
    port: int
    address: str
    ca: str
    certificate: str
    key: str = field(repr=False)
    password: str = field(repr=False)
    format: int = _FORMAT


def host_user(host: str) -> str:
    """Return the name of the user of etcd that a host is."""
    return f"host-{host}"


def join_user(host: str) -> str:
    """Return the name of the user of etcd in the join file of a host."""
    return f"join-{host}"


def host_rights(host: str) -> Rights:
    """Return what a host may do. Its keys are named exactly: below a prefix it could write its own spec."""
    return Rights([DESIRED], [host_key(host, Part.STATUS), host_key(host, Part.ALIVE)])


def join_rights(host: str) -> Rights:
    """Return what the user of a join file may do."""
    return Rights([joining_prefix(host)], [join_key(host, JoinPart.REQUEST)])


def write_invitation(invitation: Invitation) -> str:
    """Return the text of a join file."""
    document = wire.to_json(invitation)
    return json.dumps({"sha256": _digest(document), **document}, indent=1) + "\n"


def read_invitation(data: bytes, now: datetime) -> Invitation:
    """Parse a join file. ``now`` is aware. Raises UsageError if it is damaged, or has expired."""
    again = "make a new one on the controller: system registry-host-add"
    try:
        document = json.loads(data)
        digest = document.pop("sha256")
        invitation = wire.from_json(Invitation, document, "it")
        expires_at = datetime.fromisoformat(invitation.expires_at)
        check_host_name(invitation.host)
    except (ValueError, AttributeError, KeyError, TypeError, ProtocolError, UsageError, RecursionError):
        raise UsageError("the join file is damaged, or is none", next_step=again) from None
    if digest != _digest(document):
        raise UsageError("the join file is damaged: its digest is wrong", next_step=again)
    if invitation.format != _FORMAT:
        raise UsageError("the join file is from another version of sysreg", next_step="install the same here")
    if now >= expires_at:
        raise UsageError(
            f"the join file expired at {expires_at}, and the clock of this host says {now:%Y-%m-%d %H:%M %Z}",
            next_step=f"set the clock if it is wrong, or {again}",
        )
    return invitation


def _digest(document: object) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


class Asker:
    """The side of the host: one key for one request."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._key = X25519PrivateKey.generate()
        self.request = JoinRequest(self._key.public_key().public_bytes_raw().hex())

    def open(self, answer: JoinAnswer) -> str:
        """Return the password. Raises ProtocolError if the answer is for another request, or damaged."""
        try:
            theirs = X25519PublicKey.from_public_bytes(bytes.fromhex(answer.public_key))
            cipher = _cipher(self._key, theirs, self._host)
            return cipher.decrypt(bytes.fromhex(answer.nonce), bytes.fromhex(answer.box), None).decode()
        except (ValueError, InvalidTag):
            raise ProtocolError("the answer of the controller is not for this host") from None


def seal(host: str, request: JoinRequest, password: str, at: str) -> JoinAnswer:
    """Return ``password`` for who has made ``request`` alone. Raises ProtocolError if its key is none."""
    key, nonce = X25519PrivateKey.generate(), os.urandom(_NONCE_BYTES)
    try:
        cipher = _cipher(key, X25519PublicKey.from_public_bytes(bytes.fromhex(request.public_key)), host)
    except ValueError:
        raise ProtocolError(f"the request of host {host} has no public key") from None
    box = cipher.encrypt(nonce, password.encode(), None)
    return JoinAnswer(key.public_key().public_bytes_raw().hex(), nonce.hex(), box.hex(), at)


def _cipher(own: X25519PrivateKey, other: X25519PublicKey, host: str) -> ChaCha20Poly1305:
    derivation = HKDF(hashes.SHA256(), length=32, salt=None, info=f"sysreg join {host}".encode())
    return ChaCha20Poly1305(derivation.derive(own.exchange(other)))
