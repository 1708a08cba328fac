"""A self-signed certificate of sysreg's is renewed by the agent, on live services and without a command."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509

from devstack.waiting import wait_until
from sysreg_cli.host.generations import Generations
from sysreg_cli.pki.selfsigned import self_signed
from tests.certificates import Issued
from tests.functional.certificate.breakable import HOST, BreakableController, Bundle


def bundle_in_use(breakable: BreakableController) -> Bundle:
    pem = (breakable.controller.paths.tls / "current" / "server.crt").read_bytes()
    issued = Issued(x509.load_pem_x509_certificate(pem), None)
    return Bundle(pem, issued, (issued,))


def test_one_that_ends_soon_is_renewed_when_the_agent_starts(breakable: BreakableController) -> None:
    soon = datetime.now(UTC) - timedelta(days=360)
    generations = Generations(breakable.controller.paths.tls)
    name = generations.next_name()
    generations.create(name, *self_signed([HOST], now=soon))
    generations.use(name)
    generations.prune()
    breakable.restart_services(but="")
    old = bundle_in_use(breakable)
    breakable.start_agent()
    wait_until(lambda: bundle_in_use(breakable).pem != old.pem, 60, what="it is renewed")
    new = bundle_in_use(breakable)
    wait_until(lambda: breakable.violations(new) == [], 60, what="the new one is live everywhere")
    assert new.leaf.certificate.not_valid_after_utc > datetime.now(UTC) + timedelta(days=360)
    # it is not due again
    breakable.start_agent()
    assert bundle_in_use(breakable).pem == new.pem
    breakable.stop_agent()
