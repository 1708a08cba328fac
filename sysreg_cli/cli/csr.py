"""`system certificate-request`."""

from __future__ import annotations

import click

from sysreg_cli.cli.invocation import Invocation, require_utf8
from sysreg_cli.cli.options import AGENT_VARIABLES, command
from sysreg_cli.cli.output import check_columns, check_list, hint, say, show_list, show_report
from sysreg_cli.errors import UsageError
from sysreg_cli.v1.certificates import KeyKind

_COLUMNS = ("uuid", "names", "key", "created_at", "csr")
_LISTED = _COLUMNS[:-1]


@command(
    "certificate-request",
    argument_help=[("[UUID]", "The pending request to be cancelled; only with --cancel.")],
    columns=_COLUMNS,
    variables=AGENT_VARIABLES,
    sorts=True,
    examples=[
        ("system certificate-request >registry.csr", "Make a key and a request for the registry's names."),
        ("system certificate-request --name registry.example --key rsa3072", "Ask for one more name."),
        ("system certificate-install -m docker_registry registry.pem", "Install what the CA has issued."),
        ("system certificate-request --list", "Show the requests that wait for their certificates."),
    ],
)
@click.argument("uuid", metavar="[UUID]", required=False)
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="NAME",
    help="One more DNS name or IP address (repeat for more). The registry's own are always in the request.",
)
@click.option(
    "--key", type=click.Choice([kind.value for kind in KeyKind]), help="Kind of the key; p256 if not given."
)
@click.option("--list", "list_", is_flag=True, help="List the pending requests.")
@click.option("--cancel", is_flag=True, help="Cancel the pending request UUID; its key is removed.")
@click.pass_obj
def request(
    invocation: Invocation,
    uuid: str | None,
    names: tuple[str, ...],
    key: str | None,
    list_: bool,
    cancel: bool,
) -> None:
    """Make a key and a certificate signing request for the registry.

    The request (PEM) is for a CA. The key stays with the agent. certificate-install takes the certificate
    that the CA issues, with its intermediates and without a key.
    """
    if (list_ or cancel) and (names or key or (list_ and cancel)):
        raise UsageError(f"--{'list' if list_ else 'cancel'} takes no other option of this command")
    if cancel != (uuid is not None):
        raise UsageError("--cancel and UUID belong together", next_step="see certificate-request --list")
    if list_:
        check_list(invocation, _LISTED)
    elif invocation.sort_column:
        raise UsageError("--sort-column sorts a list", next_step="give --list, too")
    else:
        check_columns(invocation, ("uuid",) if cancel else _COLUMNS)
    for text in (*names, uuid or ""):
        require_utf8(text, "NAME or UUID")

    from sysreg_cli.cli.agent_client import AgentClient

    agent = AgentClient.from_invocation(invocation)
    if list_:
        pending = agent.certificate_requests().requests
        rows = [[getattr(one, column) for column in _LISTED] for one in pending]
        show_list(invocation, _LISTED, rows, ordered=True)
    elif uuid is not None:
        agent.cancel_request(uuid)
        say(invocation, f"Certificate request {uuid} cancelled")
        show_report(invocation, [{"uuid": uuid}])
    else:
        made = agent.request_certificate(names, KeyKind(key or KeyKind.P256))
        for line in made.csr.splitlines():
            say(invocation, line)
        show_report(invocation, [{column: getattr(made, column) for column in _COLUMNS}])
        hint(
            "give this to the CA, and install its answer: system certificate-install -m docker_registry FILE"
        )
