"""The metrics of a running agent, as Prometheus reads them."""

from __future__ import annotations

import requests
from prometheus_client.parser import text_string_to_metric_families

from devstack.controller import Controller


def scrape(controller: Controller) -> dict[str, float]:
    response = requests.get(f"http://127.0.0.1:{controller.ports['metrics']}/metrics", timeout=30)
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(response.text)
    return {sample.name: sample.value for family in families for sample in family.samples}


def test_the_metrics_tell_the_days_the_space_and_the_refused_logins(controller: Controller) -> None:
    before = scrape(controller)
    assert 360 < before["sysreg_certificate_days_left"] < 366
    assert before["sysreg_free_bytes"] > 0
    wrong = requests.get(
        controller.token_url,
        params={"service": controller.address},
        auth=("nobody", "not a password"),
        verify=str(controller.paths.ca_file),
        timeout=30,
    )
    assert wrong.status_code == 401
    assert scrape(controller)["sysreg_refused_logins"] == before["sysreg_refused_logins"] + 1
    controller.system("registry-garbage-collect", "--grace", "0")
    assert scrape(controller)["sysreg_collection_last_freed_bytes"] >= 0


def test_the_port_of_the_metrics_has_no_api(controller: Controller) -> None:
    for path in ("/v1/certificate", "/health", "/"):
        url = f"http://127.0.0.1:{controller.ports['metrics']}{path}"
        assert requests.get(url, timeout=30).status_code == 404
