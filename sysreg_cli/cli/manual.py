"""What help says beyond click's own: arguments, columns, environment, exit codes, examples.

This and the click commands are the one source of `system COMMAND --help`, the man page and the README's
reference (``tools/write_reference.py``). Loaded only when somebody asks for help.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from click import HelpFormatter

# Every environment variable that `system` reads, and what it says.
ENVIRONMENT: dict[str, str] = {
    "OS_APPLICATION_CREDENTIAL_ID": "Keystone application credential, in place of user and password.",
    "OS_APPLICATION_CREDENTIAL_SECRET": "The secret of the application credential.",
    "OS_AUTH_TOKEN": "Keystone token, in place of a password.",
    "OS_AUTH_URL": "Where Keystone is.",
    "OS_CACERT": "File with the certificates (PEM) to trust for Keystone.",
    "OS_INTERFACE": "Kind of Keystone endpoint; accepted, not needed.",
    "OS_PASSWORD": "Password of the Keystone user; asked for on a terminal if not given.",
    "OS_PROJECT_DOMAIN_NAME": "Domain of the project.",
    "OS_PROJECT_NAME": "Keystone project; roles count only in the administrators' project.",
    "OS_REGION_NAME": "Region; accepted, not needed.",
    "OS_USER_DOMAIN_NAME": "Domain of the user.",
    "OS_USERNAME": "Keystone user.",
    "SYSREG_AGENT": "The agent: path of its socket, or its https URL.",
    "SYSREG_CONF": "Settings file; /etc/sysreg/sysreg.conf if not set.",
    "SYSREG_PASSPHRASE": "Passphrase of an encrypted private key.",
    "SYSREG_REGISTRY": "HOST:PORT of the registry; from the settings file if not set.",
    "SYSREG_REGISTRY_CA": "File with the certificates (PEM) to trust for the registry, and no others.",
    "TERM": "With `dumb`: no progress bar.",
    "XDG_CACHE_HOME": "Where image names are kept for completion; ~/.cache if not set.",
}

EXIT_CODES: dict[int, str] = {
    0: "Done.",
    1: "Failed; one line on standard error says what, on which object, why, and what to do next.",
    2: "Wrong usage; nothing was tried.",
    130: "Interrupted (Ctrl-C).",
}

_CREDENTIALS = (
    "OS_APPLICATION_CREDENTIAL_ID",
    "OS_APPLICATION_CREDENTIAL_SECRET",
    "OS_AUTH_TOKEN",
    "OS_AUTH_URL",
    "OS_CACERT",
    "OS_PASSWORD",
    "OS_PROJECT_DOMAIN_NAME",
    "OS_PROJECT_NAME",
    "OS_USER_DOMAIN_NAME",
    "OS_USERNAME",
)
_REGISTRY = (*_CREDENTIALS, "SYSREG_CONF", "SYSREG_REGISTRY", "SYSREG_REGISTRY_CA")
_AGENT = (*_CREDENTIALS, "SYSREG_AGENT", "SYSREG_CONF")

_CERTIFICATE = ("uuid", "certtype", "signature", "start_date", "expiry_date", "subject")


@dataclass(frozen=True, slots=True)
class Page:
    """One command: (argument, meaning), columns of -c, names of variables, (command line, what it does)."""

    examples: tuple[tuple[str, str], ...]
    arguments: tuple[tuple[str, str], ...] = ()
    columns: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()


PAGES: dict[str, Page] = {
    "bash-completion": Page(
        examples=(("system bash-completion | tr ' ' '\\n'", "Show the words, one a line."),),
    ),
    "certificate-install": Page(
        arguments=(("CERTIFICATE_FILE", "PEM file with the certificates; `-` reads standard input."),),
        columns=(*_CERTIFICATE, "warnings"),
        environment=(*_AGENT, "SYSREG_PASSPHRASE"),
        examples=(
            (
                "system certificate-install -m docker_registry registry.pem",
                "Give the registry a new certificate. The file holds its private key, the certificate and "
                "the intermediates; it is removed once the new certificate was seen live.",
            ),
            ("system certificate-install -m ssl_ca ca.pem", "Trust one more certificate authority."),
        ),
    ),
    "certificate-list": Page(
        columns=("Name", "Expiry Date", "Subject"),
        environment=_AGENT,
        examples=(
            ("system certificate-list", "Show all installed certificates."),
            ("system certificate-list -f json | jq -r '.[].expiry_date'", "Only the dates, for a script."),
        ),
    ),
    "certificate-show": Page(
        arguments=(("NAME_OR_UUID", "Name (docker_registry, ssl_ca_<serial>) or uuid of the certificate."),),
        columns=_CERTIFICATE,
        environment=_AGENT,
        examples=(("system certificate-show docker_registry", "Show the registry's certificate."),),
    ),
    "help": Page(
        arguments=(("[COMMAND]", "The command to explain; without it, the program."),),
        examples=(("system help registry-image-delete", "Explain one command."),),
    ),
    "registry-garbage-collect": Page(
        columns=(
            "outcome",
            "dry_run",
            "blobs",
            "bytes",
            "manifests",
            "repositories",
            "pinned",
            "seconds",
            "writes_held",
            "holds",
            "longest_hold",
            "phases",
            "warnings",
        ),
        environment=(*_AGENT, "TERM"),
        examples=(
            ("system registry-garbage-collect --dry-run", "Say how much a collection would free."),
            ("system registry-garbage-collect", "Free the space, and wait until it is done."),
            ("system registry-garbage-collect --status", "Show the running collection, or the last one."),
        ),
    ),
    "registry-image-delete": Page(
        arguments=(
            (
                "IMAGE:TAG...",
                "The tags to delete, also with HOST:PORT/ of the registry in front, or IMAGE@DIGEST.",
            ),
        ),
        columns=("image", "deleted", "digest", "tags", "manifests", "warnings"),
        environment=(*_REGISTRY, "XDG_CACHE_HOME"),
        examples=(
            ("system registry-image-delete docker.io/starlingx/app:v1.0", "Delete one tag, and no other."),
            ("system registry-image-delete --dry-run app:v1 app:v2", "Say what would be deleted."),
            ("system registry-garbage-collect", "Free the space afterwards."),
        ),
    ),
    "registry-image-list": Page(
        columns=("Image Name",),
        environment=(*_REGISTRY, "SYSREG_AGENT", "XDG_CACHE_HOME"),
        examples=(
            ("system registry-image-list", "Show the names of all images."),
            ("system registry-image-list --filter-out-untagged -f value", "Only tagged ones, for a script."),
        ),
    ),
    "registry-image-tags": Page(
        arguments=(("IMAGE", "Name of the image, as registry-image-list shows it."),),
        columns=("Image Tag",),
        environment=(*_REGISTRY, "XDG_CACHE_HOME"),
        examples=(
            ("system registry-image-tags docker.io/starlingx/app", "Show the tags of an image."),
            (
                "system registry-image-tags a -f value | sed s/^/a:/ | xargs system registry-image-delete",
                "Delete all tags of an image.",
            ),
        ),
    ),
}


def sections(command: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """The further sections of a command's help: (title, [(term, meaning)])."""
    page = PAGES[command]
    found: list[tuple[str, list[tuple[str, str]]]] = []
    if page.arguments:
        found.append(("Arguments", list(page.arguments)))
    if page.environment:
        found.append(("Environment", [(name, ENVIRONMENT[name]) for name in sorted(page.environment)]))
    found.append(("Exit status", [(str(code), text) for code, text in EXIT_CODES.items()]))
    return found


def write_epilog(command: str, formatter: HelpFormatter) -> None:
    """Write what follows the options in `system COMMAND --help`. A command without a page has none."""
    if command not in PAGES:
        return
    for title, terms in sections(command):
        with formatter.section(title):
            formatter.write_dl(terms)
    if columns := PAGES[command].columns:
        with formatter.section("Columns for -c"):
            formatter.write_text(", ".join(columns))
    with formatter.section("Examples"):
        for line, meaning in PAGES[command].examples:
            # Not wrapped: an example can be copied as it stands.
            formatter.write(f"{'':>{formatter.current_indent}}{line}\n")
            with formatter.indentation(), formatter.indentation():
                formatter.write_text(meaning)
    formatter.write("\nThe options of `system --help` may stand behind the command, too.\n")
