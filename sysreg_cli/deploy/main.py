"""``sysreg-deploy``: make this machine a controller with a serving registry, and keep it one."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from contextlib import nullcontext

import click

import sysreg_cli
from sysreg_cli import settings as settings_module
from sysreg_cli.deploy import changes
from sysreg_cli.deploy.deployment import Deployment
from sysreg_cli.deploy.host_facts import HostFacts, require_machine, require_programs, require_settings
from sysreg_cli.deploy.machine import Programs
from sysreg_cli.deploy.record import Record
from sysreg_cli.deploy.resource import Context
from sysreg_cli.deploy.rollover import LiveServices, Rollover, RolloverState
from sysreg_cli.deploy.verify import verify
from sysreg_cli.errors import NotAuthorized, SettingsError, SysregError, UsageError, text_of
from sysreg_cli.host.locks import deploy_lock
from sysreg_cli.host.ownership import leave_groups
from sysreg_cli.settings import DEFAULT_PATH, Settings


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--dry-run", is_flag=True, help="Print what would change, as a diff, and change nothing.")
@click.option("--check", is_flag=True, help="Print what differs, change nothing, exit 1 if anything does.")
@click.option("--adopt", is_flag=True, help="Replace files that sysreg-deploy did not write; keep a backup.")
@click.option("--remove", is_flag=True, help="Undo the deployment; images stay.")
@click.option("--purge", is_flag=True, help="Undo the deployment, and remove the images.")
@click.option(
    "--keep-data",
    is_flag=True,
    help="With --remove: leave settings, keys and certificates, as the Debian package does until a purge.",
)
@click.option(
    "--after-upgrade",
    is_flag=True,
    help="Deploy if this machine is a controller already; otherwise say how to make it one. For the Debian"
    " package.",
)
@click.option(
    "--rotate-token-key",
    is_flag=True,
    help="Deploy, then replace the token-signing key by a new one. No request is refused: the old key is"
    " trusted until the last token signed with it has expired (some 6 minutes). Ctrl-C is safe; a later run"
    " finishes it.",
)
@click.option(
    "--join",
    metavar="FILE",
    help="Make this machine a worker that pulls from the registry of another one, with a file that `system"
    " registry-host-add` made there. It can be used once.",
)
@click.version_option(sysreg_cli.__version__, prog_name="sysreg-deploy")
def deploy(
    *,
    dry_run: bool,
    check: bool,
    adopt: bool,
    remove: bool,
    purge: bool,
    keep_data: bool,
    after_upgrade: bool,
    rotate_token_key: bool,
    join: str | None,
) -> None:
    """Deploy the local Docker registry on this machine, as /etc/sysreg/sysreg.conf says.

    A second run changes nothing; a run after a failed one repairs. Certificates, keys and images that exist
    stay.
    """
    if sum((dry_run, check, remove or purge, rotate_token_key, after_upgrade, join is not None)) > 1:
        raise UsageError(
            "--dry-run, --check, --remove, --rotate-token-key, --after-upgrade and --join exclude each other"
        )
    if keep_data and (purge or not remove):
        raise UsageError("--keep-data is for --remove")
    if adopt and (remove or purge):
        raise UsageError("--adopt is for deploying; --remove restores by itself what was replaced")
    settings = _load_settings()
    if join is not None:
        _join(join, settings)
    elif remove or purge:
        _remove(settings, purge=purge, keep_data=keep_data)
    elif dry_run:
        _dry_run(settings)
    elif check:
        _check(settings)
    elif after_upgrade and Record.load(settings.paths.state).is_empty:
        click.echo(
            f"sysreg-deploy: set auth_url in section [keystone] of {DEFAULT_PATH} to Keystone's address"
        )
        click.echo("sysreg-deploy: then run sysreg-deploy: it makes this machine a controller")
    else:
        _deploy(settings, adopt=adopt, rotate_token_key=rotate_token_key)


def _load_settings() -> Settings:
    """Read the settings as root. Raises SysregError if they, or the caller, are unfit for deploying."""
    if os.geteuid() != 0:
        raise NotAuthorized("only root can deploy", next_step="use sudo")
    os.umask(0o022)
    if os.environ.get("SYSREG_CONF", str(DEFAULT_PATH)) != str(DEFAULT_PATH):
        raise UsageError(
            f"SYSREG_CONF names another file than {DEFAULT_PATH}, which the daemons would not read",
            next_step=f"unset SYSREG_CONF, and put the settings into {DEFAULT_PATH}",
        )
    settings = settings_module.load()
    require_settings(settings)
    return settings


def _join(path: str, settings: Settings) -> None:
    """``--join``: make this machine a worker."""
    from sysreg_cli.deploy import join

    require_programs()
    joined = join.join(path, settings)
    click.echo(f"joined the cluster as host {joined.cluster.host}")
    _deploy(joined, adopt=False, rotate_token_key=False)


def _dry_run(settings: Settings) -> None:
    """``--dry-run``: print the changes that a run would make, with diffs."""
    differences = _print_differences(settings, _deployment(settings), diffs=True)
    click.echo(_count(differences, "change") if differences else "no change")


def _check(settings: Settings) -> None:
    """``--check``: print what differs, and check the live services. Raises SysregError unless all is well."""
    deployment = _deployment(settings)
    if differences := _print_differences(settings, deployment, diffs=False):
        raise SysregError(_count(differences, "difference"), next_step="run sysreg-deploy to repair them")
    _require_no_refusal(deployment)
    click.echo("no change")
    if not settings.cluster.is_worker:
        verify(settings)


def _deploy(settings: Settings, *, adopt: bool, rotate_token_key: bool) -> None:
    """Make the changes, finish a rollover of the token-signing key, and check the live services."""
    if settings.cluster.is_worker:
        _deploy_worker(settings, adopt=adopt, rotate_token_key=rotate_token_key)
        return
    require_machine()
    deployment = _deployment(settings)
    if not settings.keystone.auth_url:
        only_sample = Deployment(deployment.sample, (), ())
        changes.apply(only_sample, _context(settings), adopt=adopt)
        raise SettingsError(
            "settings refused",
            [f"{DEFAULT_PATH}: auth_url in section [keystone] is not set"],
            next_step="set it to Keystone's address, then run sysreg-deploy again",
        )
    state = settings.paths.state
    Record.load(state).make_directory(state)
    with deploy_lock(state, "sysreg-deploy", wait=0):
        context = _context(settings)
        done = changes.apply(deployment, context, adopt=adopt)
        verify(settings)
        rollover = _rollover(settings, deployment, context)
        if rotate_token_key:
            rollover.begin()
        if rollover.finish():
            done += 1
            verify(settings)
    _require_no_refusal(deployment)
    click.echo(
        f"done: {_count(done, 'change') if done else 'no changes'}, serving at {settings.registry.address}"
    )


def _deploy_worker(settings: Settings, *, adopt: bool, rotate_token_key: bool) -> None:
    if rotate_token_key:
        raise UsageError("--rotate-token-key is for the controller: this machine is a worker")
    require_programs()
    deployment = _deployment(settings)
    state = settings.paths.state
    Record.load(state).make_directory(state)
    with deploy_lock(state, "sysreg-deploy", wait=0):
        done = changes.apply(deployment, _context(settings), adopt=adopt)
    changed = _count(done, "change") if done else "no changes"
    click.echo(f"done: {changed}, host {settings.cluster.host} of the cluster")


def _remove(settings: Settings, *, purge: bool, keep_data: bool) -> None:
    """``--remove`` and ``--purge``: undo the deployment; with ``purge``, remove the images, too."""
    state = settings.paths.state
    if Record.load(state).is_empty:
        click.echo("nothing is deployed here; nothing was removed")
        return
    with deploy_lock(state, "sysreg-deploy", wait=0) if state.is_dir() else nullcontext():
        context = dataclasses.replace(_context(settings), keep_data=keep_data)
        changes.remove(_deployment(settings), context, settings, purge=purge)
    click.echo("done: removed" + ("" if purge else f"; the images are in {settings.registry.storage}"))


def _deployment(settings: Settings) -> Deployment:
    if settings.cluster.is_worker:
        from sysreg_cli.deploy import worker

        return worker.build(settings, HostFacts.read(settings, Programs()))
    return Deployment.build(settings, HostFacts.read(settings, Programs()))


def _context(settings: Settings) -> Context:
    record = Record.load(settings.paths.state)
    return Context(record, set(record.restart), report=click.echo)


def _print_differences(settings: Settings, deployment: Deployment, *, diffs: bool) -> int:
    """Print the plan, and return the number of its changes."""
    if not settings.cluster.is_worker:
        require_machine()
    context = _context(settings)
    plan = changes.make_plan(deployment.all, context)
    for planned in plan:
        click.echo(planned.change.line)
        if diffs and planned.change.diff:
            click.echo(planned.change.diff)
    if settings.cluster.is_worker or _rollover(settings, deployment, context).state is RolloverState.NONE:
        return len(plan)
    click.echo("finish the rollover of the token-signing key, which is under way or was interrupted")
    return len(plan) + 1


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _require_no_refusal(deployment: Deployment) -> None:
    """Raise what is wrong with a resource that only the operator can repair."""
    for resource in deployment.all:
        if refusal := resource.refusal():
            raise refusal


def _rollover(settings: Settings, deployment: Deployment, context: Context) -> Rollover:
    return Rollover(
        settings,
        context.record,
        LiveServices(settings, context.programs),
        apply_trust=lambda: changes.apply(deployment, context, adopt=False),
        report=click.echo,
        wait=_wait_for_expiry,
    )


def _wait_for_expiry(seconds: float) -> None:
    """Wait until old tokens have expired. Say how long that takes; on a terminal, count down."""
    deadline = time.monotonic() + seconds
    click.echo(
        f"old tokens are accepted for another {seconds:.0f} s; the old key is trusted until then"
        " (Ctrl-C is safe: a later run of sysreg-deploy finishes)"
    )
    counts_down = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    while (left := deadline - time.monotonic()) > 0:
        if counts_down:
            click.echo(f"\r{left:4.0f} s ", nl=False)
        time.sleep(min(1.0, left))
    if counts_down:
        click.echo("\r        \r", nl=False)


def main() -> int:
    """Entry point. Returns the exit status: 0 done, 1 failed or differs, 2 wrong usage, 130 interrupted."""
    try:
        leave_groups()
        deploy.main(standalone_mode=False)
    except click.ClickException as error:
        return _fail(
            f"{error.format_message().rstrip('.')}; see sysreg-deploy --help", status=error.exit_code
        )
    except click.exceptions.Exit as request:
        return request.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted; run it again to finish", status=130)
    except SettingsError as error:
        return _fail(*error.problems, error.next_step, status=error.exit_code)
    except SysregError as error:
        return _fail(str(error), status=error.exit_code)
    except BrokenPipeError:
        # Nothing more can be written there, also not when the interpreter flushes its output at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _fail("stopped, since its output was closed; run it again to finish")
    except OSError as error:
        return _fail(f"{text_of(error)}; repair that, then run sysreg-deploy again")
    return 0


def _fail(*lines: str, status: int = 1) -> int:
    for line in filter(None, lines):
        click.echo(f"sysreg-deploy: {line}", err=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
