"""A running agent passes an alarm on once, also if it is killed and starts again."""

from __future__ import annotations

import json
from pathlib import Path

from devstack.waiting import wait_until
from tests.functional.certificate.breakable import BreakableController


def test_an_alarm_is_set_once_and_cleared_once_over_restarts_of_the_agent(
    breakable: BreakableController, tmp_path: Path
) -> None:
    received, script = tmp_path / "received", tmp_path / "alarm"
    script.write_text(f"#!/bin/sh\ncat >>{received}\n")
    script.chmod(0o755)
    active = breakable.controller.paths.state / "alarms.json"
    settings = breakable.controller.paths.settings
    with settings.open("a") as file:
        file.write(f"[alarms]\ncommand = {script}\n")
    plain = settings.read_text()
    # everything expires within ten years
    settings.write_text(plain.replace("[certificate]\n", "[certificate]\nmin_days_warning = 3650\n"))
    breakable.start_agent()
    wait_until(lambda: "500.200" in active.read_text())
    breakable.kill_agent()
    breakable.wait_for_agents_end()
    breakable.start_agent()
    assert breakable.install(breakable.certificates.new()) == ""
    breakable.start_agent()
    wait_until(lambda: len(received.read_text().splitlines()) == 3)
    settings.write_text(plain)
    breakable.start_agent()
    wait_until(lambda: json.loads(active.read_text()) == {"alarms": []})
    changes = [json.loads(line) for line in received.read_text().splitlines()]
    assert [change["action"] for change in changes] == ["set", "set", "clear", "clear"]
    assert changes[2]["entity"] == changes[0]["entity"], "the alarm of the replaced certificate is cleared"
    assert changes[3]["entity"] == changes[1]["entity"]
    breakable.stop_agent()
    settings.write_text(plain.replace(f"[alarms]\ncommand = {script}\n", ""))
