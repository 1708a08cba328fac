"""``sysreg-deploy``: make this machine a controller with a serving registry, and keep it one."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import click

import sysreg_cli
from sysreg_cli import settings as settings_module
from sysreg_cli.deploy import plan, rollover, run, templates
from sysreg_cli.deploy.certificate import ServerCertificate
from sysreg_cli.deploy.items import Item
from sysreg_cli.deploy.keys import TokenTrust, unfinished
from sysreg_cli.deploy.record import Record
from sysreg_cli.deploy.taken import digest
from sysreg_cli.deploy.units import RunningRegistry, systemd_version
from sysreg_cli.deploy.verify import verify
from sysreg_cli.errors import NotAuthorized, SettingsError, SysregError, UsageError
from sysreg_cli.host.locks import deploy_lock
from sysreg_cli.pki.names import as_address
from sysreg_cli.settings import DEFAULT_PATH, Settings


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--dry-run", is_flag=True, help="Print what would change, as a diff, and change nothing.")
@click.option("--check", is_flag=True, help="Print what differs, change nothing, exit 1 if anything does.")
@click.option("--adopt", is_flag=True, help="Replace files that sysreg-deploy did not write; keep a backup.")
@click.option("--remove", is_flag=True, help="Undo the deployment; images stay.")
@click.option("--purge", is_flag=True, help="Undo the deployment, and remove the images.")
@click.option(
    "--rotate-token-key",
    is_flag=True,
    help="Deploy, then put a new token-signing key in place of the present one. No request is refused: the"
    " old key is trusted until the last token signed with it has run out (some 6 minutes). Ctrl-C is safe; a"
    " later run finishes it.",
)
@click.version_option(sysreg_cli.__version__, prog_name="sysreg-deploy")
def deploy(
    *, dry_run: bool, check: bool, adopt: bool, remove: bool, purge: bool, rotate_token_key: bool
) -> None:
    """Deploy the local Docker registry on this machine, as /etc/sysreg/sysreg.conf says.

    A second run changes nothing; a run after a failed one repairs. Certificates, keys and images that are
    there stay.
    """
    if sum((dry_run, check, remove or purge, rotate_token_key)) > 1:
        raise UsageError("--dry-run, --check, --remove and --rotate-token-key exclude each other")
    if adopt and (remove or purge):
        raise UsageError("--adopt is for deploying; --remove puts back by itself what was adopted")
    if os.geteuid() != 0:
        raise NotAuthorized("only root can deploy", next_step="use sudo")
    os.umask(0o022)
    if os.environ.get("SYSREG_CONF", str(DEFAULT_PATH)) != str(DEFAULT_PATH):
        raise UsageError(
            f"SYSREG_CONF names another file than {DEFAULT_PATH}, which the daemons would not read",
            next_step=f"unset SYSREG_CONF, and put the settings into {DEFAULT_PATH}",
        )
    settings = settings_module.load()
    plan.demand_supported(settings)
    record = Record.load(settings.paths.state)
    items = _items(settings, adopt=adopt)

    if (remove or purge) and record.is_empty:
        click.echo("nothing is deployed here; nothing was removed")
        return
    if remove or purge:
        alone = deploy_lock(record.directory, "sysreg-deploy", wait=0)
        with alone if record.directory.is_dir() else nullcontext():
            record = Record.load(settings.paths.state)
            run.remove(items, record, settings, purge=purge, report=click.echo)
        click.echo("done: removed" + ("" if purge else f"; the images are in {settings.registry.storage}"))
        return
    plan.demand_registry()
    if dry_run or check:
        found = run.differences(items, record)
        for _, change in found:
            click.echo(change.line)
            if dry_run and change.diff:
                click.echo(change.diff)
        differing = len(found)
        if unfinished(settings):
            click.echo("finish the rollover of the token-signing key, which is under way or was interrupted")
            differing += 1
        if check and differing:
            many = "1 difference" if differing == 1 else f"{differing} differences"
            raise SysregError(many, next_step="run sysreg-deploy to mend them")
        if check:
            _demand_certificate(items)
        click.echo(f"{differing} change{'' if differing == 1 else 's'}" if differing else "no change")
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
    record.make_directory(record.directory)
    with deploy_lock(record.directory, "sysreg-deploy", wait=0):
        record = Record.load(settings.paths.state)  # as the run before this one has left it
        changes = run.apply(items, record, adopt=adopt, report=click.echo)
        verify(settings)
        changes += _roll_over(settings, record, items, start=rotate_token_key)
    _demand_certificate(items)
    click.echo(
        f"done: {changes or 'no'} change{'' if changes == 1 else 's'}, serving at {settings.registry.address}"
    )


def _demand_certificate(items: Sequence[Item]) -> None:
    """Raises SysregError if the operator's certificate is unfit, which only the operator can mend."""
    for item in items:
        if isinstance(item, ServerCertificate) and (refused := item.refused()):
            raise refused


def _roll_over(settings: Settings, record: Record, items: Sequence[Item], *, start: bool) -> int:
    """Take a rollover to its end: an interrupted one or, if ``start``, a new one; returns the changes."""
    trust = [item for item in items if isinstance(item, TokenTrust | RunningRegistry)]
    if start:
        rollover.begin(settings, record)
    finished = rollover.finish(
        settings,
        record,
        lambda: run.apply(trust, record, adopt=False, report=click.echo),
        report=click.echo,
        wait=_sit_out,
    )
    if finished:
        verify(settings)
    return int(finished)


def _sit_out(seconds: float) -> None:
    """Wait, and say how long; on a terminal, how long it still is."""
    deadline = time.monotonic() + seconds
    click.echo(
        f"old tokens are accepted for another {seconds:.0f} s; the old key is trusted until then"
        " (Ctrl-C is safe: a later run of sysreg-deploy finishes)"
    )
    shows = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    while (left := deadline - time.monotonic()) > 0:
        if shows:
            click.echo(f"\r{left:4.0f} s ", nl=False)
        time.sleep(min(1.0, left))
    if shows:
        click.echo("\r        \r", nl=False)


def _items(settings: Settings, *, adopt: bool) -> list[Item]:
    containerd = plan.CONTAINERD_CONFIG
    facts = plan.Facts(
        programs=Path(sys.executable).parent,
        address=_address(settings),
        systemd=systemd_version(),
        containerd=containerd.read_text(errors="replace") if containerd.exists() else None,
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
    hosts = Path("/etc/hosts").read_text(errors="replace") if Path("/etc/hosts").exists() else ""
    _, _, ours = hosts.partition("# begin sysreg-deploy\n")
    # only if nobody has bent it: what is no address would be written back for ever
    if ours and as_address(ours.split(maxsplit=1)[0]):
        return ours.split(maxsplit=1)[0]
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
    except BrokenPipeError:
        # who reads our output has gone; nothing more can be said there, not even at the interpreter's end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        click.echo("sysreg-deploy: stopped, since its output was closed; run it again to finish", err=True)
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        what = f"sysreg-deploy: {where}{error.strerror or error}; mend that, then run sysreg-deploy again"
        click.echo(what, err=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
