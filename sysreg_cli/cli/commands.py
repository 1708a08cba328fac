"""The names of our commands, and where each is written: the one table that needs no import of click.

``main`` builds its lazy group from it, ``handover`` decides by it whether a command is ours, and the bash
completion, the man page and the README's reference are generated from the click commands it leads to.
A new command is one line here; a test keeps each summary equal to the first line of the command's own help,
and the options equal to those of ``options.py``.
"""

from __future__ import annotations

# Command name -> ("module:attribute" of its click command, the line `system --help` shows for it).
COMMANDS: dict[str, tuple[str, str]] = {
    "bash-completion": ("sysreg_cli.cli.basics:bash_completion", "Print all command and option words."),
    "certificate-install": ("sysreg_cli.cli.certificates:install", "Install a certificate."),
    "certificate-list": ("sysreg_cli.cli.certificates:list_all", "List the installed certificates."),
    "certificate-show": ("sysreg_cli.cli.certificates:show", "Show an installed certificate."),
    "help": ("sysreg_cli.cli.basics:show_help", "Show the help of the program or of a command."),
    "registry-garbage-collect": ("sysreg_cli.cli.garbage:collect", "Free the space of deleted images."),
    "registry-image-delete": ("sysreg_cli.cli.images:delete", "Delete tags of images."),
    "registry-image-list": ("sysreg_cli.cli.images:list_images", "List the images of the registry."),
    "registry-image-tags": ("sysreg_cli.cli.images:list_tags", "List the tags of an image."),
}

# The options that may stand before the command and take a value, and those that take none.
GLOBAL_OPTIONS_WITH_VALUE = (
    "--agent",
    "--column",
    "--format",
    "--os-application-credential-id",
    "--os-application-credential-secret",
    "--os-auth-token",
    "--os-auth-url",
    "--os-cacert",
    "--os-interface",
    "--os-password",
    "--os-project-domain-name",
    "--os-project-name",
    "--os-region-name",
    "--os-user-domain-name",
    "--os-username",
    "--registry",
    "--registry-ca",
    "--timeout",
    "-c",
    "-f",
)
GLOBAL_FLAGS = ("--debug", "--help", "--version", "-h")
