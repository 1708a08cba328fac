"""Keyed hashes of credentials."""

from pathlib import Path

from sysreg_cli.token_server.credentials import from_pair
from sysreg_cli.token_server.fingerprints import Fingerprints


def test_fingerprints_are_the_same_after_a_restart_and_differ_between_controllers(tmp_path: Path) -> None:
    pair = from_pair("a", "bc")
    before = Fingerprints(tmp_path).of_credentials(pair)
    assert Fingerprints(tmp_path).of_credentials(pair) == before
    assert Fingerprints(tmp_path).of_credentials(from_pair("ab", "c")) != before
    assert Fingerprints(tmp_path).of_name("User") == Fingerprints(tmp_path).of_name("uSER")
    (tmp_path / "key").write_bytes(b"short")
    assert Fingerprints(tmp_path).of_credentials(pair) != before
