"""What ``make run`` shows: the main job on the live controller, each command as a person would type it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from devstack import images
from devstack.controller import Controller
from devstack.endpoints import HOST_NAME
from devstack.errors import DevstackError
from devstack.waiting import wait_until
from sysreg_cli.pki.selfsigned import self_signed


@dataclass(frozen=True)
class Step:
    """A shell command of one user, or of root with admin's credentials. ``says`` is a title.

    ``refused``: it has to fail. ``until``: repeat it until its output has this line of words.
    """

    user: str
    says: str
    command: str
    refused: bool = False
    until: str = ""


def show(controller: Controller, run: Path) -> None:
    """Push the two images and walk through the main job.

    Raises DevstackError where a step does not end as it has to.
    """
    hello = images.single(2000, seed="hello").write_layout(run / "images" / "hello", "1.0")
    tools = images.multi_arch(2000, seed="tools").write_layout(run / "images" / "tools", "1.0")
    hello, tools = (os.path.relpath(name.removeprefix("oci:"), run.parent) for name in (hello, tools))
    new = _new_certificate(run / "server.pem").relative_to(run.parent)
    steps = _steps(controller.address, f"oci:{hello}", f"oci:{tools}", str(new))
    if controller.workers:
        another = _new_certificate(run / "another.pem").relative_to(run.parent)
        steps += _steps_of_hosts(controller.address, list(controller.workers), str(another))
    for step in steps:
        _take(controller, run.parent, step)
    on_workers = "  .run/worker-1 COMMAND                                        on a worker, as root\n"
    print(
        "\nThe embedded controller runs. Next:\n"
        "  . .run/openrc && system registry-image-tags public/tools     as admin\n"
        "  . .run/openrc.testuser                                       as testuser\n"
        f"{on_workers if controller.workers else ''}"
        f"  {controller.paths.log}                      logs\n"
        "  make stop",
        flush=True,
    )


def _new_certificate(path: Path) -> Path:
    """A new key and certificate for the registry in one file, as an operator gets them."""
    key, certificate = self_signed([HOST_NAME], now=datetime.now(UTC), addresses=["127.0.0.1"])
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(key + certificate)
    return path


def _steps(address: str, hello: str, tools: str, certificate: str) -> list[Step]:
    registry = f"docker://{address}"
    login = "docker login" if shutil.which("docker") else "skopeo login"
    login = f'echo "$OS_PASSWORD" | {login} --username "$OS_USERNAME" --password-stdin {address}'
    return [
        Step("testuser", "A user of Keystone logs in", login),
        Step(
            "testuser",
            "and pushes below the own name",
            f"skopeo copy --quiet {hello} {registry}/testuser/hello:1.0",
        ),
        Step(
            "testuser",
            "but not elsewhere.",
            f"skopeo copy --quiet {hello} {registry}/testuser2/hello:1.0",
            refused=True,
        ),
        Step("admin", "An administrator may push anywhere", login),
        Step(
            "admin",
            "such as an image of two platforms",
            f"skopeo copy --quiet --all {tools} {registry}/public/tools:1.0",
        ),
        Step("testuser", "which every user may pull.", f"skopeo inspect --raw {registry}/public/tools:1.0"),
        Step(
            "testuser",
            "A second tag on the same image",
            f"skopeo copy --quiet {hello} {registry}/testuser/hello:old",
        ),
        Step("admin", "is one line more,", "system registry-image-tags testuser/hello"),
        Step("admin", "and is deleted alone:", "system registry-image-delete testuser/hello:old"),
        Step("admin", "the other one stays.", "system registry-image-tags testuser/hello"),
        Step(
            "admin",
            "A new certificate goes live as a whole, or not at all,",
            f"system certificate-install --mode docker_registry {certificate}",
        ),
        Step(
            "admin",
            "is what the registry presents from now on,",
            f"openssl s_client -connect {address} </dev/null 2>/dev/null | openssl x509 -noout -serial",
        ),
        Step("testuser", "and clients trust it.", login),
        Step("admin", "Every image of the registry:", "system registry-image-list"),
    ]


def _steps_of_hosts(address: str, workers: list[str], certificate: str) -> list[Step]:
    *_, last = workers
    pull = f"skopeo copy --quiet docker://{address}/testuser/hello:1.0 oci:.run/images/pulled:1.0"
    return [
        Step("admin", "The workers have got the new certificate, too:", "system registry-host-list"),
        Step("testuser", "each pulls by its own trust.", f".run/{workers[0]} {pull}"),
        Step("root", "A worker is switched off.", f".run/supervisorctl stop {last}"),
        Step(
            "admin",
            "Certificates go on changing,",
            f"system certificate-install --mode docker_registry {certificate}",
        ),
        Step("admin", "the list says who is down since when,", "system registry-host-list"),
        Step("root", "and when that worker is back,", f".run/supervisorctl start {last}"),
        Step("admin", "it gets the certificate.", "system registry-host-list", until=f"{last} worker live"),
        Step("testuser", "It pulls again.", f".run/{last} {pull}"),
    ]


def _take(controller: Controller, directory: Path, step: Step) -> None:
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    bold, plain = ("\033[1m", "\033[0m") if colour else ("", "")
    print(f"\n# {step.says}\n{bold}{step.user}$ {step.command}{plain}", flush=True)
    what = f"`{step.command}` shows {step.until}"
    done = wait_until(lambda: _run(controller, directory, step), what=what)
    assert done
    print(done.stdout.rstrip(), flush=True)
    if (done.returncode != 0) != step.refused:
        expected = "be refused" if step.refused else "end with 0"
        raise DevstackError(f"`{step.command}` should {expected}, but ended with {done.returncode}")


def _run(controller: Controller, directory: Path, step: Step) -> subprocess.CompletedProcess[str] | None:
    """Take a step. Return None if it has to be repeated."""
    done = subprocess.run(
        ["bash", "-c", step.command],
        env=controller.environ("admin" if step.user == "root" else step.user),
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    words = " ".join(done.stdout.replace("|", " ").split())
    return done if step.until in words else None
