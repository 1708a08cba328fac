"""``sysreg-deploy``: make this machine a controller with a serving registry, and keep it one."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import click

import sysreg_cli
from sysreg_cli import settings as settings_module
from sysreg_cli.deploy import plan, run, templates
from sysreg_cli.deploy.items import Item
from sysreg_cli.deploy.record import Record
from sysreg_cli.deploy.taken import digest
from sysreg_cli.deploy.units import systemd_version
from sysreg_cli.deploy.verify import verify
from sysreg_cli.errors import NotAuthorized, SettingsError, SysregError, UsageError
from sysreg_cli.pki.names import as_address
from sysreg_cli.settings import DEFAULT_PATH, Settings


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--dry-run", is_flag=True, help="Print what would change, as a diff, and change nothing.")
@click.option("--check", is_flag=True, help="Print what differs, change nothing, exit 1 if anything does.")
@click.option("--adopt", is_flag=True, help="Replace files that sysreg-deploy did not write; keep a backup.")
@click.option("--remove", is_flag=True, help="Undo the deployment; images stay.")
@click.option("--purge", is_flag=True, help="Undo the deployment, and remove the images.")
@click.version_option(sysreg_cli.__version__, prog_name="sysreg-deploy")
def deploy(*, dry_run: bool, check: bool, adopt: bool, remove: bool, purge: bool) -> None:
    """Deploy the local Docker registry on this machine, as /etc/sysreg/sysreg.conf says.

    A second run changes nothing; a run after a failed one repairs. Certificates, keys and images that are
    there stay.
    """
    if sum((dry_run, check, remove or purge)) > 1:
        raise UsageError("--dry-run, --check and --remove exclude each other")
    if adopt and (remove or purge):
        raise UsageError("--adopt is for deploying; --remove puts back by itself what was adopted")
    if os.geteuid() != 0:
        raise NotAuthorized("only root can deploy", next_step="use sudo")
    os.umask(0o022)
    settings = settings_module.load()
    record = Record.load(settings.paths.state)
    items = _items(settings, adopt=adopt)

    if (remove or purge) and record.is_empty:
        click.echo("nothing is deployed here; nothing was removed")
        return
    if remove or purge:
        run.remove(items, record, settings, purge=purge, report=click.echo)
        click.echo("done: removed" + ("" if purge else f"; the images are in {settings.registry.storage}"))
        return
    if dry_run or check:
        found = run.differences(items, record)
        for _, change in found:
            click.echo(change.line)
            if dry_run and change.diff:
                click.echo(change.diff)
        if check and found:
            many = "1 difference" if len(found) == 1 else f"{len(found)} differences"
            raise SysregError(many, next_step="run sysreg-deploy to mend them")
        click.echo(f"{len(found)} change{'' if len(found) == 1 else 's'}" if found else "no change")
        if check:
            verify(settings)
        return
    if not settings.keystone.auth_url:
        run.apply(items[:1], record, adopt=adopt, report=click.echo)  # the commented sample
        raise SettingsError(
            "settings refused",
            [f"{DEFAULT_PATH}: auth_url in section [keystone] is not set"],
            next_step="set it to Keystone's address, then run sysreg-deploy again",
        )
    changes = run.apply(items, record, adopt=adopt, report=click.echo)
    verify(settings)
    click.echo(
        f"done: {changes or 'no'} change{'' if changes == 1 else 's'}, serving at {settings.registry.address}"
    )


def _items(settings: Settings, *, adopt: bool) -> list[Item]:
    containerd = plan.CONTAINERD_CONFIG
    facts = plan.Facts(
        programs=Path(sys.executable).parent,
        address=_address(settings),
        systemd=systemd_version(),
        containerd=containerd.read_text() if containerd.exists() else None,
        taken=digest(settings),
    )
    files = templates.render(plan.template_values(settings, facts))
    return plan.desired(settings, facts, files, adopt=adopt)


def _address(settings: Settings) -> str:
    """The address for our line in /etc/hosts: a configured one, else the one we wrote before, else a guess.

    Empty if the names resolve without such a line.
    """
    for name in settings.registry.host_names:
        if as_address(name):
            return name
    hosts = Path("/etc/hosts").read_text() if Path("/etc/hosts").exists() else ""
    _, begin, rest = hosts.partition("# begin sysreg-deploy\n")
    if begin:
        return rest.split(maxsplit=1)[0]
    try:
        socket.getaddrinfo(settings.registry.host_names[0], settings.registry.port)
    except OSError:
        return _own_address()
    return ""


def _own_address() -> str:
    """The address that others reach this machine at: the source of its default route, if it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def main() -> int:
    """Entry point. Returns the exit status: 0 done, 1 failed or drift, 2 wrong usage, 130 interrupted."""
    try:
        deploy.main(standalone_mode=False)
    except click.ClickException as error:
        said = error.format_message().rstrip(".")
        click.echo(f"sysreg-deploy: {said}; see sysreg-deploy --help", err=True)
        return error.exit_code
    except click.exceptions.Exit as request:
        return request.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("sysreg-deploy: interrupted; run it again to finish", err=True)
        return 130
    except SettingsError as error:
        for problem in error.problems:
            click.echo(f"sysreg-deploy: {problem}", err=True)
        if error.next_step:
            click.echo(f"sysreg-deploy: {error.next_step}", err=True)
        return error.exit_code
    except SysregError as error:
        click.echo(f"sysreg-deploy: {error}", err=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
