"""The names of the commands of sysreg, and where each is written. This table needs no import.

``main`` builds its lazy group from it, and ``delegation`` decides by it which commands are sysreg's. A test
keeps each summary equal to the first line of the command's help.
"""

from __future__ import annotations

# Command name -> ("module:attribute" of its click command, the line that `system --help` shows for it).
COMMANDS: dict[str, tuple[str, str]] = {
    "bash-completion": ("sysreg_cli.cli.basics:bash_completion", "Print all command and option words."),
    "ca-certificate-uninstall": (
        "sysreg_cli.cli.certificate_undo:ca_uninstall",
        "Remove a CA certificate that certificate-install added.",
    ),
    "certificate-install": ("sysreg_cli.cli.certificates:install", "Install a certificate."),
    "certificate-list": ("sysreg_cli.cli.certificates:list_all", "List the installed certificates."),
    "certificate-request": (
        "sysreg_cli.cli.csr:request",
        "Make a key and a certificate signing request for the registry.",
    ),
    "certificate-rollback": (
        "sysreg_cli.cli.certificate_undo:rollback",
        "Go back to an earlier certificate of the registry.",
    ),
    "certificate-show": ("sysreg_cli.cli.certificates:show", "Show an installed certificate."),
    "certificate-uninstall": (
        "sysreg_cli.cli.certificate_undo:uninstall",
        "Remove a CA certificate that certificate-install added.",
    ),
    "help": ("sysreg_cli.cli.basics:show_help", "Show the help of the program or of a command."),
    "registry-garbage-collect": ("sysreg_cli.cli.garbage:collect", "Free the space of deleted images."),
    "registry-health-query": (
        "sysreg_cli.cli.health:query",
        "Say what is wrong with this controller, and what to do.",
    ),
    "registry-host-add": (
        "sysreg_cli.cli.hosts:add",
        "Add a host, and write the file with which it joins.",
    ),
    "registry-host-delete": ("sysreg_cli.cli.hosts:delete", "Delete a host."),
    "registry-host-list": ("sysreg_cli.cli.hosts:list_all", "List the hosts that use the registry."),
    "registry-host-show": (
        "sysreg_cli.cli.hosts:show",
        "Show a host, and what to do if something is wrong with it.",
    ),
    "registry-image-delete": ("sysreg_cli.cli.images:delete", "Delete tags of images."),
    "registry-image-list": ("sysreg_cli.cli.images:list_images", "List the images of the registry."),
    "registry-image-prune": ("sysreg_cli.cli.prune:prune", "Remove tags of images by rules."),
    "registry-image-restore": ("sysreg_cli.cli.restore:restore", "Undo the delete of tags of images."),
    "registry-image-show": (
        "sysreg_cli.cli.image_show:show",
        "Show an image, and what goes if it is deleted.",
    ),
    "registry-image-tags": ("sysreg_cli.cli.images:list_tags", "List the tags of an image."),
    "registry-usage": ("sysreg_cli.cli.usage:usage", "Show where the space of the registry went."),
}
