"""The whole check: PEM bytes and a passphrase to a chain fit to be installed, or every reason against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509

from sysreg_cli.errors import CertificateRefused
from sysreg_cli.pki import facts as certificate_facts
from sysreg_cli.pki import keys, pem, rules
from sysreg_cli.pki.facts import CertificateProblem, Facts, printable, quietly, short_name
from sysreg_cli.pki.keys import KeyProblem, ServerKey

MAX_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class ServerChain:
    """A private key, its server certificate, intermediates, maybe the root: as ``check_server`` passes it."""

    key: ServerKey = field(repr=False)
    certificates: tuple[x509.Certificate, ...]  # the server's comes first
    warnings: tuple[str, ...]
    key_pem: bytes = field(repr=False)  # PKCS8, not encrypted: the text of server.key
    chain_pem: bytes = field(repr=False)  # the text of server.crt

    @property
    def anchor(self) -> x509.Certificate:
        """The last certificate as given: what clients are to trust."""
        return self.certificates[-1]


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA certificate that may be trusted: checked by ``check_authorities``."""

    certificate: x509.Certificate
    warnings: tuple[str, ...]
    pem: bytes = field(repr=False)


@quietly
def check_server(
    data: bytes,
    *,
    passphrase: bytes | None,
    host_names: Sequence[str],
    now: datetime,
    min_days_warning: int = 30,
) -> ServerChain:
    """Check a server certificate (docs/contracts.rst, "Certificate", mode ``docker_registry``).

    ``now`` is aware. The subject alternative names must cover all ``host_names``.

    Raises CertificateRefused with every reason found.
    """
    blocks, problems = _split(data)
    key_blocks = [block for block in blocks if block.is_private_key]
    key: ServerKey | None = None
    if not key_blocks:
        problems.append("there is no private key")
    elif len(key_blocks) > 1:
        problems.append(f"there are {len(key_blocks)} private keys; exactly one is expected")
    else:
        try:
            key = keys.load(key_blocks[0], passphrase)
        except KeyProblem as problem:
            problems.append(str(problem))
    chain = _read_chain(blocks, problems)
    known = [one for one in chain if one is not None]
    if key is not None and known:
        problems.extend(_key_problems(key, chain))
    warnings: list[str] = []
    for position, one in enumerate(chain):
        if one is None:
            continue
        found = [*rules.validity(one, now), *one.weaknesses, *rules.purpose(one)]
        if position == 0:
            found += rules.server(one, host_names)
        else:
            found += rules.authority(one)
            if chain[0] is not None:
                found += rules.constrained(chain[0], one)
        following = chain[position + 1] if position + 1 < len(chain) else None
        if following is not None:
            below = sum(1 for ca in chain[1 : position + 1] if ca is not None and not ca.self_issued)
            found += rules.link(one, following, below)
        elif position + 1 == len(chain):
            found += rules.own_signature(one)
        problems.extend(f"{_label(position, one)}: {reason}" for reason in found)
        warnings.extend(
            f"{_label(position, one)}: {warning}"
            for warning in rules.expiry_warnings(one, now, min_days_warning)
        )
    if problems or key is None or len(known) != len(chain):
        raise _refused(problems)
    if rules.claims_own_signature(known[0]):
        warnings.append(f"{_label(0, known[0])}: is self-signed")
    return ServerChain(
        key=key,
        certificates=tuple(one.certificate for one in known),
        warnings=tuple(warnings),
        key_pem=keys.to_pem(key),
        chain_pem=b"".join(one.pem for one in known),
    )


