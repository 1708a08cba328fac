"""PEM bundle -> checked certificate chain: bytes in, value or CertificateRefused out. No I/O.

pem.py         text -> blocks (imports nothing heavy; the CLI may)
keys.py        one private key block -> key
facts.py       one certificate -> everything the rules ask about, read once
weaknesses.py  what makes one certificate unfit in every mode
der.py         parts of a certificate exactly as they are encoded
names.py       host names against SANs and name constraints
rules.py       the rules for one certificate, and for a chain
check.py       the whole: check_server, check_authorities, read_certificates
describe.py    a certificate as the rows of `certificate-show`
selfsigned.py  a first certificate for a new controller
"""
