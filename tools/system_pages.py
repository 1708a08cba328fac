"""The man pages of the system: sysreg-deploy(8), sysreg-agent(8), sysreg-token-server(8), sysreg.conf(5).

Options come from the programs, settings and their defaults from the sample that is installed, the rest is
below: what somebody needs who looks at a controller at three in the morning.
"""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sysreg_cli import __version__
from sysreg_cli.agent.main import parser as agent_parser
from sysreg_cli.deploy.main import deploy
from sysreg_cli.token_server.main import parser as token_server_parser
from tools.man_page import escaped, options, paragraphs, terms

SAMPLE = Path(__file__).resolve().parent.parent / "etc/sysreg/sysreg.conf"

_SETTINGS = "The settings; see sysreg.conf(5)."
_CONF = {"/etc/sysreg/sysreg.conf": f"{_SETTINGS} SYSREG_CONF names another file."}


@dataclass(frozen=True)
class _Page:
    """What the code doesn't know to tell of a program."""

    summary: str
    text: str
    signals: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    trouble: Mapping[str, str] = field(default_factory=dict)
    see: str = ""


_AGENT = _Page(
    "agent of the local container registry",
    "Runs as root and does what needs root: installs certificates, restarts services, collects garbage. It"
    " answers the `system` command on a unix socket, on which its group may connect, and on HTTPS where"
    " `listen` is set. At its start it first finishes a certificate change that was cut short.",
    {
        "SIGHUP": "Read the TLS certificate again, and forget what Keystone said about tokens.",
        "SIGTERM": "End after the calls under way.",
    },
    {
        **_CONF,
        "/run/sysreg/agent.sock": "Where it listens; sysreg-agent.socket makes it.",
        "/etc/sysreg/tls": "The certificate in use (`current`) and the two before it.",
        "/var/lib/sysreg": "Journal of a certificate change, the write lock, the last collection's result.",
    },
    {
        "Pushes wait and don't go on": "A collection holds them: system registry-garbage-collect --status"
        " says since when, --cancel ends it without a loss. Whatever dies, the kernel opens the write lock.",
        "The socket is gone": "systemctl restart sysreg-agent.socket",
        "A certificate was refused": "Every reason is in the answer; the old one stays in use.",
    },
    "system(1), sysreg-deploy(8), sysreg.conf(5)",
)

_TOKEN_SERVER = _Page(
    "tokens for the local container registry",
    "Answers `docker login` and every push and pull: asks Keystone who somebody is, and signs a token for"
    " what that user may do. Runs as sysreg-token without any capability.",
    {
        "SIGHUP": "Read the TLS certificate and the token-signing key again, and forget refused logins. What"
        " cannot be read stays as it was, and the journal says so.",
        "SIGTERM": "End; requests that wait for a collection are answered first.",
    },
    {
        **_CONF,
        "/etc/sysreg/token/signing.key": "The key that signs; sysreg-deploy --rotate-token-key replaces it.",
        "/etc/sysreg/token/trusted.crt": "The certificates whose tokens the registry accepts.",
        "/var/lib/sysreg/token-server": "Refused logins, as keyed hashes.",
    },
    {
        "A right password is refused (401)": "It was wrong before, and Keystone isn't asked about that pair"
        " again for a while: systemctl reload sysreg-token-server forgets it.",
        "Logins end with 503": "Keystone does not answer: journalctl -u sysreg-token-server names it.",
        "Is it alive?": "curl -k https://registry.local:9002/health",
    },
    "sysreg-deploy(8), sysreg-agent(8), sysreg.conf(5)",
)

_DEPLOY = _Page(
    "make this machine a controller with a local container registry",
    "",
    {},
    {
        "/etc/sysreg/sysreg.conf": _SETTINGS,
        "/var/lib/sysreg/deploy.json": "What was laid down, and so what --remove takes away.",
        "/var/lib/sysreg/backup": "Files that stood there before, and edited ones that were replaced.",
        "/etc/sysreg/token": "The token-signing pair; next.* and retired.crt are there while it rolls over.",
    },
    {
        "Something was changed by hand": "sysreg-deploy --dry-run shows it, sysreg-deploy mends.",
        "A run was killed": "Run it again; also a rollover of the token-signing key goes on where it was.",
        "The token-signing key is known to others": "sysreg-deploy --rotate-token-key",
    },
    "sysreg-agent(8), sysreg-token-server(8), sysreg.conf(5), docker-registry(1)",
)


def pages() -> dict[str, str]:
    """File name -> page in man(7) macros; the same text for the same programs, so that it can be compared."""
    help_text = inspect.cleandoc(deploy.help or "")
    return {
        "sysreg-agent.8": _program("sysreg-agent", _AGENT, _argparse(agent_parser())),
        "sysreg-deploy.8": _program("sysreg-deploy", _DEPLOY, dict(options(deploy)), help_text),
        "sysreg-token-server.8": _program(
            "sysreg-token-server", _TOKEN_SERVER, _argparse(token_server_parser())
        ),
        "sysreg.conf.5": _settings(SAMPLE.read_text()),
    }


def _program(name: str, page: _Page, flags: Mapping[str, str], text: str = "") -> str:
    lines = [
        *_head(name, 8, page.summary),
        ".SH SYNOPSIS",
        f".B {escaped(name)}",
        "[OPTIONS]",
        ".SH DESCRIPTION",
        *list(paragraphs(text or page.text))[1:],
        ".SH OPTIONS",
        *terms(flags),
        ".SH EXIT STATUS",
        "0: done; 1: failed, and one line on standard error says why; 2: wrong usage.",
    ]
    for title, entries in (("SIGNALS", page.signals), ("FILES", page.files), ("TROUBLE", page.trouble)):
        if entries:
            lines += [f".SH {title}", *terms(entries)]
    return "\n".join([*lines, ".SH SEE ALSO", escaped(page.see)]) + "\n"


def _settings(sample: str) -> str:
    """sysreg.conf(5) from the sample: its sections, keys with their defaults, and the comments above them."""
    lines = [
        *_head("sysreg.conf", 5, "settings of the local container registry"),
        ".SH DESCRIPTION",
    ]
    introduction, *sections = re.split(r"^\[(\w+)\]\n", sample, flags=re.MULTILINE)
    lines += list(paragraphs(" ".join(line.lstrip("# ") for line in introduction.splitlines())))[1:]
    lines += [
        ".PP",
        "An unknown section or key and a bad value are named with file and line,",
        "and nothing starts.",
    ]
    for section, text in zip(sections[::2], sections[1::2], strict=True):
        lines.append(f".SH [{escaped(section)}]")
        comment: list[str] = []
        for line in text.splitlines():
            if line.startswith("# "):
                comment.append(line[2:])
            elif line.startswith("#"):
                lines += [".TP", f".B {escaped(line[1:].strip())}"]
                lines += list(paragraphs(" ".join(comment)))[1:] if comment else ["\\&"]
                comment = []
    lines += [".SH SEE ALSO", escaped("sysreg-deploy(8), sysreg-agent(8), sysreg-token-server(8), system(1)")]
    return "\n".join(lines) + "\n"


def _head(name: str, section: int, summary: str) -> Iterator[str]:
    yield '.\\" Written by `python -m tools.write_reference`; change the sources it names, not this file.'
    yield f'.TH {name.upper()} {section} 2026-11-25 "sysreg {__version__}" "System administration"'
    yield ".SH NAME"
    yield f"{escaped(name)} \\- {escaped(summary)}"


def _argparse(parser: argparse.ArgumentParser) -> dict[str, str]:
    return {", ".join(action.option_strings): str(action.help) for action in parser._actions}
