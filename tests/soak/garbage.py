"""Collections under load: pushes, pulls and deletes go on while one collection follows the other.

``python -m tests.soak.garbage --minutes 20`` starts a controller of its own, and prints figures. Four pushers
(one pauses between the last blob and the manifest, one uploads a blob drop by drop) and four pullers; a
collection starts some seconds after the last one ended. In the end, and all along, every image whose push
reported success and whose tag nobody deleted must come back byte for byte, and no pull of one may ever have
failed.

The clients speak HTTP by the specification and share no code with sysreg_cli.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import requests

from devstack import images
from devstack.controller import Controller

# Longer than the token server holds a request for a write token.
_TIMEOUT = 400


@dataclass
class Figures:
    """What happened; ``failures`` must stay empty."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    collections: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str, number: int = 1) -> None:
        with self.lock:
            self.counts[what] += number

    def fail(self, text: str) -> None:
        with self.lock:
            self.failures.append(f"{time.strftime('%H:%M:%S')} {text}")
        print(f"FAILED {text}", file=sys.stderr, flush=True)

    def lines(self) -> Iterator[str]:
        done = [one for one in self.collections if one["outcome"] == "done"]
        drains = [one["seconds"].get("drain", 0.0) for one in done if one["writes_held"]]
        held = [one["writes_held"] for one in done if one["writes_held"]]
        yield "  ".join(f"{name} {number}" for name, number in sorted(self.counts.items()))
        yield f"collections {len(self.collections)}, of them done {len(done)}, that held writes {len(held)}"
        yield f"blobs freed {sum(one['blobs'] for one in done)}, bytes {sum(one['bytes'] for one in done)}, "
        yield f"kept for pushes under way {sum(one['pinned'] for one in done)}"
        for name, values in (("drain s", drains), ("writes held s", held), ("pushes waited s", self.waits)):
            if values:
                ordered = sorted(values)
                yield (
                    f"{name}: {len(values)} times, median {ordered[len(ordered) // 2]:.1f},"
                    f" most {ordered[-1]:.1f}"
                )
        yield f"failures {len(self.failures)}"
        yield from self.failures[:20]


