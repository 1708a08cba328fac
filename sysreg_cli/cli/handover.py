"""Hand a command that is not ours to the platform's own ``system``, found further along PATH.

On a StarlingX controller another ``system`` (the platform's) exists; ours stands before it on PATH, and must
not hide its commands. ``hand_over`` is called before click is imported: it costs the platform's users a bare
interpreter and this module, which needs the standard library's ``os`` alone. The process is *replaced*
(execve), so arguments, exit status, signals, terminal and job control are the other program's own.
"""

from __future__ import annotations

import os

from sysreg_cli.cli.commands import COMMANDS, GLOBAL_FLAGS, GLOBAL_OPTIONS_WITH_VALUE

TYPE_CHECKING = False  # typing's own costs more than this whole module
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Counts the hand-overs that led here. A platform command that calls `system` for a part of its work goes
# through us again, rightly; a wrapper that only calls `system` through PATH would go round for ever.
GUARD = "SYSREG_HANDED_OVER"
_MOST = 8
# Seconds that the platform's command has to list its words, while somebody waits behind Tab.
_PATIENCE = 0.8


def hand_over(arguments: Sequence[str], environ: Mapping[str, str], own_path: str) -> None:
    """Become the platform's ``system`` if ``arguments`` (without the program's name) is not for us.

    Returns when it is for us, or when there is no other ``system``; ``own_path`` is sys.argv[0].
    """
    depth = environ.get(GUARD, "0")
    if is_ours(arguments) or not depth.isdecimal() or int(depth) >= _MOST:
        return
    environ = {**environ, GUARD: str(int(depth) + 1)}
    for path in others(environ.get("PATH", os.defpath), own_path):
        try:
            os.execve(path, ["system", *arguments], environ)  # noqa: S606
        except OSError:
            continue  # not a program after all (bad interpreter line, other architecture): look further


def is_ours(arguments: Sequence[str]) -> bool:
    """Whether these words are for us: one of our commands, or nothing but options that we know."""
    words = iter(arguments)
    for word in words:
        if not word.startswith("-"):
            if word not in COMMANDS:
                return False
            topic = next((further for further in words if not further.startswith("-")), None)
            return word != "help" or topic is None or topic in COMMANDS
        if word in GLOBAL_OPTIONS_WITH_VALUE:
            next(words, None)
        elif word not in GLOBAL_FLAGS and not _has_value(word):
            return False
    return True


def _has_value(word: str) -> bool:
    """Whether the word is an option of ours with its value: --timeout=5, -fjson."""
    option, equals, _ = word.partition("=")
    return bool(equals and option in GLOBAL_OPTIONS_WITH_VALUE) or (
        word[1:2] != "-" and word[:2] in GLOBAL_OPTIONS_WITH_VALUE
    )


def others(search_path: str, own_path: str) -> list[str]:
    """Every other program called ``system`` along PATH, first one first; never a link or wrapper of ours.

    Empty and relative entries of PATH mean the current directory, where anybody may have put a ``system``:
    they are skipped. Ours is every file whose real path is ours, and every script of the same installation.
    """
    found: list[str] = []
    for directory in search_path.split(":"):
        path = f"{directory}/system"
        if not directory.startswith("/") or not os.path.isfile(path) or not os.access(path, os.X_OK):  # noqa: PTH113
            continue
        if os.path.realpath(path) != os.path.realpath(own_path) and not _is_our_script(path):
            found.append(path)
    return found


def _is_our_script(path: str) -> bool:
    """Whether the file is a start script of sysreg: console scripts and wrappers of ours name the module."""
    try:
        with open(path, "rb") as script:  # noqa: PTH123 - pathlib costs as much as this whole module
            head = script.read(4096)
    except OSError:
        return False
    return head.startswith(b"#!") and b"sysreg_cli.cli.start" in head


def platform_words(environ: Mapping[str, str], own_path: str) -> list[str]:
    """The command and option words of the platform's ``system``; none if it is not there or says nothing."""
    import subprocess

    if environ.get(GUARD):
        return []
    for path in others(environ.get("PATH", os.defpath), own_path):
        try:
            done = subprocess.run(
                [path, "bash-completion"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**environ, GUARD: "1"},
                timeout=_PATIENCE,
            )
        except (OSError, subprocess.SubprocessError):
            return []
        return [word for word in done.stdout.decode(errors="replace").split() if word.isprintable()]
    return []
