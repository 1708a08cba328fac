"""The man pages of sysreg-deploy(8), of the daemons, and of sysreg.conf(5).

Options come from the programs, and settings from the sample that is installed. The rest is below: what an
operator needs who looks after a controller in an emergency.
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sysreg_cli.agent.main import parser as agent_parser
from sysreg_cli.deploy.main import deploy
from sysreg_cli.token_server.main import parser as token_server_parser
from sysreg_cli.worker.main import parser as host_parser
from tools.man_page import escaped, head, options, paragraphs, terms
from tools.sample import Section

_SETTINGS = "The settings; see sysreg.conf(5)."
_CONF = {"/etc/sysreg/sysreg.conf": f"{_SETTINGS} SYSREG_CONF names another file."}


@dataclass(frozen=True)
class _Page:
    """What the code does not say about a program."""

    summary: str
    text: str
    signals: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    trouble: Mapping[str, str] = field(default_factory=dict)
    see: str = ""


_AGENT = _Page(
    "agent of the local container registry",
    "Runs as root, and does what needs root: it installs certificates, restarts services and collects"
    " garbage. The `system` command calls it on a unix socket, which the members of one group may use, and"
    " on HTTPS if `listen` is set. It renews the registry's certificate from a directory or a secret of"
    " Kubernetes if `source` is set, and a self-signed one by itself. When it starts, it first finishes or"
    " undoes a certificate change that was interrupted.",
    {
        "SIGHUP": "Read the TLS certificate again, and forget what Keystone said about tokens.",
        "SIGTERM": "Finish the calls under way, then stop.",
    },
    {
        **_CONF,
        "/run/sysreg/agent.sock": "The socket; sysreg-agent.socket makes it.",
        "/etc/sysreg/tls": "The certificate in use (`current`), and the two before it.",
        "/var/lib/sysreg": "The journal of a certificate change, the write lock (`write-fence`), and the"
        " results of the last collections, what is known about the source of the certificate, and the"
        " alarms that are set.",
    },
    {
        "Pushes wait and do not go on": "A garbage collection holds them. Run system registry-garbage-collect"
        " --status to see since when, and --cancel to end it without a loss. If agent and collector die, the"
        " kernel releases the lock.",
        "The socket is gone": "systemctl restart sysreg-agent.socket",
        "A certificate was refused": "The response names every reason. The old certificate is still in use.",
        "A renewal is not in use": "system certificate-show docker_registry says why (source_problem).",
    },
    "system(1), sysreg-deploy(8), sysreg.conf(5)",
)

_HOST = _Page(
    "trust of a worker in the local container registry",
    "Runs as root on each worker of a cluster. It follows in etcd which certificate the registry has, and"
    " keeps the files in certs.d by which docker and containerd trust it equal to that. It removes an earlier"
    " certificate only when its own probe has seen the registry present the next one, and it repairs what"
    " somebody changed. It says what it has done in etcd, where `system registry-host-list` on the controller"
    " reads it. It opens connections, and accepts none. sysreg-deploy --join sets it up.",
    {
        "SIGTERM": "Stop. The host is shown as down at once. What docker and containerd trust stays.",
    },
    {
        "/etc/sysreg/sysreg.conf": _SETTINGS,
        "/etc/sysreg/cluster": "What this host logs in to etcd with.",
        "/var/lib/sysreg/desired-certificate.json": "The certificate that this host has acted on last. With"
        " it, the host keeps its trust while etcd does not answer, and notices that etcd went back.",
        "/etc/docker/certs.d, /etc/containerd/certs.d": "The trusted certificates, sysreg-registry.crt,"
        " and hosts.toml.",
    },
    {
        "The host is not live": "On the controller, system registry-host-show HOST says why, and what to do.",
        "The host is down although it runs": "journalctl -u sysreg-host says which server of etcd refuses it"
        " or does not answer.",
        "Its password was lost": "On the controller: system registry-host-delete HOST, then registry-host-add"
        " HOST; here: sysreg-deploy --remove, then sysreg-deploy --join FILE.",
    },
    "sysreg-deploy(8), sysreg-agent(8), sysreg.conf(5), system(1)",
)

_TOKEN_SERVER = _Page(
    "tokens for the local container registry",
    "Answers `docker login` and the token request of every push and pull. It asks Keystone who the user is,"
    " and signs a token for what that user may do. Runs as the user sysreg-token without any capability.",
    {
        "SIGHUP": "Read the TLS certificate and the token-signing key again, and forget refused logins. If"
        " one of them cannot be read, the old one stays in use, and the journal says so.",
        "SIGTERM": "Answer the requests that wait for a garbage collection, then stop.",
    },
    {
        **_CONF,
        "/etc/sysreg/token/signing.key": "The key that signs; sysreg-deploy --rotate-token-key replaces it.",
        "/etc/sysreg/token/trusted.crt": "The certificates whose tokens the registry accepts.",
        "/var/lib/sysreg/token-server": "Refused logins, as keyed hashes.",
    },
    {
        "A correct password is refused (401)": "It was wrong before, and the token server does not ask"
        " Keystone about it again for a while. systemctl reload sysreg-token-server makes it forget.",
        "Logins end with 503": "Keystone does not answer: see journalctl -u sysreg-token-server.",
        "Does it run?": "curl -k https://registry.local:9002/health",
    },
    "sysreg-deploy(8), sysreg-agent(8), sysreg.conf(5)",
)

_DEPLOY = _Page(
    "make this machine a controller with a local container registry",
    "",
    {},
    {
        "/etc/sysreg/sysreg.conf": _SETTINGS,
        "/var/lib/sysreg/deploy.json": "What sysreg-deploy wrote, and what --remove therefore removes.",
        "/var/lib/sysreg/backup": "Files that sysreg-deploy replaced.",
        "/etc/sysreg/token": "The token-signing pair; during a rollover also next.* and retired.crt.",
    },
    {
        "Somebody changed a file": "sysreg-deploy --dry-run shows it, sysreg-deploy repairs it.",
        "A run was killed": "Run sysreg-deploy again. It also continues a rollover of the token-signing key.",
        "Somebody may have read the token-signing key": "sysreg-deploy --rotate-token-key",
    },
    "sysreg-agent(8), sysreg-token-server(8), sysreg.conf(5), docker-registry(1)",
)


def pages(introduction: str, settings: Iterable[Section]) -> dict[str, str]:
    """Map file names to pages in man(7) macros; ``introduction`` and ``settings`` are the sample's."""
    token_server = _argparse(token_server_parser())
    return {
        "sysreg-agent.8": _program("sysreg-agent", _AGENT, _argparse(agent_parser())),
        "sysreg-deploy.8": _program(
            "sysreg-deploy", _DEPLOY, dict(options(deploy)), inspect.cleandoc(deploy.help or "")
        ),
        "sysreg-host.8": _program("sysreg-host", _HOST, _argparse(host_parser())),
        "sysreg-token-server.8": _program("sysreg-token-server", _TOKEN_SERVER, token_server),
        "sysreg.conf.5": _settings(introduction, settings),
    }


def _program(name: str, page: _Page, flags: Mapping[str, str], text: str = "") -> str:
    lines = [
        *head(name, 8, page.summary),
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


def _settings(introduction: str, settings: Iterable[Section]) -> str:
    lines = [*head("sysreg.conf", 5, "settings of the local container registry"), ".SH DESCRIPTION"]
    lines += list(paragraphs(introduction))[1:]
    lines += paragraphs(
        "An unknown section, an unknown key or a bad value is an error. Each error is reported with file and"
        " line, and nothing starts."
    )
    for section in settings:
        lines.append(f".SH [{escaped(section.name)}]")
        lines += list(paragraphs(section.comment))[1:] if section.comment else []
        lines += terms({key.line: key.comment for key in section.keys})
    lines += [".SH SEE ALSO", escaped("sysreg-deploy(8), sysreg-agent(8), sysreg-token-server(8), system(1)")]
    return "\n".join(lines) + "\n"


def _argparse(parser: argparse.ArgumentParser) -> dict[str, str]:
    return {", ".join(action.option_strings): str(action.help) for action in parser._actions}