class Client:
    """One person's registry client: keeps a token as long as it may, as c/image does."""

    def __init__(self, controller: Controller, figures: Figures) -> None:
        self._controller = controller
        self._figures = figures
        self._session = requests.Session()
        self._session.trust_env = False
        self._tokens: dict[str, tuple[float, str]] = {}

    def call(self, method: str, path: str, scope: str, **options: Any) -> requests.Response:
        headers = {**options.pop("headers", {}), "Authorization": f"Bearer {self._token(scope)}"}
        url = path if path.startswith("https://") else self._controller.url + path
        return self._session.request(
            method, url, headers=headers, verify=str(self._controller.ca_file), timeout=_TIMEOUT, **options
        )

    def _token(self, scope: str) -> str:
        until, token = self._tokens.get(scope, (0.0, ""))
        if time.monotonic() < until:
            return token
        begun = time.monotonic()
        answer = self._session.get(
            self._controller.token_url,
            params={"service": self._controller.address, "scope": scope},
            auth=("admin", self._controller.passwords["admin"]),
            verify=str(self._controller.ca_file),
            timeout=_TIMEOUT,
        )
        answer.raise_for_status()
        waited = time.monotonic() - begun
        if waited > 1:
            with self._figures.lock:
                self._figures.waits.append(waited)
        body = answer.json()
        self._tokens[scope] = (begun + waited + body["expires_in"] - 1, body["token"])
        return str(body["token"])

    def upload(self, repository: str, data: bytes, *, pieces: int = 1, pause: float = 0.0) -> None:
        """One blob, in ``pieces`` with a ``pause`` before each, in one request: drop by drop."""
        scope = f"repository:{repository}:pull,push"
        begun = self.call("POST", f"/v2/{repository}/blobs/uploads/", scope)
        begun.raise_for_status()
        place = begun.headers["Location"]
        size = max(1, -(-len(data) // pieces))

        def drops() -> Iterator[bytes]:
            for start in range(0, len(data), size):
                time.sleep(pause)
                yield data[start : start + size]

        self.call(
            "PUT",
            f"{place}{'&' if '?' in place else '?'}digest=sha256:{hashlib.sha256(data).hexdigest()}",
            scope,
            data=drops() if pause else data,
            headers={"Content-Type": "application/octet-stream"},
        ).raise_for_status()
        self._figures.count("blobs sent")

    def put_manifest(self, repository: str, tag: str, image: images.Image) -> None:
        self.call(
            "PUT",
            f"/v2/{repository}/manifests/{tag}",
            f"repository:{repository}:pull,push",
            data=image.manifest,
            headers={"Content-Type": image.media_type},
        ).raise_for_status()

    def pull(self, repository: str, reference: str) -> dict[str, bytes] | None:
        """Everything of an image by digest, checked against it; None if the tag is gone."""
        scope = f"repository:{repository}:pull"
        accept = {"Accept": ", ".join(images.MANIFEST_TYPES)}
        answer = self.call("GET", f"/v2/{repository}/manifests/{reference}", scope, headers=accept)
        if answer.status_code == 404 and not reference.startswith("sha256:"):
            return None
        answer.raise_for_status()
        found = {images.digest_of(answer.content): answer.content}
        body = json.loads(answer.content)
        for child in body.get("manifests", ()):
            found |= self.pull(repository, child["digest"]) or {}
        for blob in [body["config"], *body["layers"]] if "config" in body else ():
            answer = self.call("GET", f"/v2/{repository}/blobs/{blob['digest']}", scope)
            answer.raise_for_status()
            if images.digest_of(answer.content) != blob["digest"]:
                raise ValueError(f"{repository}: {blob['digest']} came back changed")
            found[blob["digest"]] = answer.content
        return found

    def delete(self, repository: str, tag: str) -> None:
        scope = f"repository:{repository}:pull,push,delete"
        digest = None
        answer = self.call(
            "HEAD",
            f"/v2/{repository}/manifests/{tag}",
            scope,
            headers={"Accept": ", ".join(images.MANIFEST_TYPES)},
        )
        digest = answer.headers.get("Docker-Content-Digest")
        self.call("DELETE", f"/v2/{repository}/manifests/{digest}", scope).raise_for_status()


class Soak:
    """The load on one controller. Seconds: ``slow`` of a slow push, ``rest`` between collections."""

    def __init__(self, controller: Controller, *, slow: float, rest: float, seed: int) -> None:
        self.controller = controller
        self.figures = Figures()
        self.slow, self.rest, self.seed = slow, rest, seed
        self.over = threading.Event()
        self.quiet = threading.Event()
        self._lock = threading.Lock()
        # (repository, tag) -> image; whoever deletes takes the entry out first.
        self._stored: dict[tuple[str, str], images.Image] = {}

    def run(self, seconds: float) -> Figures:
        """Load for so long; pushes under way then end, and everything is read back."""
        pushers = [self._thread(self._push, number) for number in range(4)]
        others = [self._thread(self._pull, number) for number in range(4)]
        others += [self._thread(self._delete, 0), self._thread(self._collect, 0)]
        self.over.wait(seconds)
        self.over.set()
        for pusher in pushers:
            pusher.join(_TIMEOUT + 4 * self.slow)
        self.quiet.set()
        for other in others:
            other.join(_TIMEOUT)
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
        turn = 0
        while not self.over.is_set():
            turn += 1
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
            self.over.wait(chance.random() * 2)

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
                # The blobs are there, the manifest isn't: what a collection loses that doesn't pin them.
                self.over.wait(chance.uniform(0.3, 1.0) * self.slow)
                self.figures.count("slow manifests")
            client.put_manifest(repository, tag if part is image else part.digest, part)

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
        while not self.quiet.wait(self.rest):
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
