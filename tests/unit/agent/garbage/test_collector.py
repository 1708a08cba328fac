"""What the registry's collector writes."""

from __future__ import annotations

from sysreg_cli.agent.garbage.collector import Output


def test_output_is_understood_however_it_is_cut() -> None:
    text = "a: marking manifest sha256:1 \na: marking blob sha256:2\nblob eligible for deletion: sha256:3\n"
    output = Output()
    for character in text:
        output.feed(character)
    assert (output.manifests, output.eligible) == (1, ["sha256:3"])
