"""Whatever happens to the source or the agent: the old certificate is in use, or the new one.

``tests/soak/renewal.py`` kills the agent at each failpoint of a renewal, this file at two of them.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.functional.certificate.breakable import HOST
from tests.functional.renewal.renewed import RenewedController
from tests.functional.renewal.sources import CertManager
from tests.tls_clients import presented_chain


def test_a_half_written_source_leaves_the_old_one_until_it_is_whole(renewed: RenewedController) -> None:
    old, new = renewed.new(), renewed.new()
    renewed.renewer.renew(old)
    renewed.wait_for(old)
    renewed.renewer.renew_half(new)
    renewed.wait_for_problem("the private key does not match")
    assert renewed.breakable.violations(old) == []
    assert "the private key does not match" in renewed.shown()["source_problem"]
    renewed.renewer.renew(new)
    renewed.wait_for(new)
    shown = renewed.shown()
    assert shown["signature"] == f"docker_registry_{new.leaf.certificate.serial_number}"
    assert shown["source"] == renewed.renewer.settings["source"]
    assert shown["source_seen"].endswith("+00:00")
    assert shown["source_problem"] == ""


def test_a_source_that_goes_away_leaves_the_old_one(renewed: RenewedController) -> None:
    old = renewed.new()
    renewed.renewer.renew(old)
    renewed.wait_for(old)
    renewed.renewer.hide()
    renewed.wait_for_problem("there is no")
    assert renewed.breakable.violations(old) == []
    renewed.renewer.show()
    renewed.wait_for(old)


@pytest.mark.parametrize("renewed", ["certbot"], indirect=True)
def test_a_source_that_flaps_does_not_change_what_is_in_use(renewed: RenewedController) -> None:
    """Every 50 ms it holds another certificate. When it rests, that one counts."""
    old, states = renewed.new(), [renewed.new(), renewed.new()]
    renewed.renewer.renew(old)
    renewed.wait_for(old)
    resting = threading.Event()
    presented: list[list[bytes]] = []

    def flap() -> None:
        for turn in range(30):
            renewed.renewer.renew(states[turn % 2])
            resting.wait(0.05)

    thread = threading.Thread(target=flap)
    thread.start()
    while thread.is_alive():
        presented.append(presented_chain(renewed.breakable.ports[0], HOST))
    thread.join()
    renewed.wait_for(states[1])
    allowed = [old.der, *(state.der for state in states), []]
    assert [chain for chain in presented if chain not in allowed] == []


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("renewed", ["certbot"], indirect=True)
def test_an_agent_that_is_killed_during_a_renewal_leaves_the_old_or_the_new_one(
    renewed: RenewedController, tmp_path: Path
) -> None:
    failpoints = renewed.trace(tmp_path / "trace")
    assert len(failpoints) > 15
    points = {
        next(number for number, name in enumerate(failpoints, 1) if name.startswith("restart")),
        len(failpoints),
    }
    assert {renewed.fail_at(number, "kill") for number in sorted(points)} == {"old", "new"}


@pytest.mark.parametrize("renewed", ["cert-manager"], indirect=True)
def test_a_revoked_kubeconfig_leaves_the_old_one_until_there_is_another(
    renewed: RenewedController,
) -> None:
    assert isinstance(renewed.renewer, CertManager)
    api, old, new = renewed.renewer.api, renewed.new(), renewed.new()
    renewed.renewer.renew(old)
    renewed.wait_for(old)
    api.revoked = True
    renewed.renewer.renew(new)
    renewed.wait_for_problem("answers 401")
    assert renewed.breakable.violations(old) == []
    api.write_kubeconfig(renewed.renewer.kubeconfig, token="a-good-token")
    api.revoked = False
    renewed.wait_for(new)
