"""The embedded controller itself: what ``make run`` and every functional test rely on."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from devstack import images, ports, temporary, tour
from devstack.__main__ import Installation, main
from devstack.controller import Controller
from devstack.endpoints import USUAL_PORTS
from devstack.errors import DevstackError
from devstack.options import Options
from devstack.programs import AGENT, KEYSTONE, REGISTRY, TOKEN_SERVER
from devstack.waiting import wait_until
from tests.functional.conftest import NewController


@pytest.fixture(scope="module")
def spare(new_controller: NewController) -> Iterator[Controller]:
    """A controller that these tests may stop, kill and start; each leaves it running."""
    with new_controller(own_keystone=True) as controller:
        yield controller


def pids(controller: Controller) -> dict[str, int]:
    return {name: controller.pid(name) for name in controller.programs}


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_started_controller_runs_all_four_parts(spare: Controller) -> None:
    assert sorted(spare.programs) == sorted([KEYSTONE, REGISTRY, TOKEN_SERVER, AGENT])
    assert all(pids(spare).values())


def test_the_registry_runs_as_its_own_user_and_can_read_the_tls_key(spare: Controller) -> None:
    status = Path(f"/proc/{spare.pid(REGISTRY)}/status").read_text()
    uid = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1]
    assert int(uid) == spare.paths.storage.stat().st_uid != 0
    key = spare.paths.tls / "current" / "server.key"
    assert key.stat().st_mode & 0o777 == 0o440


def test_stop_leaves_no_process_no_port_no_socket_and_no_trust(spare: Controller) -> None:
    spare.stop()
    assert not spare.supervisor.processes()
    assert not [port for port in spare.ports.values() if accepts(port)]
    assert list((spare.paths.root / "run").iterdir()) == []
    assert not spare.trust_directory.exists()
    spare.start()


def test_images_and_users_are_still_there_after_stop_and_start(spare: Controller) -> None:
    spare.client("testuser").push("testuser/kept", "1", images.multi_arch())
    spare.stop()
    spare.start()
    assert spare.client("testuser").is_whole("testuser/kept", "1")


def test_a_second_start_changes_nothing_whoever_starts(spare: Controller) -> None:
    before = pids(spare)
    spare.start()
    again = Controller(spare.paths.root, dataclasses.replace(spare.options, outlive=True))
    again.start()
    assert pids(spare) == before
    assert again.passwords == spare.passwords


def test_a_second_start_starts_what_was_stopped(spare: Controller) -> None:
    spare.supervisor.call("stopProcess", TOKEN_SERVER)
    spare.start()
    assert spare.pid(TOKEN_SERVER)


def test_a_killed_program_comes_back_by_itself(spare: Controller) -> None:
    former = spare.pid(REGISTRY)
    os.kill(former, signal.SIGKILL)
    wait_until(lambda: spare.pid(REGISTRY) not in (0, former), what="the registry is started again")
    spare.wait_ready()


def test_a_killed_supervisor_is_recovered_by_the_next_start(spare: Controller) -> None:
    supervisor = spare.supervisor.pid()
    assert supervisor
    orphans = spare.supervisor.processes() - {supervisor}
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: spare.supervisor.pid() is None, what="the supervisor is gone")
    assert accepts(spare.ports["registry"]), "the orphans hold the ports: there is something to recover from"
    spare.start()
    assert not orphans & spare.supervisor.processes()
    assert spare.client(None).request("GET", "/v2/").status_code == 401


def test_a_taken_port_is_named_with_its_holder_and_nothing_starts(tmp_path: Path) -> None:
    (port,) = ports.free_ports(1)
    holder = subprocess.Popen(
        [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: accepts(port), what="the holder listens")
        controller = Controller(tmp_path / "root", Options(ports={"registry": port}))
        with pytest.raises(
            DevstackError, match=rf"port {port} \(registry\) is taken by pid {holder.pid} \(.*http"
        ):
            controller.start()
        assert not controller.supervisor.processes()
    finally:
        holder.kill()
        holder.wait()


def test_a_program_that_ends_at_once_is_reported_with_its_log(new_controller: NewController) -> None:
    broken: dict[str, Any] = {"storage": {"filesystem": None, "nonsense": {}}}
    with (
        pytest.raises(DevstackError, match=r"docker-registry.service ends at once[\s\S]*nonsense"),
        new_controller(Options(registry=broken, programs=[REGISTRY])),
    ):
        pass


def test_without_root_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["up"]) == 1
    assert "needs root" in capsys.readouterr().err


def test_a_controller_ends_with_the_process_that_started_it() -> None:
    script = (
        "from devstack.controller import Controller\n"
        "from devstack.options import Options\n"
        "from devstack.programs import REGISTRY\n"
        "with Controller.temporary(Options(programs=[REGISTRY])) as controller:\n"
        "    print(controller.paths.root, controller.ports['registry'], flush=True)\n"
        "    input()\n"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert starter.stdout
    root, port = starter.stdout.readline().split()
    starter.kill()
    starter.communicate()
    controller = Controller(Path(root))
    wait_until(lambda: not controller.supervisor.processes(), what="the controller ends")
    assert not accepts(int(port))


def test_what_a_killed_test_run_left_is_swept_by_the_next_controller(new_controller: NewController) -> None:
    with new_controller(Options(programs=[REGISTRY])) as controller:
        left = Path(tempfile.mkdtemp(prefix="sysreg-controller-", dir=temporary.place()))
        (left / "owned").touch()
        (left / "ports.json").write_text('{"registry": 1}')
        trust = controller.trust_directory.parent / "registry.local:1"
        trust.mkdir()
        with new_controller(Options(programs=[REGISTRY])):
            assert not left.exists()
            assert not trust.exists()
            assert controller.paths.root.exists()


def test_settings_of_the_registry_change_for_a_while(spare: Controller) -> None:
    client = spare.client()
    read_only = {"maintenance": {"readonly": {"enabled": True}}}
    with spare.registry_config(storage=read_only), pytest.raises(requests.HTTPError, match="405"):
        client.push("lifecycle/readonly", "1", images.single())
    client.push("lifecycle/readonly", "1", images.single())


def test_the_clock_of_keystone_and_our_daemons_can_be_moved(new_controller: NewController) -> None:
    with new_controller(Options(fake_clock=True, programs=[KEYSTONE]), own_keystone=True) as controller:
        controller.set_clock("+1d")
        token = controller.keystone_admin().session.auth.get_access(controller.keystone_admin().session)
        assert token.issued - datetime.now(UTC) > timedelta(hours=23)


#: each Python program tells what it imports, as long as it runs
_TELL_IMPORTS = {"PYTHONPROFILEIMPORTTIME": "1"}


@pytest.fixture(scope="module")
def namespaced(new_controller: NewController) -> Iterator[Controller]:
    tell = {AGENT: _TELL_IMPORTS, TOKEN_SERVER: _TELL_IMPORTS}
    with new_controller(Options(netns=True, environment=tell)) as controller:
        yield controller


def test_a_controller_that_is_alone_has_nothing_of_a_cluster(namespaced: Controller) -> None:
    """No program is added, and none imports it: not at its start, and not for a call about hosts."""
    assert namespaced.programs == [KEYSTONE, REGISTRY, TOKEN_SERVER, AGENT]
    told = []
    for words in (["registry-host-list"], ["certificate-show", "docker_registry"], ["registry-image-list"]):
        done = namespaced.system(*words, env=_TELL_IMPORTS)
        assert done.returncode == 0, done.stderr
        told.append(done.stderr)
    for text in (*told, namespaced.log(AGENT), namespaced.log(TOKEN_SERVER)):
        imported = [line.rpartition("|")[2].strip() for line in text.splitlines() if "|" in line]
        assert "sysreg_cli" in imported
        rooms = ("sysreg_cli.cluster", "sysreg_cli.worker", "sysreg_cli.agent.hosts")
        assert not [name for name in imported if name.startswith(rooms)]


def test_in_a_namespace_docker_verifies_the_certificate(namespaced: Controller) -> None:
    login = ["docker", "login", "--username", "testuser", "--password-stdin", namespaced.address]
    password = namespaced.passwords["testuser"]
    done = namespaced.run(login, user="testuser", input=password)
    assert done.returncode == 0, done.stderr
    (namespaced.trust_directory / "ca.crt").unlink()
    done = namespaced.run(login, user="testuser", input=password)
    assert done.returncode != 0
    assert "certificate" in done.stderr


def test_what_a_namespace_writes_below_etc_stays_in_it(new_controller: NewController) -> None:
    with new_controller(Options(netns=True, programs=[REGISTRY])) as controller:
        assert controller.run(["touch", "/etc/only-inside"]).returncode == 0
        assert controller.path(Path("/etc/only-inside")).exists()
        assert not Path("/etc/only-inside").exists()
        assert "198.51.100.10" in controller.run(["getent", "hosts", "registry.local"]).stdout


def test_the_tour_of_make_run_ends_with_both_images(
    spare: Controller, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tour.show(spare, tmp_path)
    tour.show(spare, tmp_path)
    last = capfd.readouterr().out.rpartition("registry-image-list")[2]
    assert "| public/tools " in last
    assert "| testuser/hello " in last


@pytest.fixture
def installation() -> Iterator[Installation]:
    """A ``make run`` that is not the developer's: directories and ports of its own."""
    with tempfile.TemporaryDirectory(prefix="devstack-", dir="/var/tmp") as directory:
        place = Path(directory)
        place.chmod(0o755)
        free = dict(zip(USUAL_PORTS, ports.free_ports(len(USUAL_PORTS)), strict=True))
        installation = Installation(place / "root", place, free)
        yield installation
        main(["remove"], installation)


