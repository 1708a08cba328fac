"""The description that the agent serves is true, and no request that fits it or doesn't makes a 500."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.routing import Route

from devstack.controller import Controller
from devstack.endpoints import HOST_NAME
from devstack.waiting import wait_until
from sysreg_cli.agent import registry_image
from sysreg_cli.agent.certificate import api as certificate_api
from sysreg_cli.agent.certificate.transaction import CertificateChange
from sysreg_cli.agent.context import AgentContext
from sysreg_cli.agent.identity import CallerAuthenticator
from sysreg_cli.agent.openapi import DESCRIPTION
from sysreg_cli.agent.restore import api as restore_api
from sysreg_cli.settings import load
from sysreg_cli.v1.paths import GARBAGE_COLLECT as STATUS_PATH
from tests.functional.garbage.conftest import status, writes_ended
from tests.functional.v1.conftest import Api

_SCHEMA = schemathesis.openapi.from_dict(DESCRIPTION)
_OPERATIONS = [found.ok() for found in _SCHEMA.get_all_operations() if isinstance(found, Ok)]


def test_the_agent_serves_its_description(api: Api) -> None:
    answer = api.call("GET", "/v1/openapi.json", None)
    assert answer.status_code == 200
    assert answer.json() == DESCRIPTION


def test_every_route_is_described(controller: Controller) -> None:
    loaded = load(controller.paths.settings)
    context = AgentContext(loaded, CallerAuthenticator(loaded.keystone))
    routes = [
        *registry_image.routes(context),
        *restore_api.routes(context),
        *certificate_api.routes(context, CertificateChange(loaded)),
    ]
    for route in routes:
        assert isinstance(route, Route)
        described = DESCRIPTION["paths"][route.path]
        assert {method.lower() for method in route.methods or () if method != "HEAD"} <= set(described)
    assert STATUS_PATH in DESCRIPTION["paths"]


@pytest.fixture(scope="session")
def network(controller: Controller) -> tuple[str, str, str]:
    api = Api(controller, "tls")
    return (
        f"https://{HOST_NAME}:{controller.ports['agent']}",
        api.token("admin"),
        str(controller.paths.ca_file),
    )


@pytest.fixture
def collecting(controller: Controller) -> Iterator[Callable[[], None]]:
    """To be called before a request that may start a collection; none runs any more in the end."""
    yield lambda: writes_ended(controller)
    wait_until(lambda: status(controller)["state"] == "idle", 30, what="no collection runs")


# Not schemathesis' own decorator: it gives every operation's test the same name.
@pytest.mark.parametrize("operation", _OPERATIONS, ids=lambda one: one.label)
@given(data=st.data())
@settings(
    max_examples=25,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
def test_no_request_makes_a_server_error(
    operation: APIOperation[Any, Any, Any, Any],
    data: st.DataObject,
    network: tuple[str, str, str],
    collecting: Callable[[], None],
) -> None:
    base, token, ca_file = network
    case = data.draw(operation.as_strategy())
    if case.method == "POST":
        collecting()
    case.headers["X-Auth-Token"] = token

    def passed() -> schemathesis.Response | None:
        # What is over the limit of calls is for a test of its own.
        answer = case.call(base_url=base, verify=ca_file, timeout=60)
        return None if answer.status_code == 429 else answer

    answer = wait_until(passed, 30, what="the agent takes further calls", pause=0.5)
    case.validate_response(answer, checks=CHECKS)


# Others are about which values a schema lets through; here the promise is what comes back.
CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
