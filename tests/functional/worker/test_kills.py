"""Whatever is killed during a change, each host trusts what the registry serves, and the list says so.

The short form of ``tests.soak.kills``, which kills at every step.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.functional.worker.kills import Kill, KillableSite

#: where most is at stake: each host trusts, and nothing is switched; the host ends its old trust; at both
#: times at which the agent publishes
_STEPS = {"agent": ("rename current",), "host": ("host drop",), "etcd": ("publish",)}


@pytest.mark.timeout(600)
def test_killed_at_the_turning_points(tmp_path: Path) -> None:
    with KillableSite.running(tmp_path) as site:
        steps = site.kills()
        wanted = [kill for kill in steps if kill.step in _STEPS[kill.who]]
        assert {(kill.who, kill.step) for kill in wanted} == {
            (who, step) for who, names in _STEPS.items() for step in names
        }
        violations: dict[Kill, list[str]] = {kill: site.change(kill)[0] for kill in wanted}
    assert {str(kill): found for kill, found in violations.items() if found} == {}
