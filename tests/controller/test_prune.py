"""The timer that prunes images every day: laid down disabled, and in a sandbox in which it works."""

from __future__ import annotations

from tests.controller.machine import Machine
from tests.unit.agent.storage.builder import Storage

RULE = "\n[retention all]\nimages = *\nkeep = 1\n"
TIMER = "sysreg-prune.timer"


def test_the_timer_is_disabled_works_when_it_is_enabled_and_goes_in_a_removal(deployed: Machine) -> None:
    assert deployed.show(TIMER, "UnitFileState") == "disabled"
    assert deployed.show(TIMER, "ActiveState") == "inactive"
    storage = Storage(deployed.file("/var/lib/docker-registry"))
    storage.image("app", "old", layers=(b"old",))
    storage.age = 60
    storage.image("app", "new", layers=(b"new",))
    deployed.run("chown", "-R", "docker-registry:", "/var/lib/docker-registry/docker")

    deployed.run("systemctl", "start", "sysreg-prune.service", status=1)
    journal = deployed.run("journalctl", "-u", "sysreg-prune", "--output", "cat").stdout
    assert "sysreg.conf has no section [retention NAME]; add one, and run sysreg-deploy" in journal

    settings = deployed.file("/etc/sysreg/sysreg.conf")
    settings.write_text(settings.read_text() + RULE)
    assert "restart sysreg-agent.service" in deployed.run("sysreg-deploy").stdout
    deployed.run("systemctl", "enable", "--now", TIMER)
    assert deployed.show(TIMER, "ActiveState") == "active"
    assert deployed.show(TIMER, "NextElapseUSecRealtime")
    deployed.run("systemctl", "start", "sysreg-prune.service")
    assert (storage.tag("app", "old").exists(), storage.tag("app", "new").exists()) == (False, True)
    journal = deployed.run("journalctl", "-u", "sysreg-agent", "--output", "cat").stdout
    assert "image prune: removed app:old (sha256:" in journal
    assert "image prune by policy by root" in journal

    # another deployment leaves it as it is
    assert TIMER not in deployed.run("sysreg-deploy").stdout
    assert deployed.show(TIMER, "ActiveState") == "active"
    assert f"disabled {TIMER}" in deployed.run("sysreg-deploy", "--remove", "--keep-data").stdout
    assert not deployed.file(f"/etc/systemd/system/timers.target.wants/{TIMER}").is_symlink()
    assert not deployed.file(f"/etc/systemd/system/{TIMER}").exists()
