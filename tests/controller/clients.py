"""Clients of a controller: docker, containerd, skopeo, kubectl and ``system``."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import trustme

from tests.controller.installation import openrc, passwords
from tests.controller.machine import Machine

REGISTRY = "registry.local:9001"
_CRI_PULL = Path(__file__).with_name("cri_pull.py")


def start_runtimes(machine: Machine) -> None:
    """Start dockerd and containerd, with empty stores."""
    machine.run("systemctl", "start", "containerd.service", "docker.service")


def make_image(machine: Machine, name: str, size: int = 2_000_000) -> None:
    """Make an image of one layer of ``size`` random bytes, in dockerd under ``name``."""
    machine.shell(
        f"mkdir -p /root/{name}/bin; head -c {size} /dev/urandom >/root/{name}/bin/busybox\n"
        f"tar -C /root/{name} -c . | docker import - {name} >/dev/null; rm -r /root/{name}"
    )


def login(machine: Machine, user: str, password: str | None = None, *, status: int = 0) -> str:
    """``docker login`` with the password on standard input; returns its output."""
    done = machine.run(
        *("docker", "login", "--username", user, "--password-stdin", REGISTRY),
        stdin=passwords(machine)[user] if password is None else password,
        status=status,
    )
    return done.stdout + done.stderr


def push(machine: Machine, image: str, repository: str, *, status: int = 0) -> str:
    """Tag a local image for the registry and push it; returns docker's output."""
    reference = f"{REGISTRY}/{repository}"
    machine.run("docker", "tag", image, reference)
    done = machine.run("docker", "push", reference, status=status, timeout=120)
    return done.stdout + done.stderr


def system(machine: Machine, user: str, *arguments: str, status: int = 0, timeout: float = 60) -> str:
    """Run ``system`` as a user who sourced openrc. Returns stdout; stderr, if it is to fail."""
    project = "admin" if user == "admin" else "tenant1"
    done = machine.run(
        "system", *arguments, environ=openrc(machine, user, project), status=status, timeout=timeout
    )
    if status == 0:
        assert done.stderr == "", done.stderr
    return done.stderr if status else done.stdout


def pull_secret(machine: Machine, user: str, password: str | None = None) -> Path:
    """Make an imagePullSecret with kubectl. Returns a file with its .dockerconfigjson."""
    made = machine.json(
        *("kubectl", "create", "secret", "docker-registry", "regcred", f"--docker-server={REGISTRY}"),
        f"--docker-username={user}",
        f"--docker-password={passwords(machine)[user] if password is None else password}",
        *("--dry-run=client", "-o", "json"),
    )
    decoded = base64.b64decode(made["data"][".dockerconfigjson"]).decode()
    assert json.loads(decoded)["auths"][REGISTRY]["username"] == user
    secret = machine.share / "secret"
    secret.write_text(decoded)
    return secret


def cri_pull(machine: Machine, repository: str, secret: Path | None = None, *, status: int = 0) -> str:
    """Pull through containerd's CRI, as a kubelet does. Returns its reference; stderr, if it is to fail."""
    socket = machine.file("/run/containerd/containerd.sock")
    words = [sys.executable, str(_CRI_PULL), str(socket), f"{REGISTRY}/{repository}"]
    words += [str(secret)] if secret else []
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stderr if status else done.stdout.strip()


def archive(machine: Machine, name: str, size: int) -> str:
    """Save an image of one layer of ``size`` random bytes, as docker does. Returns skopeo's name for it."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        _add(tar, "blob", os.urandom(size))
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    platform = {"architecture": "amd64", "os": "linux"}
    config = json.dumps(
        {**platform, "config": {}, "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]}}
    )
    manifest = json.dumps([{"Config": "config.json", "RepoTags": None, "Layers": ["layer.tar"]}])
    with tarfile.open(machine.share / f"{name}.tar", "w") as tar:
        _add(tar, "layer.tar", layer.getvalue())
        _add(tar, "config.json", config.encode())
        _add(tar, "manifest.json", manifest.encode())
    return f"docker-archive:/run/share/{name}.tar"


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def copy(machine: Machine, user: str, source: str, target: str, *, status: int = 0) -> str:
    """``skopeo copy`` with a user's credentials for both sides; returns its output."""
    credentials = f"{user}:{passwords(machine)[user]}"
    side = [f"--dest-creds={credentials}"] if target.startswith("docker://") else []
    side += [f"--src-creds={credentials}"] if source.startswith("docker://") else []
    done = machine.run("skopeo", "--insecure-policy", "copy", *side, source, target, status=status)
    return done.stdout + done.stderr


def skopeo(machine: Machine, user: str, verb: str, repository: str, *, status: int = 0) -> str:
    """``skopeo VERB`` with a user's credentials. Returns stdout; stderr, if it is to fail."""
    credentials = f"{user}:{passwords(machine)[user]}"
    done = machine.run(
        "skopeo", verb, "--creds", credentials, f"docker://{REGISTRY}/{repository}", status=status
    )
    return done.stderr if status else done.stdout


def storage_bytes(machine: Machine) -> int:
    """The size of the registry's storage."""
    return int(machine.run("du", "--summarize", "--bytes", "/var/lib/docker-registry").stdout.split()[0])


def ca_signed_certificate(directory: Path, *names: str) -> Path:
    """Write a file with key, certificate and CA to ``directory``, and the CA alone to ``ca.crt``."""
    authority = trustme.CA(organization_name="Example CA")
    issued = authority.issue_cert(*names)
    path = directory / "registry.pem"
    path.write_bytes(
        issued.private_key_pem.bytes()
        + b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        + authority.cert_pem.bytes()
    )
    path.chmod(0o600)
    (directory / "ca.crt").write_bytes(authority.cert_pem.bytes())
    return path
