"""PEM bundle -> checked certificate chain: bytes in, value or CertificateRefused out. No I/O.

check.py       the whole check: check_server, check_authorities, read_certificates
pem.py         text -> PEM blocks (imports nothing heavy; the CLI may)
keys.py        a private key block -> key
facts.py       a certificate -> everything that the rules ask about, read once
rules.py       the rules for one certificate, and for a chain
weaknesses.py  what makes a certificate unfit in every mode
names.py       host names against SANs and name constraints
der.py         parts of a certificate exactly as they are encoded
describe.py    a certificate as certificate-show shows it
csr.py         a certificate signing request with a new key
selfsigned.py  a first certificate for a new controller
private_ca.py  the CA of a cluster, and its certificates

These checks are written by hand: no library reports every reason at once, and a certificate must pass Go's
parser, which is stricter than cryptography's.
"""
