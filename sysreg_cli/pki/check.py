"""The whole check: PEM bytes and a passphrase to a chain fit to be installed, or every reason against it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509

from sysreg_cli.errors import CertificateRefused
from sysreg_cli.pki import keys, pem, rules
from sysreg_cli.pki.facts import CertificateProblem, Facts, load, public_key, quietly, read, short_name
from sysreg_cli.pki.keys import KeyProblem, ServerKey
from sysreg_cli.text import printable
from sysreg_cli.v1.certificates import MAX_BYTES, Mode

MAX_AUTHORITIES = 500
#: a file that is no certificate file may have tens of thousands of damaged lines
_MAX_REASONS = 1000


@dataclass(frozen=True, slots=True)
class ServerChain:
    """A private key with its server certificate, intermediates and maybe the root, checked together."""

    certificates: tuple[x509.Certificate, ...]  # the server's comes first
    warnings: tuple[str, ...]
    key_pem: bytes = field(repr=False)  # PKCS8, not encrypted: the text of server.key
    chain_pem: bytes = field(repr=False)  # the text of server.crt

    @property
    def anchor(self) -> x509.Certificate:
        """The last certificate as given. Clients are to trust it."""
        return self.certificates[-1]


@dataclass(frozen=True, slots=True)
class Authority:
    """A checked CA certificate that may be trusted."""

    certificate: x509.Certificate
    warnings: tuple[str, ...]
    pem: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Authorities:
    """The checked CA certificates of a file, and why the others of the file are refused."""

    accepted: tuple[Authority, ...]
    refused: tuple[str, ...]


@quietly()
def check_server(
    data: bytes,
    *,
    passphrase: bytes | None,
    host_names: Sequence[str],
    now: datetime,
    min_days_warning: int = 30,
    pending_keys: Iterable[ServerKey] | None = None,
) -> ServerChain:
    """Check a server certificate (docs/contracts.rst, "Certificate", mode ``docker_registry``).

    ``now`` is aware. The subject alternative names must cover all ``host_names``. A file without a key takes
    that of ``pending_keys`` which fits its first certificate; it is read only then.

    Raises CertificateRefused with every reason found.
    """
    blocks, problems = _split(data, MAX_BYTES[Mode.DOCKER_REGISTRY])
    chain, chain_problems = _read_chain(blocks)
    key, key_problems = _read_key(blocks, passphrase)
    if pending_keys is not None and not any(block.is_private_key for block in blocks):
        key, key_problems = _pending(chain, pending_keys)
    problems += [*key_problems, *chain_problems, *_mismatch(key, chain)]
    warnings: list[str] = []
    for position, facts in enumerate(chain):
        if facts is not None:
            problems += _named(position, facts, _against(facts, chain, position, host_names, now))
            warnings += _named(position, facts, rules.expiry_warnings(facts, now, min_days_warning))
    readable = [facts for facts in chain if facts is not None]
    if problems or key is None or len(readable) != len(chain):
        raise _refused(problems)
    if rules.claims_own_signature(readable[0]):
        warnings += _named(0, readable[0], ["is self-signed"])
    elif len(readable) == 1:
        advice = "nodes that trust only that CA need its intermediate certificates in the file"
        warnings += _named(0, readable[0], [f"is issued by a CA that is not in the file: {advice}"])
    return ServerChain(
        certificates=tuple(facts.certificate for facts in readable),
        warnings=tuple(warnings),
        key_pem=keys.to_pem(key),
        chain_pem=b"".join(facts.pem for facts in readable),
    )


@quietly()
def check_authorities(data: bytes, *, now: datetime, min_days_warning: int = 30) -> Authorities:
    """Check CA certificates (docs/contracts.rst, "Certificate", mode ``ssl_ca``).

    One or more, in any order, without a key. A certificate that is refused does not affect the others.

    Raises CertificateRefused with every reason found, if none is accepted or the file itself is damaged.
    """
    blocks, problems = _split(data, MAX_BYTES[Mode.SSL_CA])
    if any(block.is_private_key for block in blocks):
        problems.append("there is a private key; CA certificates are installed without one")
    if (number := sum(block.is_certificate for block in blocks)) > MAX_AUTHORITIES:
        raise _refused(
            [*problems, f"there are {number} certificates; {MAX_AUTHORITIES} are accepted at once"]
        )
    chain, refused = _read_chain(blocks)
    accepted: list[Authority] = []
    for position, facts in enumerate(chain):
        if facts is None:
            continue
        reasons = [
            *rules.validity(facts, now),
            *facts.weaknesses,
            *rules.signature(facts, is_anchor=True),
            *rules.authority(facts),
            *rules.own_signature(facts),
        ]
        refused += _named(position, facts, reasons)
        warnings = _named(position, facts, rules.expiry_warnings(facts, now, min_days_warning))
        if not reasons:
            accepted.append(Authority(facts.certificate, tuple(warnings), facts.pem))
    if problems or not accepted:
        raise _refused([*problems, *refused])
    return Authorities(tuple(accepted), _shown(refused))


@quietly()
def read_certificates(data: bytes) -> tuple[x509.Certificate, ...]:
    """Read the certificates of a file that was checked when it was written. Other blocks are skipped.

    Raises CertificateRefused if there is none, or one is damaged.
    """
    blocks, problems = _split(data, MAX_BYTES[Mode.SSL_CA])
    chain, chain_problems = _read_chain(blocks)
    if problems or chain_problems:
        raise _refused([*problems, *chain_problems])
    return tuple(facts.certificate for facts in chain if facts is not None)


def _refused(problems: Iterable[str]) -> CertificateRefused:
    return CertificateRefused("certificate refused", _shown(problems))


def _shown(problems: Iterable[str]) -> tuple[str, ...]:
    # The reasons quote names from the certificate. None of them may forge a line of a terminal or a log.
    shown = tuple(dict.fromkeys(printable(problem, 1000) for problem in problems))
    left_out = len(shown) - _MAX_REASONS
    return (*shown[:_MAX_REASONS], f"and {left_out} further reasons") if left_out > 0 else shown


def _split(data: bytes, max_bytes: int) -> tuple[Sequence[pem.PemBlock], list[str]]:
    """Return the PEM blocks, and the problems of their armour. Raises CertificateRefused."""
    if len(data) > max_bytes:
        raise _refused([f"it is larger than {max_bytes // 1024} KiB"])
    blocks, problems = pem.split(data)
    return blocks, list(problems)


def _read_key(blocks: Sequence[pem.PemBlock], passphrase: bytes | None) -> tuple[ServerKey | None, list[str]]:
    """Return the one private key, or the problem."""
    key_blocks = [block for block in blocks if block.is_private_key]
    if not key_blocks:
        return None, ["there is no private key"]
    if len(key_blocks) > 1:
        return None, [f"there are {len(key_blocks)} private keys; exactly one is expected"]
    try:
        return keys.load(key_blocks[0], passphrase), []
    except KeyProblem as problem:
        return None, [str(problem)]


def _pending(
    chain: Sequence[Facts | None], pending_keys: Iterable[ServerKey]
) -> tuple[ServerKey | None, list[str]]:
    """Return the key of ``pending_keys`` that belongs to the first certificate, or the problem."""
    own = public_key(chain[0].certificate) if chain and chain[0] is not None else None
    for key in pending_keys:
        if key.public_key() == own:
            return key, []
    return None, ["there is no private key, and no request of certificate-request is pending for it"]


#: certificates in other forms than RFC 7468's: to leave them out would install fewer than the file shows
_OTHER_FORMS = ("TRUSTED CERTIFICATE", "PKCS7", "CMS")


def _read_chain(blocks: Sequence[pem.PemBlock]) -> tuple[list[Facts | None], list[str]]:
    """Return all certificates in their order, None for one that cannot be read, and the problems.

    Identical copies count once: cert-manager writes the issuing CA twice.
    """
    chain: list[Facts | None] = []
    problems: list[str] = []
    for block in blocks:
        if not block.is_certificate:
            continue
        certificate: x509.Certificate | None = None
        try:
            certificate = load(block.text)
            facts = read(certificate)
            if not any(other is not None and other.fingerprint == facts.fingerprint for other in chain):
                chain.append(facts)
        except CertificateProblem as problem:
            chain.append(None)
            problems.append(f"{_label(len(chain), certificate)}: {problem} (line {block.line})")
    if not chain:
        others = sorted({block.label for block in blocks if not block.is_private_key})
        hint = f" (only {', '.join(others)})" if others else ""
        if not blocks:
            hint = " (no PEM block at all; DER and PKCS #12 files have to be converted)"
        problems.append(f"there is no certificate{hint}")
    else:
        problems += [
            f"line {block.line}: a block {block.label} is not read; convert its certificates to CERTIFICATE"
            for block in blocks
            if block.label in _OTHER_FORMS
        ]
    return chain, problems


def _mismatch(key: ServerKey | None, chain: Sequence[Facts | None]) -> list[str]:
    """Return why ``key`` is not that of the first certificate."""
    if key is None or not chain or chain[0] is None:
        return []
    own = key.public_key()
    owners = [
        number for number, facts in enumerate(chain, 1) if facts and public_key(facts.certificate) == own
    ]
    if 1 in owners:
        return []
    if owners:
        return [f"the private key belongs to certificate {owners[0]}, which has to come first"]
    return [f"the private key does not match {_label(1, chain[0].certificate)}"]


def _against(
    facts: Facts, chain: Sequence[Facts | None], position: int, host_names: Sequence[str], now: datetime
) -> Iterator[str]:
    """Yield the reasons against the certificate at ``position`` of a server's ``chain``."""
    yield from rules.validity(facts, now)
    yield from facts.weaknesses
    yield from rules.signature(facts, is_anchor=position > 0 and position + 1 == len(chain))
    yield from rules.purpose(facts)
    if position == 0:
        yield from rules.server(facts, host_names)
    else:
        yield from rules.authority(facts)
        if chain[0] is not None:
            yield from rules.constrained(chain[0], facts)
    if position + 1 == len(chain):
        yield from rules.own_signature(facts)
    elif (issuer := chain[position + 1]) is not None:
        below = sum(1 for ca in chain[1 : position + 1] if ca is not None and not ca.self_issued)
        yield from rules.link(facts, issuer, below)


def _named(position: int, facts: Facts, texts: Iterable[str]) -> list[str]:
    """Put the name of a certificate before each of ``texts``."""
    label = _label(position + 1, facts.certificate)
    return [f"{label}: {text}" for text in texts]


def _label(number: int, certificate: x509.Certificate | None) -> str:
    name = short_name(certificate) if certificate is not None else ""
    return f"certificate {number} ({name})" if name else f"certificate {number}"
