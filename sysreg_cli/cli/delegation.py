"""Run a command that sysreg does not have with the platform's own ``system``, found further along PATH.

A StarlingX controller has another ``system``, the platform's. sysreg's comes first on PATH, and must not hide
the platform's commands. ``delegate`` runs before click is imported, so it costs the platform's users only a
bare interpreter and this module, which imports only ``os``. execve *replaces* the process, so arguments, exit
status, signals, terminal and job control are those of the other program.
"""

from __future__ import annotations

import os

from sysreg_cli.cli.commands import COMMANDS
from sysreg_cli.cli.global_options import FLAGS, WITH_VALUE

TYPE_CHECKING = False  # importing typing costs more than this whole module
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The variable counts how often sysreg's ``system`` delegated on the way here. A platform command may call
# ``system`` for a part of its work. A wrapper that only calls ``system`` through PATH would loop for ever.
DEPTH = "SYSREG_HANDED_OVER"
_MAX_DEPTH = 8
# dpkg moves the platform's /usr/bin/system to the second name while the package sysreg-cli is installed
# (debian/sysreg-cli.preinst).
_NAMES = ("system", "system.distrib")
# seconds that the platform's ``system`` has to print its words, while somebody waits for Tab
_WORDS_TIMEOUT = 0.8


def delegate(arguments: Sequence[str], environ: Mapping[str, str], own_path: str) -> None:
    """Become the platform's ``system``, unless ``arguments`` (without the program's name) are for sysreg.

    Returns if they are, or if there is no other ``system``. ``own_path`` is sys.argv[0].
    """
    depth = environ.get(DEPTH, "0")
    if is_own(arguments) or not depth.isdecimal() or int(depth) >= _MAX_DEPTH:
        return
    environ = {**environ, DEPTH: str(int(depth) + 1)}
    for path in other_programs(environ.get("PATH", os.defpath), own_path):
        try:
            os.execve(path, ["system", *arguments], environ)  # noqa: S606
        except OSError:
            continue  # the kernel cannot run it (bad interpreter line, other architecture)


def is_own(arguments: Sequence[str]) -> bool:
    """Whether the arguments are a command of sysreg, or only options that sysreg knows."""
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith("-"):
            if argument not in COMMANDS:
                return False
            topic = next((word for word in rest if not word.startswith("-")), None)
            return argument != "help" or topic is None or topic in COMMANDS
        if argument in WITH_VALUE:
            next(rest, None)
        elif argument not in FLAGS and not _contains_value(argument):
            return False
    return True


def _contains_value(argument: str) -> bool:
    """Whether the argument is an option together with its value: --timeout=5, -fjson."""
    option, equals, _ = argument.partition("=")
    return bool(equals and option in WITH_VALUE) or (argument[1:2] != "-" and argument[:2] in WITH_VALUE)


def other_programs(search_path: str, own_path: str) -> list[str]:
    """Return the paths of every other ``system``, also a diverted one, along PATH, in its order.

    Leaves out links to this program and every start script of sysreg. Empty and relative entries of PATH mean
    the current directory, where anybody may have put a ``system``; they are skipped.
    """
    paths: list[str] = []
    for directory, name in [(directory, name) for directory in search_path.split(":") for name in _NAMES]:
        path = f"{directory}/{name}"
        if not directory.startswith("/") or not os.path.isfile(path) or not os.access(path, os.X_OK):  # noqa: PTH113
            continue
        if os.path.realpath(path) != os.path.realpath(own_path) and not _is_start_script(path):
            paths.append(path)
    return paths


def _is_start_script(path: str) -> bool:
    """Whether the file is a start script of sysreg: its console script and wrappers name the module."""
    try:
        with open(path, "rb") as script:  # noqa: PTH123 - pathlib costs as much as this whole module
            head = script.read(4096)
    except OSError:
        return False
    return head.startswith(b"#!") and b"sysreg_cli.cli.start" in head


def platform_words(environ: Mapping[str, str], own_path: str) -> list[str]:
    """Return the command and option words of the platform's ``system``; none if it is missing or fails."""
    import subprocess

    if environ.get(DEPTH):
        return []
    for path in other_programs(environ.get("PATH", os.defpath), own_path):
        try:
            done = subprocess.run(
                [path, "bash-completion"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**environ, DEPTH: "1"},
                timeout=_WORDS_TIMEOUT,
            )
        except (OSError, subprocess.SubprocessError):
            return []
        return [word for word in done.stdout.decode(errors="replace").split() if word.isprintable()]
    return []
