"""Who may do what: on the socket, with the command as root and as another unix user, and over TLS.

Each install is of a file that is no certificate, so nothing changes. A caller who may install learns that the
file is refused. Any other caller learns what is missing.
"""

from __future__ import annotations

import grp
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from devstack.controller import Controller
from devstack.options import Options
from devstack.programs import AGENT, KEYSTONE
from devstack.waiting import wait_until
from tests.functional.conftest import NewController

NOBODY = 65534
INSTALL = "/v1/certificate/certificate_install"


def token(
    controller: Controller, user: str, project: str, domain: str = "Default", password: str = ""
) -> str:
    """Get a token from Keystone's API, without the code under test."""
    user_with_domain = {
        "name": user,
        "password": password or controller.passwords[user],
        "domain": {"name": domain},
    }
    response = requests.post(
        f"{controller.auth_url}/auth/tokens",
        json={
            "auth": {
                "identity": {"methods": ["password"], "password": {"user": user_with_domain}},
                "scope": {"project": {"name": project, "domain": {"name": domain}}},
            }
        },
        timeout=60,
    )
    assert response.status_code == 201, response.text
    return response.headers["X-Subject-Token"]


def as_user(user: int, *groups: int) -> list[str]:
    """Return the command line prefix that runs a command as a user.

    The capability lets the user reach a checkout below a directory of mode 0700. It opens no socket: that
    takes the permission to write.
    """
    member = f"--groups={','.join(map(str, groups))}" if groups else "--clear-groups"
    search = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return ["setpriv", f"--reuid={user}", f"--regid={user}", member, *search, "--"]


def call(
    controller: Controller, path: str, sent: str | None, *arguments: str, user: int = 0
) -> tuple[int, dict[str, Any]]:
    """One call with curl on the socket; the token goes through a file descriptor, not the command line."""
    prefix = as_user(user, _agents_group()) if user else []
    header = [] if sent is None else ["--header", "@-"]
    done = subprocess.run(
        [
            *(*prefix, "curl", "-s", "--noproxy", "*", "--unix-socket", str(controller.paths.agent_socket)),
            *("-w", "\n%{http_code}", *header, *arguments, f"http://agent{path}"),
        ],
        input=f"X-Auth-Token: {sent}" if sent is not None else "",
        capture_output=True,
        text=True,
        timeout=60,
    )
    body, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(body) if body else {}


def try_install(controller: Controller, sent: str | None, user: int = 0) -> tuple[int, str]:
    """Install a file that is no certificate. Returns the status and the reason."""
    form = ("-F", "mode=docker_registry", "-F", "file=nonsense")
    status, response = call(controller, INSTALL, sent, *form, user=user)
    if status == 200:
        return status, response["error"]
    return status, json.loads(response["error_message"])["faultstring"]


def _agents_group() -> int:
    return grp.getgrnam("sysreg").gr_gid


@pytest.fixture(scope="module")
def strangers(controller: Controller) -> dict[str, str]:
    """The tokens of the matrix, by who holds them."""
    keystone = controller.keystone_admin()
    other = next(domain for domain in keystone.domains.list() if domain.name == "Other")
    admin_of_other = next(user for user in keystone.users.list(domain=other) if user.name == "admin")
    role = next(role for role in keystone.roles.list() if role.name == "admin")
    project = next(
        iter(keystone.projects.list(domain=other, name="admin")), None
    ) or keystone.projects.create("admin", domain=other)
    keystone.roles.grant(role, user=admin_of_other, project=project)
    revoked = token(controller, "admin", "admin")
    keystone.tokens.revoke_token(revoked)
    return {
        "bad": "gAAAAABnonsense",
        "revoked": revoked,
        "admin of another project": token(controller, "sysinv", "services"),
        "admin of another domain": token(
            controller, "admin", "admin", "Other", controller.passwords["admin@Other"]
        ),
        "testuser": token(controller, "testuser", "tenant1"),
        "reader": token(controller, "reader", "admin"),
        "operator": token(controller, "operator", "admin"),
        "admin": token(controller, "admin", "admin"),
    }


MATRIX = {
    "bad": (401, "wrong, revoked or expired"),
    "revoked": (401, "wrong, revoked or expired"),
    "admin of another project": (403, "sysinv may not do this: it needs the role admin"),
    "admin of another domain": (403, "user 'admin' is not of the domain 'Default', but of 'Other'"),
    "testuser": (403, "testuser may not do this"),
    "reader": (403, "reader may not do this"),
    "operator": (403, "operator may not do this"),
    "admin": (200, "certificate refused"),
}


@pytest.mark.parametrize("uid", [0, NOBODY], ids=["as root", "as another unix user"])
@pytest.mark.parametrize("who", MATRIX)
def test_the_token_decides_whoever_sends_it(
    controller: Controller, strangers: dict[str, str], who: str, uid: int
) -> None:
    expected, reason = MATRIX[who]
    status, message = try_install(controller, strangers[who], uid)
    assert status == expected
    assert reason in message


