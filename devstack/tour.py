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
from sysreg_cli.pki.selfsigned import self_signed


@dataclass(frozen=True)
class Step:
    """A shell command of one user, what it shows, and whether it has to fail."""

    user: str
    says: str
    command: str
    refused: bool = False


def show(controller: Controller, run: Path) -> None:
    """Push the two images and walk through the main job.

    Raises DevstackError where a step does not end as it has to.
    """
    hello = images.single(2000, seed="hello").write_layout(run / "images" / "hello", "1.0")
    tools = images.multi_arch(2000, seed="tools").write_layout(run / "images" / "tools", "1.0")
    hello, tools = (os.path.relpath(name.removeprefix("oci:"), run.parent) for name in (hello, tools))
    new = _new_certificate(run / "server.pem").relative_to(run.parent)
    for step in _steps(controller.address, f"oci:{hello}", f"oci:{tools}", str(new)):
        _take(controller, run.parent, step)
    print(
        "\nThe embedded controller runs. Next:\n"
        "  . .run/openrc && system registry-image-tags public/tools     as admin\n"
        "  . .run/openrc.testuser                                       as testuser\n"
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


def _take(controller: Controller, directory: Path, step: Step) -> None:
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    bold, plain = ("\033[1m", "\033[0m") if colour else ("", "")
    print(f"\n# {step.says}\n{bold}{step.user}$ {step.command}{plain}", flush=True)
    done = subprocess.run(
        ["bash", "-c", step.command],
        env=controller.environ(step.user),
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    print(done.stdout.rstrip(), flush=True)
    if (done.returncode != 0) != step.refused:
        expected = "be refused" if step.refused else "end with 0"
        raise DevstackError(f"`{step.command}` should {expected}, but ended with {done.returncode}")
