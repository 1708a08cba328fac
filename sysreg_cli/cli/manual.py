"""What help says beyond click's own, for `system COMMAND --help`, the man page and docs/reference.rst.

The text about one command is beside the command. Loaded only when somebody asks for help.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sysreg_cli.cli.global_options import TEXT_OPTIONS

if TYPE_CHECKING:
    from click import HelpFormatter

    from sysreg_cli.cli.options import Command

#: the environment variables that the help explains
ENVIRONMENT: dict[str, str] = dict(
    sorted(
        {
            **{option.variable: option.help for option in TEXT_OPTIONS},
            "SYSREG_CONF": "Settings file; /etc/sysreg/sysreg.conf if not set.",
            "SYSREG_PASSPHRASE": "Passphrase of an encrypted private key.",
            "TERM": "With `dumb`: no progress bar.",
            "XDG_CACHE_HOME": "Where image names are kept for completion; ~/.cache if not set.",
        }.items()
    )
)

EXIT_CODES: dict[int, str] = {
    0: "Done.",
    1: "Failed; one line on standard error says what, on which object, why, and what to do next.",
    2: "Wrong usage; nothing was tried.",
    130: "Interrupted (Ctrl-C).",
}


def write_epilog(command: Command, formatter: HelpFormatter) -> None:
    """Write what follows the options in `system COMMAND --help`."""
    sections = {
        "Arguments": command.argument_help,
        "Environment": [(name, ENVIRONMENT[name]) for name in sorted(command.variables)],
        "Exit status": [(str(code), text) for code, text in EXIT_CODES.items()],
    }
    for title, terms in sections.items():
        if terms:
            with formatter.section(title):
                formatter.write_dl(terms)
    if command.columns:
        with formatter.section("Columns for -c"):
            formatter.write_text(", ".join(command.columns))
    with formatter.section("Examples"):
        for line, meaning in command.examples:
            # not wrapped, so that an example can be copied
            formatter.write(f"{'':>{formatter.current_indent}}{line}\n")
            with formatter.indentation(), formatter.indentation():
                formatter.write_text(meaning)
    formatter.write("\nThe options of `system --help` may stand behind the command, too.\n")
