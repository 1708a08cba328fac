"""Reading the registry's metrics."""

from __future__ import annotations

import pytest

from sysreg_cli.registry.metrics import RegistryMetrics

# as distribution 2.8 shows them
TEXT = """\
# HELP go_goroutines Number of goroutines that currently exist.
# TYPE go_goroutines gauge
go_goroutines 20
# TYPE registry_http_in_flight_requests gauge
registry_http_in_flight_requests{handler="base"} 0
registry_http_in_flight_requests{handler="blob_upload_chunk"} 2
# TYPE registry_http_requests_total counter
registry_http_requests_total{code="200",handler="base",method="get"} 5
"""


def test_requests_in_flight_are_counted_by_handler() -> None:
    metrics = RegistryMetrics.parse(TEXT)
    assert metrics.in_flight == {"base": 0.0, "blob_upload_chunk": 2.0}
    assert metrics.busy
    assert not RegistryMetrics.parse(TEXT.replace("} 2", "} 0")).busy


def test_readings_differ_when_a_request_has_ended_between_them_and_not_by_anything_else() -> None:
    metrics = RegistryMetrics.parse(TEXT)
    assert metrics == RegistryMetrics.parse(TEXT.replace("go_goroutines 20", "go_goroutines 21"))
    assert metrics != RegistryMetrics.parse(TEXT.replace("} 5", "} 6"))


def test_other_text_shows_no_requests() -> None:
    assert RegistryMetrics.parse("<html>").in_flight == {}
    with pytest.raises(ValueError, match="many"):
        RegistryMetrics.parse('registry_http_in_flight_requests{handler="base"} many')
