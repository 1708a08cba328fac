"""Desired states of the registry's certificate for property tests. Few values, so that they often meet."""

from __future__ import annotations

from hypothesis import strategies as st

from sysreg_cli.cluster.records import Anchor, ChangeId, DesiredCertificate, Phase

CHANGES = st.builds(ChangeId, st.integers(0, 3), st.sampled_from("ab"))
ANCHORS = st.sets(st.sampled_from("abc"), min_size=1, max_size=2).map(
    lambda names: tuple(Anchor(name * 64, f"pem of {name}") for name in sorted(names))
)
DESIRED = st.builds(
    DesiredCertificate,
    change=CHANGES,
    phase=st.sampled_from(Phase),
    anchors=ANCHORS,
    retiring=ANCHORS | st.just(()),
    chain=st.just("chain"),
    sha256=st.sampled_from(["1" * 64, "2" * 64]),
    host_names=st.just(("registry.local",)),
    port=st.just(9001),
    who=st.text(),
    since=st.text(),
)
