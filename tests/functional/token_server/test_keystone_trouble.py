"""Stale passwords, a Keystone that is down, changed passwords: with a Keystone that locks accounts."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from functools import partial

import pytest

from devstack.controller import Controller
from devstack.options import Options
from devstack.programs import KEYSTONE, REGISTRY, TOKEN_SERVER
from devstack.waiting import wait_until
from tests.functional.conftest import NewController
from tests.functional.token_server.requesting import (
    keystone_requests,
    request_token,
    temporary_user,
    wait_for_requests,
)

PULL = "repository:public/a:pull"
DAY = 24 * 60


class Minutes:
    """The clock of Keystone and the token server, in minutes after its start."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self.now = 0

    def pass_by(self, minutes: int) -> None:
        self.now += minutes
        self._controller.set_clock(f"+{self.now * 60}")


@pytest.fixture(scope="module")
def strict(new_controller: NewController) -> Iterator[Controller]:
    """A controller whose Keystone locks an account at the fifth failure, as StarlingX's does."""
    lockout = {"security_compliance": {"lockout_failure_attempts": "5", "lockout_duration": "1800"}}
    options = Options(keystone=lockout, programs=(KEYSTONE, TOKEN_SERVER, REGISTRY), fake_clock=True)
    with new_controller(options, own_keystone=True) as controller:
        yield controller


@pytest.fixture(scope="module")
def clock(strict: Controller) -> Minutes:
    return Minutes(strict)


def test_five_failures_do_lock_an_account(strict: Controller) -> None:
    # Otherwise the tests below would prove nothing.
    with temporary_user(strict) as (user, password):
        for number in range(5):
            assert request_token(strict, user.name, password=f"guess{number}").status == 401
        assert request_token(strict, user.name, password=password).status == 401


def test_a_hundred_logins_with_a_stale_password_reach_keystone_once_and_the_account_lives(
    strict: Controller,
) -> None:
    with temporary_user(strict) as (user, password):
        before = keystone_requests(strict)
        for number in range(100):
            if number == 50:
                strict.restart(TOKEN_SERVER)
            assert request_token(strict, user.name, PULL, password="stale").status == 401
        wait_for_requests(strict, before + 1)
        assert request_token(strict, user.name, PULL, password=password).access == [PULL]


def test_a_stale_password_is_asked_again_after_10_min_then_1_h_then_daily(
    strict: Controller, clock: Minutes
) -> None:
    with temporary_user(strict) as (user, password):
        stale = partial(request_token, strict, user.name, PULL, password="stale")
        before = keystone_requests(strict)
        assert stale().status == 401
        for asked, wait in enumerate((10, 60, DAY, DAY), 1):
            wait_for_requests(strict, before + asked)
            clock.pass_by(wait - 1)
            assert stale().status == 401
            assert keystone_requests(strict) == before + asked, (
                f"asked again before {wait} minutes had passed"
            )
            clock.pass_by(2)
            if asked == 4:
                break
            assert stale().status == 401
        # Four failures so far; the fifth would lock the account. A login sets Keystone's counter back.
        assert request_token(strict, user.name, PULL, password=password).access == [PULL]
        assert stale().status == 401
        wait_for_requests(strict, before + 6)


def test_a_reload_forgets_refusals(strict: Controller) -> None:
    with temporary_user(strict) as (user, _):
        before = keystone_requests(strict)
        assert request_token(strict, user.name, password="stale").status == 401
        strict.signal(TOKEN_SERVER, signal.SIGHUP)
        wait_until(lambda: "reloaded" in strict.log(TOKEN_SERVER), what="the token server reloads")
        assert request_token(strict, user.name, password="stale").status == 401
        wait_for_requests(strict, before + 2)


def test_the_answer_says_when_and_how_it_goes_on(strict: Controller) -> None:
    with temporary_user(strict) as (user, _):
        for _again in range(2):
            message = request_token(strict, user.name, password="stale").message
            assert "not tried again for 10 min" in message
            assert "systemctl reload sysreg-token-server" in message


def test_a_changed_password_is_refused_when_the_memory_of_it_ends(strict: Controller, clock: Minutes) -> None:
    with temporary_user(strict) as (user, password):
        assert request_token(strict, user.name, PULL, password=password).access == [PULL]
        strict.keystone_admin().users.update(user, password="another")
        assert request_token(strict, user.name, PULL, password="another").access == [PULL]
        clock.pass_by(5)
        assert request_token(strict, user.name, PULL, password=password).status == 401


def test_keystone_down_known_users_pull_and_others_are_told_to_come_back(strict: Controller) -> None:
    # Keystone's administrator is known to nobody here, as the user below.
    with temporary_user(strict) as (user, password):
        assert request_token(strict, user.name, PULL, password=password).access == [PULL]
        strict.stop_program(KEYSTONE)
        try:
            assert request_token(strict, user.name, PULL, password=password).access == [PULL]
            response = request_token(strict, "testuser2", PULL)
            assert response.status == 503
            assert int(response.http.headers["Retry-After"]) > 0
            assert "Keystone at http://127.0.0.1" in response.message
        finally:
            strict.start_program(KEYSTONE)
        assert request_token(strict, "testuser2", PULL).access == [PULL]


def test_neither_logs_nor_state_hold_a_password(strict: Controller) -> None:
    with temporary_user(strict) as (user, password):
        assert request_token(strict, user.name, PULL, password=password).status == 200
        assert request_token(strict, user.name, PULL, password="stale-secret").status == 401
        written = strict.log(TOKEN_SERVER).encode()
        for file in (strict.paths.state / "token-server").iterdir():
            assert file.stat().st_mode & 0o077 == 0
            written += file.read_bytes()
        assert user.name.encode() in written
        assert password.encode() not in written
        assert b"stale-secret" not in written


def test_a_clock_that_is_wrong_is_named_with_the_difference(strict: Controller, clock: Minutes) -> None:
    """The registry has the real clock, the token server one that is ahead."""
    clock.pass_by(10)
    refused = strict.system("registry-image-tags", "admin/a")
    assert refused.returncode == 1
    seconds = re.search(
        r"refused the token: the registry's clock is (\d+) s behind that of the token server, .*timedatectl",
        refused.stderr,
    )
    assert seconds, refused.stderr
    assert abs(int(seconds[1]) - clock.now * 60) <= 30
