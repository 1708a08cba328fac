"""Tab where the platform has a `system` and a completion of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.functional.completion.shell import COMPLETION, SYSTEM, InteractiveBash

# The commands and the lazy completion are written as OpenStack clients write them.
PLATFORM = """#!/bin/bash
case $1 in
bash-completion) echo "host-list host-lock --long --help" ;;
*) echo "platform $*" ;;
esac
"""
PLATFORM_COMPLETION = """
_system_words=
_system() {
    local cur=${COMP_WORDS[COMP_CWORD]}
    [ -n "$_system_words" ] || _system_words=$(system bash-completion)
    if [ "$COMP_CWORD" -gt 1 ]; then
        COMPREPLY=($(compgen -W "--long --theirs" -- "$cur"))
    else
        COMPREPLY=($(compgen -W "$_system_words" -- "$cur"))
    fi
}
complete -F _system system
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "platform").mkdir()
    (tmp_path / "platform/system").write_text(PLATFORM)
    (tmp_path / "platform/system").chmod(0o755)
    (tmp_path / "completion.d").mkdir()
    for ours in COMPLETION.parent.iterdir():
        shutil.copy(ours, tmp_path / "completion.d")
    (tmp_path / "completion.d/system.bash_completion").write_text(PLATFORM_COMPLETION)
    return tmp_path


def environ(home: Path) -> dict[str, str]:
    return {"HOME": str(home), "PATH": f"{SYSTEM.parent}:{home}/platform:/usr/bin:/bin"}


def test_without_their_completion_the_platforms_commands_are_offered(home: Path) -> None:
    with InteractiveBash(environ(home), cwd=home) as bash:
        assert bash.completes("system host-li") == "system host-list |"
        assert bash.sees("system host-") == ["host-list", "host-lock"]
        assert bash.completes("system registry-image-l") == "system registry-image-list |"
        assert bash.completes("system host-list --lo") == "system host-list --long |"
        assert bash.completes("system host-list plat") == "system host-list platform/|"


def test_their_completion_answers_for_their_commands_and_ours_for_ours(home: Path) -> None:
    # In the order in which bash-completion reads its directory.
    files = tuple(sorted((home / "completion.d").iterdir()))
    assert [file.name for file in files] == ["system", "system.bash_completion", "system.sysreg"]
    with InteractiveBash(environ(home), load=files, cwd=home) as bash:
        assert bash.completes("system host-li") == "system host-list |"
        assert bash.completes("system host-list --th") == "system host-list --theirs |"
        assert bash.completes("system registry-image-list --filt").endswith(" --filter-out-untagged |")
        assert bash.completes("system registry-image-l") == "system registry-image-list |"


def test_without_a_completion_of_theirs_ours_is_loaded_once(home: Path) -> None:
    files = [home / "completion.d/system", home / "completion.d/system.sysreg"]
    with InteractiveBash(environ(home), load=(files[0],), cwd=home) as bash:
        # Loaded again, it would stand behind what has been put in its place meanwhile.
        bash.run("_sysreg_commands+=(kept)")
        bash.run(f"source {files[1]}")
        assert bash.completes("system kep") == "system kept |"


def test_their_completion_alone_knows_our_commands_too(home: Path) -> None:
    with InteractiveBash(
        environ(home), load=(home / "completion.d/system.bash_completion",), cwd=home
    ) as bash:
        assert bash.completes("system registry-image-l") == "system registry-image-list |"
        assert bash.completes("system host-li") == "system host-list |"
