"""What the token server remembers of accepted credentials: for how long, and how little of them."""

from pathlib import Path

from sysreg_cli.token_server.credential_cache import CredentialCache, Fingerprints
from sysreg_cli.token_server.credentials import from_pair
from sysreg_cli.token_server.keystone import Authentication
from sysreg_cli.tokens.grants import Identity
from tests.unit.token_server.clock import Clock


def known(lifetime: float) -> Authentication:
    return Authentication(Identity("a"), lifetime)


def test_an_entry_is_kept_for_the_ttl_or_for_the_lifetime_that_keystone_gave_it() -> None:
    clock = Clock()
    cache = CredentialCache(300, clock=clock)
    cache[b"long"], cache[b"short"], cache[b"expired"] = known(3600), known(10), known(-1)
    assert b"expired" not in cache
    clock.now += 9.9
    assert cache.get(b"short") == known(10)
    clock.now += 0.1
    assert cache.get(b"short") is None
    clock.now += 289.9
    assert cache.get(b"long") == known(3600)
    clock.now += 0.1
    assert cache.get(b"long") is None


def test_a_ttl_of_0_keeps_nothing() -> None:
    cache = CredentialCache(0)
    cache[b"pair"] = known(100)
    assert len(cache) == 0


def test_the_cache_is_bounded_and_the_least_used_goes() -> None:
    cache = CredentialCache(300, max_entries=5)
    for number in range(9):
        cache[b"%d" % number] = known(100)
        assert b"0" in cache
        assert cache[b"0"] == known(100)
    assert sorted(cache) == [b"0", b"5", b"6", b"7", b"8"]


def test_fingerprints_are_the_same_after_a_restart_and_differ_between_controllers(tmp_path: Path) -> None:
    pair = from_pair("a", "bc")
    before = Fingerprints(tmp_path).of_credentials(pair)
    assert Fingerprints(tmp_path).of_credentials(pair) == before
    assert Fingerprints(tmp_path).of_credentials(from_pair("ab", "c")) != before
    assert Fingerprints(tmp_path).of_name("User") == Fingerprints(tmp_path).of_name("uSER")
    (tmp_path / "key").write_bytes(b"short")
    assert Fingerprints(tmp_path).of_credentials(pair) != before
