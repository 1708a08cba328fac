"""The short form of `make soak`: attacks from one address, and what others notice of them."""

import pytest

from devstack.controller import Controller
from tests.soak import attacks


@pytest.mark.soak
@pytest.mark.parametrize("attack", ["wrong pairs", "silent connections", "refusals"])
def test_an_attack_from_one_address_stops_no_login_from_another_and_no_call_of_root(
    controller: Controller, attack: str
) -> None:
    report = attacks.run(controller, attack, 2, attacks.Users(controller, 3))
    assert report.wrong == []
    assert report.logins
    assert report.calls
    # three of the attacker's connections write more than this in a second
    assert report.log_lines < 100