@quietly
def check_authorities(data: bytes, *, now: datetime, min_days_warning: int = 30) -> tuple[Authority, ...]:
    """Check CA certificates (docs/contracts.rst, "Certificate", mode ``ssl_ca``).

    ``data`` holds one or more CA certificates in any order, each once, and no private key.

    Raises CertificateRefused with every reason found.
    """
    blocks, problems = _split(data)
    if any(block.is_private_key for block in blocks):
        problems.append("there is a private key; CA certificates are installed without one")
    authorities: dict[str, Authority] = {}
    for position, one in enumerate(_read_chain(blocks, problems)):
        if one is None or one.fingerprint in authorities:
            continue
        found = [
            *rules.validity(one, now),
            *one.weaknesses,
            *rules.authority(one),
            *rules.own_signature(one),
        ]
        problems.extend(f"{_label(position, one)}: {reason}" for reason in found)
        authorities[one.fingerprint] = Authority(
            certificate=one.certificate,
            warnings=tuple(
                f"{_label(position, one)}: {warning}"
                for warning in rules.expiry_warnings(one, now, min_days_warning)
            ),
            pem=one.pem,
        )
    if problems:
        raise _refused(problems)
    return tuple(authorities.values())


@quietly
def read_certificates(data: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates of a file that was checked when it was written; other blocks are skipped.

    Raises CertificateRefused if there is none, or one is damaged.
    """
    blocks, problems = _split(data)
    certificates: list[x509.Certificate] = []
    for position, block in enumerate(one for one in blocks if one.is_certificate):
        try:
            certificate = certificate_facts.load(block.text)
            # What is lazily parsed later would otherwise fail where a description is made.
            certificates.append(certificate_facts.read(certificate).certificate)
        except CertificateProblem as problem:
            problems.append(f"certificate {position + 1}: {problem}")
    if not certificates and not problems:
        problems.append("there is no certificate")
    if problems:
        raise _refused(problems)
    return tuple(certificates)


def _refused(problems: Sequence[str]) -> CertificateRefused:
    # Names from the certificate stand in the reasons: none may forge a line of a terminal or a log.
    shown = dict.fromkeys(printable(problem, 1000) for problem in problems)
    return CertificateRefused("certificate refused", list(shown))


def _split(data: bytes) -> tuple[tuple[pem.Block, ...], list[str]]:
    if len(data) > MAX_BYTES:
        raise _refused([f"it is larger than {MAX_BYTES // 1024} KiB"])
    blocks, problems = pem.split(data)
    return blocks, list(problems)


def _read_chain(blocks: Sequence[pem.Block], problems: list[str]) -> list[Facts | None]:
    """The facts of every certificate block; None, and a problem, for one that cannot be read."""
    chain: list[Facts | None] = []
    for block in blocks:
        if not block.is_certificate:
            continue
        position = len(chain)
        certificate: x509.Certificate | None = None
        try:
            certificate = certificate_facts.load(block.text)
            chain.append(certificate_facts.read(certificate))
        except CertificateProblem as problem:
            name = f" ({short_name(certificate)})" if certificate is not None else ""
            problems.append(f"certificate {position + 1}{name}: {problem}")
            chain.append(None)
    if not chain:
        others = sorted({block.label for block in blocks if not block.is_private_key})
        hint = f" (only {', '.join(others)})" if others else ""
        if not blocks:
            hint = " (no PEM block at all; DER and PKCS #12 files have to be converted)"
        problems.append(f"there is no certificate{hint}")
    return chain


def _key_problems(key: ServerKey, chain: Sequence[Facts | None]) -> list[str]:
    own = key.public_key()
    matching = [position for position, one in enumerate(chain) if one is not None and _public_key(one) == own]
    if chain[0] is None or 0 in matching:
        return []
    if matching:
        return [f"the private key belongs to certificate {matching[0] + 1}, which has to come first"]
    return [f"the private key does not match {_label(0, chain[0])}"]


def _public_key(one: Facts) -> object:
    try:
        return one.certificate.public_key()
    except certificate_facts.PARSE_ERRORS:
        return None


def _label(position: int, one: Facts) -> str:
    name = short_name(one.certificate)
    return f"certificate {position + 1} ({name})" if name else f"certificate {position + 1}"


__all__ = [
    "MAX_BYTES",
    "Authority",
    "CertificateRefused",
    "ServerChain",
    "check_authorities",
    "check_server",
    "read_certificates",
]
