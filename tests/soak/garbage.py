"""Collections under load: pushes, pulls and deletes go on while one collection follows the other.

``python -m tests.soak.garbage --minutes 20`` starts a controller of its own, and prints figures. Four pushers
(one pauses between the last blob and the manifest, one uploads a blob drop by drop), four pullers, and docker
and skopeo, which push and pull as well; a collection starts some seconds after the last one ended. All along
and in the end, every image whose push reported success and whose tag nobody deleted must come back byte for
byte, and no pull of one may ever have failed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import requests

from devstack import images
from devstack.controller import Controller
from devstack.programs import REGISTRY
from tests.dockerd import Docker
from tests.soak.client import TIMEOUT, Client, Figures


class Tail:
    """Follows a log across its rotation."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open(errors="replace")
        self._file.seek(0, os.SEEK_END)

    def more(self) -> str:
        text = self._file.read()
        if self._path.stat().st_ino != os.fstat(self._file.fileno()).st_ino:
            self._file.close()
            self._file = self._path.open(errors="replace")
            text += self._file.read()
        return text


class Soak:
    """The load on one controller. A slow push takes ``slow`` seconds; ``rest`` is between two collections."""

    def __init__(self, controller: Controller, *, slow: float, rest: float, seed: int) -> None:
        self.controller = controller
        self.figures = Figures()
        self.slow, self.rest, self.seed = slow, rest, seed
        log = controller.paths.root / f"log/{REGISTRY}.log"
        self._tails = {name: Tail(log) for name in ("docker", "skopeo")}
        self.over = threading.Event()
        self.quiet = threading.Event()
        self._lock = threading.Lock()
        # (repository, tag) -> image. A delete removes the entry before it begins.
        self._stored: dict[tuple[str, str], images.Image] = {}

    def run(self, seconds: float) -> Figures:
        """Put the load on for ``seconds``, let pushes end, and read every image back."""
        with Docker(self.controller) as docker, tempfile.TemporaryDirectory() as directory:
            self._docker, self._directory = docker, Path(directory)
            return self._run(seconds)

    def _run(self, seconds: float) -> Figures:
        pushers = [self._thread(self._push, number) for number in range(4)]
        pushers += [self._thread(self._use_docker, 0), self._thread(self._use_skopeo, 0)]
        others = [self._thread(self._pull, number) for number in range(4)]
        others += [self._thread(self._delete, 0), self._thread(self._collect, 0)]
        self.over.wait(seconds)
        self.over.set()
        for pusher in pushers:
            pusher.join(TIMEOUT + 4 * self.slow)
        self.quiet.set()
        for other in others:
            other.join(TIMEOUT)
        client = Client(self.controller, self.figures)
        for (repository, tag), image in self._stored.items():
            self._read_back(client, repository, tag, image, "in the end")
        self.figures.count("images in the end", len(self._stored))
        return self.figures

    def _thread(self, work: Callable[[int, random.Random], None], number: int) -> threading.Thread:
        chance = random.Random(f"{self.seed}-{work.__name__}-{number}")
        thread = threading.Thread(target=work, args=(number, chance), daemon=True)
        thread.start()
        return thread

    def _push(self, number: int, chance: random.Random) -> None:
        client = Client(self.controller, self.figures)
        for turn in self._turns(chance):
            repository, tag = f"soak/{number}/{turn % 5}", f"t{turn}"
            multi = chance.random() < 0.3
            image = (
                images.multi_arch(20_000)
                if multi
                else images.single(chance.randint(1_000, 400_000), layers=3)
            )
            try:
                self._push_one(client, repository, tag, image, number, chance)
            except (requests.RequestException, OSError) as error:
                self.figures.fail(f"push {repository}:{tag}: {error}")
                continue
            with self._lock:
                self._stored[repository, tag] = image
            self.figures.count("pushes")

    def _push_one(
        self,
        client: Client,
        repository: str,
        tag: str,
        image: images.Image,
        number: int,
        chance: random.Random,
    ) -> None:
        for part in (*image.children, image) if image.children else (image,):
            for blob in part.blobs:
                if number == 3 and len(blob) > 5_000:
                    client.upload(repository, blob, pieces=20, pause=self.slow / 20)
                    self.figures.count("slow uploads")
                else:
                    client.upload(repository, blob)
            if part is image and number == 2:
                # The blobs are there without a manifest. Only pins keep them.
                self.over.wait(chance.uniform(0.3, 1.0) * self.slow)
                self.figures.count("slow manifests")
            client.put_manifest(repository, tag if part is image else part.digest, part)

    def _use_docker(self, _number: int, chance: random.Random) -> None:
        client = Client(self.controller, self.figures)
        for turn in self._turns(chance):
            repository, tag = f"soak/docker/{turn % 5}", f"t{turn}"
            reference = f"{self.controller.address}/{repository}:{tag}"
            content = chance.randbytes(chance.randint(1_000, 400_000))
            try:
                self._docker.make_image(reference, content)
                self._docker.run("push", reference)
                found = client.pull(repository, tag) or {}
                self._docker.run("rmi", reference)
                self._docker.run("pull", reference)
                self._docker.run("rmi", reference)
            except (subprocess.SubprocessError, requests.RequestException, ValueError) as error:
                self.figures.fail(f"docker {repository}:{tag}: {_said(error)}")
                continue
            self.figures.count("docker pushes and pulls")
            self._count_sent("docker", 2)
            manifest = next((data for data in found.values() if b"schemaVersion" in data), b"{}")
            blobs = tuple(data for data in found.values() if data is not manifest)
            if not any(data[:2] == b"\x1f\x8b" and content in gzip.decompress(data) for data in blobs):
                self.figures.fail(f"docker {repository}:{tag}: what was pushed isn't there")
            with self._lock:
                self._stored[repository, tag] = images.Image(manifest, images.DOCKER_MANIFEST, blobs)

    def _use_skopeo(self, _number: int, chance: random.Random) -> None:
        credentials = f"admin:{self.controller.passwords['admin']}"
        for turn in self._turns(chance):
            repository, tag = f"soak/skopeo/{turn % 5}", f"t{turn}"
            place = f"docker://{self.controller.address}/{repository}:{tag}"
            image = images.single(chance.randint(1_000, 400_000), layers=3)
            layout, pulled = self._directory / "layout", self._directory / "pulled"
            options: dict[str, Any] = {"check": True, "timeout": TIMEOUT}
            try:
                self.controller.run(
                    ["skopeo", "copy", "--dest-creds", credentials, image.write_layout(layout), place],
                    **options,
                )
                self.controller.run(
                    ["skopeo", "copy", "--src-creds", credentials, place, f"dir:{pulled}"], **options
                )
            except subprocess.SubprocessError as error:
                self.figures.fail(f"skopeo {repository}:{tag}: {_said(error)}")
                continue
            finally:
                shutil.rmtree(layout, ignore_errors=True)
                shutil.rmtree(pulled, ignore_errors=True)
            self.figures.count("skopeo pushes and pulls")
            self._count_sent("skopeo", 4)
            with self._lock:
                self._stored[repository, tag] = image

    def _turns(self, chance: random.Random) -> Iterator[int]:
        turn = 0
        while not self.over.is_set():
            turn += 1
            yield turn
            self.over.wait(chance.random() * 2)

    def _count_sent(self, name: str, blobs: int) -> None:
        """Count the blobs that were sent more often than once in a push of ``blobs`` blobs."""
        sent = len(re.findall(rf'"PATCH /v2/soak/{name}/', self._tails[name].more()))
        self.figures.count(f"{name}: blobs sent again", sent - blobs)

    def _pull(self, _number: int, chance: random.Random) -> None:
        client = Client(self.controller, self.figures)
        while not self.quiet.is_set():
            with self._lock:
                known = list(self._stored.items())
            if known:
                (repository, tag), image = chance.choice(known)
                self._read_back(client, repository, tag, image, "")
            self.quiet.wait(0.05)

    def _read_back(self, client: Client, repository: str, tag: str, image: images.Image, when: str) -> None:
        wanted = {images.digest_of(data) for data in (image.manifest, *image.blobs)}
        for child in image.children:
            wanted |= {images.digest_of(data) for data in (child.manifest, *child.blobs)}
        problem = ""
        try:
            found = client.pull(repository, tag)
            if found is None or found.keys() != wanted:
                problem = "is gone" if found is None else f"lacks {sorted(wanted - found.keys())}"
        except (requests.RequestException, OSError, ValueError) as error:
            problem = str(error)
        with self._lock:
            still = self._stored.get((repository, tag)) is image
        if problem and still:
            self.figures.fail(f"pull {repository}:{tag} {when} {problem}")
        self.figures.count("pulls" if not problem else "pulls of deleted images")

    def _delete(self, _number: int, chance: random.Random) -> None:
        client = Client(self.controller, self.figures)
        while not self.over.wait(chance.random() * 3):
            with self._lock:
                if len(self._stored) < 8:
                    continue
                repository, tag = chance.choice(list(self._stored))
                del self._stored[repository, tag]
            try:
                client.delete(repository, tag)
                self.figures.count("deletes")
            except requests.RequestException as error:
                self.figures.fail(f"delete {repository}:{tag}: {error}")

    def _collect(self, _number: int, chance: random.Random) -> None:
        while not self.over.wait(self.rest):
            done = self.controller.system(
                "registry-garbage-collect",
                *(["--delete-untagged"] if chance.random() < 0.5 else []),
                timeout=900,
            )
            status = json.loads(
                self.controller.system("registry-garbage-collect", "--status", "-f", "json").stdout
            )
            result = {
                "outcome": status["last_outcome"],
                "blobs": status["last_blobs"],
                "bytes": status["last_bytes"],
                "writes_held": status["last_writes_held"],
                "holds": status["last_holds"],
                "longest_hold": status["last_longest_hold"],
                "pinned": status["last_pinned"],
                "seconds": {
                    name: float(value)
                    for name, _, value in (word.partition("=") for word in status["last_phases"].split())
                },
            }
            self.figures.collections.append(result)
            print(f"{time.strftime('%H:%M:%S')} collection {result}", flush=True)
            if done.returncode:
                self.figures.fail(f"collection: {done.stderr.strip()}")


def _said(error: Exception) -> str:
    """Return the end of a failed command's error output, or the error."""
    if isinstance(error, subprocess.CalledProcessError):
        said = error.stderr if isinstance(error.stderr, str) else error.stderr.decode(errors="replace")
        return " ".join([*error.cmd[:3], *said.split()[-60:]])
    return str(error)


def main() -> int:
    """Run the soak; returns 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--slow", type=float, default=150.0, help="seconds a slow push takes at most")
    parser.add_argument("--rest", type=float, default=30.0, help="seconds between two collections")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    words = parser.parse_args()
    print(f"seed {words.seed}", flush=True)
    with Controller.temporary() as controller:
        soak = Soak(controller, slow=words.slow, rest=words.rest, seed=words.seed)
        figures = soak.run(words.minutes * 60)
    print("\n".join(figures.lines()))
    return 1 if figures.failures or not figures.counts["pushes"] else 0


if __name__ == "__main__":
    sys.exit(main())
