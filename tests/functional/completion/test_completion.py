"""Tab, as a person presses it in an interactive bash."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.waiting import wait_until
from sysreg_cli.cli.completion_cache import CacheOwner, remember_names, remember_tags
from tests.functional.completion.shell import BASH_COMPLETION, COMPLETION, SYSTEM, InteractiveBash

NAMES = [
    "alpine",
    "busybox",
    "docker.io/starlingx/stx-app",
    "docker.io/library/alpine",
    "k8s.gcr.io/pause",
    "k8s.gcr.io/pause-amd64",
]
TAGS = {"docker.io/starlingx/stx-app": ["v1.0", "v1.1", "v2.0"], "alpine": ["3.19", "latest"]}
WHO = CacheOwner("", "", "http://keystone:5000/v3", "Default", "admin", "")
CREDENTIALS = {
    "OS_USERNAME": "admin",
    "OS_PASSWORD": "secret",
    "OS_AUTH_URL": WHO.auth_url,
    "OS_USER_DOMAIN_NAME": WHO.user_domain,
}
# Says that it was run, and does what a bad day brings. By its comment it passes for ours, not the platform's.
SPY = """#!/bin/bash
# sysreg_cli.cli.start
echo "$*" >>"$HOME/calls"
echo noise >&2
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a cache of names and tags, a spy in the place of `system`, and some files."""
    directory = tmp_path / "home"
    (directory / "bin").mkdir(parents=True)
    stand_in(directory, "exit 1")
    keep(directory)
    for name in ("my certs.pem", "registry.pem", "it's.pem"):
        (directory / name).touch()
    (directory / "keys").mkdir()
    return directory


def keep(home: Path) -> None:
    remember_names(WHO, NAMES, {"HOME": str(home)})
    for repository, tags in TAGS.items():
        remember_tags(WHO, repository, tags, {"HOME": str(home)})


def stand_in(home: Path, script: str) -> None:
    (home / "bin/system").write_text(SPY + script + "\n")
    (home / "bin/system").chmod(0o755)


def forget(home: Path) -> None:
    for file in (home / ".cache/sysreg").iterdir():
        file.unlink()


def calls(home: Path) -> list[str]:
    file = home / "calls"
    return file.read_text().splitlines() if file.exists() else []


def environ(home: Path, **further: str) -> dict[str, str]:
    return {"HOME": str(home), "PATH": f"{home}/bin:/usr/bin:/bin", **CREDENTIALS, **further}


@pytest.fixture
def bash(home: Path) -> Iterator[InteractiveBash]:
    with InteractiveBash(environ(home), cwd=home) as somebody:
        yield somebody


STX = "docker.io/starlingx/stx-app"


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (["system reg"], "system registry-|"),
        (["system reg", "i", "d"], "system registry-image-delete |"),
        (["system certificate-i"], "system certificate-install |"),
        (["system --deb"], "system --debug |"),
        (["system --os-username admin registry-image-t"], "system --os-username admin registry-image-tags |"),
        (["system --registry-ca /etc/hos"], "system --registry-ca /etc/host|"),
        (["system registry-image-list --fil"], "system registry-image-list --filter-out-untagged |"),
        (["system registry-image-list --os-user-d"], "system registry-image-list --os-user-domain-name |"),
        (["system registry-image-list -f j"], "system registry-image-list -f json |"),
        (["system registry-image-list --format=y"], "system registry-image-list --format=yaml |"),
        (["system registry-image-list -c I"], "system registry-image-list -c Image\\ Name |"),
        (['system registry-image-list -c "Im'], 'system registry-image-list -c "Image Name" |'),
        (
            ["system certificate-list -c Image\\ Name -c Ex"],
            "system certificate-list -c Image\\ Name -c Expiry\\ Date |",
        ),
        (
            ["system registry-health-query --check do"],
            "system registry-health-query --check docker-trust |",
        ),
        (["system certificate-install -m s"], "system certificate-install -m ssl_ca |"),
        (["system certificate-install --mode=d"], "system certificate-install --mode=docker_registry |"),
        (["system certificate-install -m ssl_ca reg"], "system certificate-install -m ssl_ca registry.pem |"),
        (["system certificate-install my"], "system certificate-install my\\ certs.pem |"),
        (["system certificate-install my\\ c"], "system certificate-install my\\ certs.pem |"),
        (['system certificate-install "my c'], 'system certificate-install "my certs.pem" |'),
        (["system certificate-install it"], "system certificate-install it\\'s.pem |"),
        (["system certificate-install ke"], "system certificate-install keys/|"),
        (["system certificate-show d"], "system certificate-show docker_registry |"),
        (["system help certificate-s"], "system help certificate-show |"),
        (["system registry-image-tags docker.io/star"], f"system registry-image-tags {STX} |"),
        (["system registry-image-tags docker.io/"], "system registry-image-tags docker.io/|"),
        (["system registry-image-tags alpine al"], "system registry-image-tags alpine al|"),
        (["system registry-image-delete docker.io/star", ":v1."], f"system registry-image-delete {STX}:v1.|"),
        (
            ["system registry-image-delete docker.io/star", ":v1.", "1"],
            f"system registry-image-delete {STX}:v1.1 |",
        ),
        (
            ["system registry-image-delete registry.local:9001/docker.io/star", ":v2"],
            f"system registry-image-delete registry.local:9001/{STX}:v2.0 |",
        ),
        (
            ["system registry-image-delete alpine:latest docker.io/star", ":v2"],
            f"system registry-image-delete alpine:latest {STX}:v2.0 |",
        ),
        (
            [f"system registry-image-delete {STX}:v1.0 {STX}:v1"],
            f"system registry-image-delete {STX}:v1.0 {STX}:v1.1 |",
        ),
        (
            [f"system registry-image-delete registry.local:9001/{STX}:v1.0 --yes {STX}:v1"],
            f"system registry-image-delete registry.local:9001/{STX}:v1.0 --yes {STX}:v1.1 |",
        ),
        (
            ['system registry-image-delete "docker.io/star', ":v2"],
            f'system registry-image-delete "{STX}":v2.0 |',
        ),
        (["system registry-image-delete -- busy"], "system registry-image-delete -- busybox|"),
        (["system registry-image-delete no-such-image:"], "system registry-image-delete no-such-image:|"),
        (["FOO=1 system registry-image-l"], "FOO=1 system registry-image-list |"),
        (["true; system registry-image-l"], "true; system registry-image-list |"),
        (["system registry-image-list > reg"], "system registry-image-list > registry.pem |"),
    ],
)
def test_tab(bash: InteractiveBash, typed: list[str], line: str) -> None:
    assert bash.completes(*typed) == line


def test_tab_lists_what_there_is(bash: InteractiveBash) -> None:
    assert bash.sees("system registry-image-") == [
        "registry-image-delete",
        "registry-image-list",
        "registry-image-prune",
        "registry-image-restore",
        "registry-image-show",
        "registry-image-tags",
    ]
    assert bash.sees("system registry-image-delete k8s.gcr.io/") == [
        "k8s.gcr.io/pause",
        "k8s.gcr.io/pause-amd64",
    ]
    # What is held before the colon stands on the line already.
    assert bash.sees(f"system registry-image-delete {STX}:v") == ["v1.0", "v1.1", "v2.0"]


def test_a_cursor_in_the_middle_of_the_line_completes_what_is_before_it(bash: InteractiveBash) -> None:
    bash._bind()
    bash.process.send("system registry-image-li --nowrap" + "\x1b[D" * 9 + "\t\x18\x19")
    bash.process.expect(r"<LINE:(.*?):LINE>\r\n")
    assert bash.process.match.group(1) == "system registry-image-list| --nowrap"  # type: ignore[union-attr]


def test_cached_and_static_words_start_no_program(bash: InteractiveBash, home: Path) -> None:
    bash.completes("system reg")
    bash.completes("system registry-image-delete docker.io/star", ":v1.")
    bash.completes("system certificate-install my")
    assert calls(home) == []


def test_it_works_without_the_colon_in_comp_wordbreaks(bash: InteractiveBash) -> None:
    bash.run("COMP_WORDBREAKS=${COMP_WORDBREAKS//:/}")
    line = bash.completes("system registry-image-delete docker.io/star", ":v2")
    assert line == f"system registry-image-delete {STX}:v2.0 |"


def test_it_leaves_comp_wordbreaks_alone(bash: InteractiveBash) -> None:
    before = bash.run('echo "$COMP_WORDBREAKS"')
    bash.completes("system registry-image-delete docker.io/star", ":v2")
    assert bash.run('echo "$COMP_WORDBREAKS"') == before


@pytest.mark.parametrize(
    "options", ["set -u", "set -f", "shopt -s failglob nullglob", "IFS=:", "shopt -s nocasematch"]
)
def test_it_works_whatever_the_shell_is_set_to(bash: InteractiveBash, options: str) -> None:
    bash.run(options)
    line = bash.completes("system registry-image-delete docker.io/star", ":v2")
    assert line == f"system registry-image-delete {STX}:v2.0 |"


def test_it_works_together_with_bash_completion_and_sudo(home: Path) -> None:
    with InteractiveBash(environ(home), load=(BASH_COMPLETION, COMPLETION), cwd=home) as bash:
        assert bash.completes("system registry-image-delete docker.io/star", ":v2").endswith(f" {STX}:v2.0 |")
        line = bash.completes("sudo system registry-image-delete docker.io/star", ":v2")
        assert line == f"sudo system registry-image-delete {STX}:v2.0 |"


def test_nothing_is_started_when_a_shell_starts(home: Path) -> None:
    with InteractiveBash(environ(home), cwd=home) as bash:
        assert bash.run("true") == ""
    assert calls(home) == []


def test_names_that_are_not_cached_are_asked_for_once_and_quietly(home: Path) -> None:
    forget(home)
    stand_in(home, "printf '%s\\n' docker.io/starlingx/other")
    with InteractiveBash(environ(home), cwd=home) as bash:
        line = bash.completes("system registry-image-tags docker.io/s")
    assert line == "system registry-image-tags docker.io/starlingx/other |"
    assert calls(home) == ["registry-image-list -f value"]


CERTIFICATES = """
case "$*" in
    *--history*) printf 'docker_registry %s\\n' 'kept 47' 'in use 48' 'expired 46' 'kept $(touch hit)'
        echo ssl_ca_7 removed 49;;
    *certificate-list*) printf '%s\\n' docker_registry ssl_ca_4711 'ssl_ca_$(touch hit)';;
    *certificate-request*) printf '%s\\n' 0f1e-2d '$(touch hit)';;
