"""sysreg-deploy: from nothing to serving, again without a change, refused, repaired, removed."""

from __future__ import annotations

import re

from tests.controller.debian_root import HOST, ON_BOTH
from tests.controller.installation import serves, wait_until_served
from tests.controller.machine import ADDRESS, Machine
from tests.controller.machine_factory import DEPLOY, UNITS

pytestmark = ON_BOTH


def started(machine: Machine) -> dict[str, str]:
    """Unit -> when it was started last."""
    return {
        unit: machine.show(unit, "ActiveEnterTimestampMonotonic") for unit in (*UNITS, "containerd.service")
    }


def listing(machine: Machine) -> str:
    """Every file that deploying may touch, with mode, owner, time and inode."""
    places = "/etc /usr/local /var/lib/sysreg/deploy.json /var/lib/sysreg/backup"
    return machine.shell(f"find {places} -printf '%p %m %u %g %T@ %i\\n' | sort").stdout


def test_one_run_takes_a_machine_from_nothing_to_serving(installed: Machine) -> None:
    done = installed.run(DEPLOY)
    assert done.stdout.splitlines()[-1].endswith("serving at registry.local:9001")
    assert done.stderr == ""
    wait_until_served(installed)
    for unit in UNITS:
        assert installed.show(unit, "ActiveState") == "active"
        assert installed.show(unit, "UnitFileState") == "enabled"


def test_a_dry_run_prints_the_changes_as_a_diff_and_makes_none(installed: Machine) -> None:
    files = "find /etc /var/lib /usr/local /run -name '*sysreg*' | sort"
    before = installed.shell(files).stdout
    printed = installed.run(DEPLOY, "--dry-run").stdout
    assert "+++ /etc/systemd/system/sysreg-token-server.service" in printed
    assert "+NoNewPrivileges=yes" in printed
    assert f"+{ADDRESS} registry.local" in printed
    assert "start sysreg-agent.service" in printed
    assert "SECRET=" not in printed
    assert "PRIVATE KEY" not in printed
    assert installed.shell(files).stdout == before
    assert not installed.file("/var/lib/sysreg").exists()


def test_wrong_usage_is_one_line_and_nothing_is_removed_where_nothing_was_deployed(
    installed: Machine, release: str
) -> None:
    image = installed.file("/var/lib/docker-registry/docker/image")  # somebody else's registry
    image.parent.mkdir()
    image.touch()
    for wrong in (["--chck"], ["now"], ["--check", "--remove"], ["--adopt", "--purge"]):
        refused = installed.run(DEPLOY, *wrong, status=2)
        assert refused.stdout == ""
        assert re.fullmatch("sysreg-deploy: .+\n", refused.stderr)
    for verb in ("--remove", "--purge"):
        assert installed.run(DEPLOY, verb).stdout == "nothing is deployed here; nothing was removed\n"
    assert image.exists()
    refused = installed.run(DEPLOY, environ={"SYSREG_CONF": "/etc/other.conf"}, status=2)
    assert "which the daemons would not read" in refused.stderr
    refused = installed.run(DEPLOY, user="nobody", status=1)
    assert refused.stderr == "sysreg-deploy: only root can deploy; use sudo\n"
    programs = "/opt/sysreg/bin" if release == HOST else "/usr/bin"
    installed.run("chmod", "0777", programs)  # the agent would run from there as root
    for options in ([], ["--check"], ["--dry-run"]):
        refused = installed.run(DEPLOY, *options, status=1)
        assert f"others than root can change {programs}" in refused.stderr


def test_a_second_run_changes_nothing_and_restarts_nothing(deployed: Machine) -> None:
    deployed.run("systemctl", "start", "containerd.service")
    before = started(deployed)
    disk = listing(deployed)
    assert deployed.run(DEPLOY).stdout == "done: no changes, serving at registry.local:9001\n"
    assert deployed.run(DEPLOY, "--check").stdout == "no change\n"
    assert deployed.run(DEPLOY, "--dry-run").stdout == "no change\n"
    assert started(deployed) == before
    again = listing(deployed)
    assert again == disk


def test_without_keystones_address_it_writes_the_sample_and_says_what_to_set(installed: Machine) -> None:
    installed.file("/etc/sysreg/sysreg.conf").unlink()
    refused = installed.run(DEPLOY, status=1)
    assert "auth_url in section [keystone] is not set" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "#auth_url =" in installed.file("/etc/sysreg/sysreg.conf").read_text()
    assert not installed.file("/etc/systemd/system/sysreg-agent.service").exists()


def test_every_mistake_in_the_settings_is_named_and_nothing_is_changed(installed: Machine) -> None:
    installed.file("/etc/sysreg/sysreg.conf").write_text(
        "[registry]\nport = 90011111\ncolour = red\n[wheel]\n"
    )
    refused = installed.run(DEPLOY, status=1)
    assert refused.stderr.count("/etc/sysreg/sysreg.conf:") == 3
    assert not installed.file("/var/lib/sysreg").exists()


def test_a_file_of_others_is_not_overwritten_unless_adopted_and_comes_back_on_removal(
    installed: Machine, release: str
) -> None:
    content = "# mine\nhttp:\n  addr: :5000\n"
    config = "/etc/docker/registry/config.yml"
    installed.file(config).write_text(content)
    refused = installed.run(DEPLOY, status=1)
    assert config in refused.stderr
    assert "--adopt" in refused.stderr
    assert installed.file(config).read_text() == content
    assert not installed.file("/etc/systemd/system/sysreg-agent.service").exists()
    command = installed.file("/usr/local/bin/system")
    command.symlink_to("/opt/theirs")
    installed.run(DEPLOY, "--adopt")
    assert "rootcertbundle" in installed.file(config).read_text()
    # the packages have the command in /usr/bin
    assert str(command.readlink()) == ("/opt/sysreg/bin/system" if release == HOST else "/opt/theirs")
    installed.run(DEPLOY, "--remove")
    assert installed.file(config).read_text() == content
    assert str(command.readlink()) == "/opt/theirs"


def test_settings_that_changed_are_taken_by_the_services(deployed: Machine) -> None:
    path = deployed.file("/etc/sysreg/sysreg.conf")
    path.write_text(path.read_text() + "[token_server]\nport = 9102\n")
    assert "[token_server]" not in deployed.run(DEPLOY, "--check", status=1).stdout
    deployed.run(DEPLOY)
    assert serves(deployed)
    deployed.run("curl", "-sf", "--cacert", certificate(deployed), "https://registry.local:9102/health")


def certificate(machine: Machine) -> str:
    """Where the machine keeps docker's trust in its registry."""
    return machine.shell("ls /etc/docker/certs.d/registry.local:9001/sysreg-*.crt").stdout.strip()


def test_the_man_page_and_the_completion_are_where_man_and_bash_look(deployed: Machine) -> None:
    assert "registry-image-delete" in deployed.shell("MANPAGER=cat man system").stdout
    for unit in UNITS[1:]:  # systemctl help shows what Documentation= names
        pages = re.findall(r"man:(\S+)\((\d)\)", deployed.show(unit, "Documentation"))
        for name, section in pages:
            deployed.run("man", "--where", section, name)
    script = "source /usr/share/bash-completion/bash_completion; complete -p system"
    assert deployed.run("bash", "-ic", script).stdout == "complete -F _sysreg_system system\n"
