"""What the probe asks, and how it reports what a service presents."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from devstack.ports import free_ports
from sysreg_cli.addresses import HostPort
from sysreg_cli.errors import SettingsError, Unavailable
from sysreg_cli.host import probe
from sysreg_cli.settings import AgentSettings, RegistrySettings, Settings
from tests import certificates as make
from tests.tls_clients import served

NOW = datetime.now(UTC)


def test_each_listener_is_an_endpoint_at_an_address_that_a_client_reaches() -> None:
    settings = Settings(
        registry=RegistrySettings(host_names=("registry.local", "other")),
        agent=AgentSettings(listen=HostPort("::", 9005)),
    )
    addresses = [str(endpoint.address) for endpoint in probe.endpoints(settings, with_agent=True)]
    assert addresses == ["registry.local:9001", "registry.local:9002", "[::1]:9005"]
    assert len(probe.endpoints(settings, with_agent=False)) == 2
    assert len(probe.endpoints(Settings(), with_agent=True)) == 2


def test_a_registry_without_tls_is_refused() -> None:
    settings = Settings(registry=RegistrySettings(url="http://registry.local:5000"))
    with pytest.raises(SettingsError, match="not https"):
        probe.endpoints(settings, with_agent=False)


def test_a_response_has_the_chain_as_presented_even_if_it_is_expired(tmp_path: Path) -> None:
    root = make.authority()
    leaf = make.server(root, start=NOW - timedelta(days=2), end=NOW - timedelta(days=1))
    with served(tmp_path, make.bundle(leaf, root)) as port:
        response = probe.request(probe.Endpoint("registry", HostPort("localhost", port), "/v2/"))
    assert response.chain == [ssl.PEM_cert_to_DER_cert(issued.pem.decode()) for issued in (leaf, root)]
    assert response.status == 404


def test_a_service_that_is_down_is_named_with_its_address() -> None:
    (port,) = free_ports(1)
    with pytest.raises(
        Unavailable, match=rf"registry at localhost:{port} does not answer \(Connection refus"
    ):
        probe.request(probe.Endpoint("registry", HostPort("localhost", port), "/v2/"))