def test_make_run_twice_keeps_what_runs_unless_the_source_changed(installation: Installation) -> None:
    assert main(["up"], installation) == 0
    controller = installation.controller
    first = pids(controller)
    assert main(["up"], installation) == 0
    # The tour installs certificates, for which the registry is restarted.
    kept = first.keys() - {"docker-registry.service"}
    assert {name: pids(controller)[name] for name in kept} == {name: first[name] for name in kept}
    (installation.root / "started-from").write_text("an older source")
    assert main(["up"], installation) == 0
    assert not set(pids(controller).values()) & set(first.values())

    assert main(["down"], installation) == 0
    assert not controller.supervisor.processes()
    assert not Path(f"/etc/docker/certs.d/registry.local:{installation.ports['registry']}").exists()
    assert main(["down"], installation) == 0, "stopping what is stopped is no failure"


def test_openrc_is_private_and_makes_system_work(spare: Controller, tmp_path: Path) -> None:
    Installation(run=tmp_path).write_openrc(spare, "openrc", "admin")
    assert (tmp_path / "openrc").stat().st_mode & 0o777 == 0o600
    done = subprocess.run(
        ["bash", "-c", ". ./openrc && . ./openrc && system registry-image-list -f value && echo $PATH"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    *_, path = done.stdout.splitlines()
    assert path.count(".venv") == 1