esac
"""


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("system certificate-uninstall ", "system certificate-uninstall ssl_ca_4711 |"),
        ("system ca-certificate-uninstall s", "system ca-certificate-uninstall ssl_ca_4711 |"),
        ("system certificate-show s", "system certificate-show ssl_ca_4711 |"),
        ("system certificate-rollback ", "system certificate-rollback docker_registry |"),
        (
            "system certificate-rollback docker_registry --to ",
            "system certificate-rollback docker_registry --to 47 |",
        ),
        ("system certificate-request --cancel ", "system certificate-request --cancel 0f1e-2d |"),
        ("system certificate-request --key r", "system certificate-request --key rsa3072 |"),
    ],
)
def test_certificates_are_those_that_the_agent_names(home: Path, typed: str, line: str) -> None:
    stand_in(home, CERTIFICATES)
    with InteractiveBash(environ(home), cwd=home) as bash:
        # a busy machine may need more than the second that Tab waits
        wait_until(lambda: bash.completes(typed) == line, 20, what=line)
    assert not (home / "hit").exists()


def test_an_old_cache_is_not_believed(home: Path) -> None:
    for file in (home / ".cache/sysreg").iterdir():
        head, _, rest = file.read_text().partition("\n")
        kind, version, written = head.split()
        file.write_text(f"{kind} {version} {int(written) - 121}\n{rest}")
    with InteractiveBash(environ(home), cwd=home) as bash:
        assert bash.completes("system registry-image-tags busy") == "system registry-image-tags busy|"
    assert calls(home) == ["registry-image-list -f value"]


@pytest.mark.parametrize(
    "other", [{"OS_USERNAME": "x"}, {"SYSREG_REGISTRY": "x:1"}, {"OS_AUTH_URL": "x"}, {"OS_AUTH_TOKEN": "x"}]
)
def test_the_cache_of_another_user_or_registry_is_not_used(home: Path, other: dict[str, str]) -> None:
    with InteractiveBash(environ(home, **other), cwd=home) as bash:
        assert bash.completes("system registry-image-tags busy") == "system registry-image-tags busy|"


def test_a_cache_behind_a_symbolic_link_is_not_read(home: Path) -> None:
    (home / ".cache/sysreg").rename(home / "moved")
    (home / ".cache/sysreg").symlink_to(home / "moved")
    with InteractiveBash(environ(home), cwd=home) as bash:
        assert bash.completes("system registry-image-tags busy") == "system registry-image-tags busy|"


@pytest.mark.parametrize("missing", ["OS_USERNAME", "OS_PASSWORD"])
def test_without_credentials_nothing_is_asked(home: Path, missing: str) -> None:
    forget(home)
    variables = {name: value for name, value in environ(home).items() if name != missing}
    with InteractiveBash(variables, cwd=home) as bash:
        assert bash.completes("system registry-image-tags busy") == "system registry-image-tags busy|"
    assert calls(home) == []


@pytest.mark.parametrize(
    "script",
    [
        "sleep 30",
        "trap '' TERM; sleep 30",
        "read -p 'Password: ' answer </dev/tty",
        "echo x >&2; exit 1",
        "kill -9 $$",
    ],
)
def test_a_call_that_goes_wrong_is_silent_and_tab_does_not_wait_for_it(home: Path, script: str) -> None:
    forget(home)
    stand_in(home, script)
    with InteractiveBash(environ(home), cwd=home) as bash:
        # the deadline of completes() is a third of the 30 s
        assert bash.completes("system registry-image-tags busy") == "system registry-image-tags busy|"
        # the next Tab calls nothing, so it does not wait at all
        assert bash.completes("system registry-image-tags busy") == "system registry-image-tags busy|"
        assert bash.run("true") == ""
    assert len(calls(home)) == 1


def test_a_slow_answer_is_there_for_the_next_tab(home: Path) -> None:
    forget(home)
    (home / "remember.py").write_text(
        "from sysreg_cli.cli.completion_cache import CacheOwner, remember_names\n"
        f"remember_names({WHO!r}, ['slow'])\n"
    )
    stand_in(home, f'sleep 1.5; {sys.executable} "$HOME/remember.py"')
    with InteractiveBash(environ(home), cwd=home) as bash:
        assert bash.completes("system registry-image-tags sl") == "system registry-image-tags sl|"
        wait_until(lambda: list((home / ".cache/sysreg").iterdir()), 20, what="the answer is in the cache")
        assert bash.completes("system registry-image-tags sl") == "system registry-image-tags slow |"
    assert len(calls(home)) == 1


@pytest.mark.parametrize("trouble", ["refuses", "says nothing", "has no name"])
def test_an_unreachable_registry_is_silent_and_tab_does_not_wait_for_it(home: Path, trouble: str) -> None:
    forget(home)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = {
            "refuses": "127.0.0.1:1",
            "says nothing": f"127.0.0.1:{silent.getsockname()[1]}",
            "has no name": "registry.invalid:9001",
        }
        variables = environ(home, SYSREG_REGISTRY=where[trouble], PATH=f"{SYSTEM.parent}:/usr/bin:/bin")
        with InteractiveBash(variables, cwd=home) as bash:
            # the deadline of completes() is shorter than the 60 s that `system` waits for the silent one
            assert bash.completes("system registry-image-tags busy") == "system registry-image-tags busy|"
            assert bash.run("true") == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to have a home of somebody else")
def test_the_cache_in_the_home_of_another_user_is_not_read(home: Path) -> None:
    with InteractiveBash(environ(home), cwd=home) as bash:
        assert bash.completes("system registry-image-tags busy") == "system registry-image-tags busybox |"
    os.chown(home, 65534, 65534)
    with InteractiveBash(environ(home), cwd=home) as bash:
        assert bash.completes("system registry-image-tags busy") == "system registry-image-tags busy|"


HOSTILE = [
    "$(touch $HOME/owned)",
    "`touch $HOME/owned`",
    "a;touch $HOME/owned",
    "a b",
    "a'b",
    'a"b',
    "*",
    "~root",
    "a\\\\b",
    "-rf",
    "a${IFS}b",
    "a<(touch $HOME/owned)",
]


@pytest.mark.parametrize("what", ["names", "tags"])
def test_names_with_shell_syntax_are_neither_expanded_nor_offered(home: Path, what: str) -> None:
    forget(home)
    (home / "hostile").write_text("\n".join([*HOSTILE, "good"]) + "\n")
    stand_in(home, 'cat "$HOME/hostile"')
    typed = "system registry-image-delete " + ("alpine:" if what == "tags" else "")
    with InteractiveBash(environ(home), cwd=home) as bash:
        seen = bash.sees(typed) or [bash.completes(typed)]
        assert not set(seen) & set(HOSTILE)
        assert "good" in " ".join(seen)
        bash.run(f"COMP_LINE='{typed}' COMP_POINT={len(typed)} _sysreg_system system '' ''")
    assert not (home / "owned").exists()


def test_hostile_words_in_the_cache_itself_are_not_offered(home: Path) -> None:
    (file,) = [file for file in (home / ".cache/sysreg").iterdir() if file.name.endswith("_admin__")]
    file.write_text("\n".join([*file.read_text().splitlines()[:2], *HOSTILE, "good", ""]))
    with InteractiveBash(environ(home), cwd=home) as bash:
        assert bash.completes("system registry-image-tags ") == "system registry-image-tags good |"
    assert not (home / "owned").exists()
