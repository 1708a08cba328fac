"""What ``make run`` shows: the main job on the live controller, each command as a person would type it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from devstack import images
from devstack.controller import Controller
from devstack.errors import DevstackError


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
    for step in _steps(controller.address, f"oci:{hello}", f"oci:{tools}"):
        _take(controller, run.parent, step)
    print(
        "\nThe embedded controller runs. Next:\n"
        "  . .run/openrc && system registry-image-tags public/tools     as admin\n"
        "  . .run/openrc.testuser                                       as testuser\n"
        f"  {controller.root}/log                      logs\n"
        "  make stop",
        flush=True,
    )


def _steps(address: str, hello: str, tools: str) -> list[Step]:
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