def test_without_a_token_root_may_and_the_group_may_not(controller: Controller) -> None:
    assert try_install(controller, None, 0)[0] == 200
    status, message = try_install(controller, None, NOBODY)
    assert status == 401
    assert "X-Auth-Token" in message


@pytest.mark.parametrize("who", ["reader", "operator", "admin"])
def test_reading_needs_the_role_reader(controller: Controller, strangers: dict[str, str], who: str) -> None:
    status, response = call(controller, "/v1/certificate", strangers[who])
    assert status == 200
    assert response["certificates"][0]["name"] == "docker_registry"
    assert call(controller, "/v1/certificate", strangers["testuser"])[0] == 403


def test_over_tls_there_is_no_root(controller: Controller, strangers: dict[str, str]) -> None:
    url = f"https://127.0.0.1:{controller.ports['agent']}/v1/certificate"
    ca = str(controller.paths.ca_file)
    assert requests.get(url, verify=ca, timeout=30).status_code == 401
    assert (
        requests.get(url, verify=ca, timeout=30, headers={"X-Auth-Token": strangers["reader"]}).status_code
        == 200
    )


def test_a_unix_user_outside_the_group_cannot_connect(controller: Controller) -> None:
    done = subprocess.run(
        [
            *as_user(NOBODY),
            str(Path(controller.environ()["PATH"].split(":")[0]) / "system"),
            "certificate-list",
        ],
        env=controller.environ("admin"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "may not connect to the agent's socket" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("user", "code", "message"),
    [
        ("admin", 1, "certificate refused"),
        ("testuser", 1, "testuser may not do this"),
        ("operator", 1, "operator may not do this"),
        ("reader", 1, "reader may not do this"),
        ("sysinv", 1, "sysinv may not do this"),
    ],
)
def test_the_command_sends_the_token_of_the_sourced_openrc(
    controller: Controller, tmp_path: Path, user: str, code: int, message: str
) -> None:
    file = tmp_path / "server.pem"
    file.write_text("nonsense")
    tmp_path.chmod(0o755)
    for parent in [parent for parent in tmp_path.parents if "pytest-" in str(parent)]:
        parent.chmod(0o755)
    system = [str(Path(controller.environ()["PATH"].split(":")[0]) / "system")]
    install = ["certificate-install", "-m", "docker_registry", str(file)]
    done = subprocess.run(
        [*as_user(NOBODY, _agents_group()), *system, *install],
        env=controller.environ(user),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr.count("\n")) == (code, 1)
    assert message in done.stderr
    assert file.exists()


def test_root_sends_a_token_only_with_options_for_it(controller: Controller) -> None:
    # the credentials of testuser in the environment do not matter
    assert controller.system("certificate-list", user="testuser").returncode == 0
    done = controller.system("--os-username", "testuser", "certificate-list", user="testuser")
    assert done.returncode == 1
    assert "testuser may not do this" in done.stderr
    wrong = controller.system("certificate-list", "--os-password", "wrong", user="testuser")
    assert wrong.returncode == 1
    assert "refused the credentials of testuser" in wrong.stderr


@pytest.fixture(scope="module")
def short_lived(new_controller: NewController) -> Iterator[Controller]:
    """A controller whose Keystone gives tokens for four seconds."""
    options = Options(programs=(KEYSTONE, AGENT), keystone={"token": {"expiration": "4"}})
    with new_controller(options, own_keystone=True) as controller:
        yield controller


def test_an_expired_token_is_refused(short_lived: Controller) -> None:
    held = token(short_lived, "admin", "admin")
    assert call(short_lived, "/v1/certificate", held)[0] == 200
    wait_until(lambda: call(short_lived, "/v1/certificate", held)[0] == 401, 20, what="the token expires")
    assert "expired" in try_install(short_lived, held)[1]


def test_with_keystone_down_root_still_may_and_tokens_are_not_called_wrong(short_lived: Controller) -> None:
    held = token(short_lived, "admin", "admin")
    short_lived.stop_program(KEYSTONE)
    try:
        status, message = try_install(short_lived, held)
        assert status == 503
        assert "Keystone at" in message
        assert try_install(short_lived, None, 0)[0] == 200
        assert short_lived.system("certificate-list").returncode == 0
    finally:
        short_lived.start_program(KEYSTONE)


def test_the_command_reaches_the_agent_over_tls(controller: Controller) -> None:
    where = f"https://127.0.0.1:{controller.ports['agent']}"
    done = controller.system("certificate-list", env={"SYSREG_AGENT": where})
    assert (done.returncode, done.stderr) == (0, "")
    assert "docker_registry" in done.stdout
    wrong = controller.system(
        "certificate-list",
        env={"SYSREG_AGENT": where, "SYSREG_REGISTRY_CA": "/etc/ssl/certs/ca-certificates.crt"},
    )
    assert wrong.returncode == 1
    assert "its certificate is not trusted" in wrong.stderr
