"""One damaged storage: delete tags, collect, follow the advice, and check what must hold."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from random import Random

from devstack.controller import Controller
from devstack.waiting import wait_until
from sysreg_cli import settings
from sysreg_cli.agent.registry_access import local_registry
from sysreg_cli.cli.agent_client import AgentClient
from sysreg_cli.errors import SysregError
from sysreg_cli.reference import ImageReference
from sysreg_cli.registry.client import RegistryClient
from sysreg_cli.registry.deletion import Deletion, delete_images
from sysreg_cli.registry.transport import Transport
from sysreg_cli.registry.trust import client_context
from sysreg_cli.tokens.access import Access
from sysreg_cli.tokens.signer import TokenSigner
from sysreg_cli.v1.collections import CollectionResult, Outcome, State
from sysreg_cli.v1.unix_socket import UnixHTTPConnection
from tests.fuzz.storage import stores
from tests.fuzz.storage.damage import damage
from tests.fuzz.storage.judge import Judge

_REPOSITORIES = ("app", "team/app", "team/app/sub")
_PULL_ALL = tuple(Access("repository", name, ("pull",)) for name in _REPOSITORIES)


class Fuzzer:
    """Runs trials on one controller, whose storage it replaces."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.outcomes: Counter[str] = Counter()
        self._root = controller.paths.storage
        self._settings = settings.load(controller.paths.settings)
        self._signer = TokenSigner.load(self._settings)
        context = client_context(str(self._settings.certificate.chain))
        self._transport = Transport(self._settings.registry.base_url, context, timeout=60)

    def run(self, seed: int) -> list[str]:
        """Run the trial ``seed``. Returns what went wrong, a line each."""
        random = Random(seed)
        stores.build(self._root, random)
        top = self._root / "docker/registry/v2"
        changes = [damage(top, random) for _ in range(random.choice([1, 1, 1, 2, 3]))]
        with local_registry(self._settings) as registry:
            trial = _Trial(self, registry, random)
            trial.run()
        return [f"{problem}   [{seed}: {'; '.join(changes)}]" for problem in trial.problems]

    def get(self, path: str, accept: str) -> tuple[int, bytes]:
        """Send a GET with a token that the signing key of the controller signs."""
        token = self._signer.sign("fuzzer", _PULL_ALL, lifetime=300, service=self._settings.registry.address)
        headers = {"Accept": accept, "Authorization": f"Bearer {token}"}
        try:
            response = self._transport.request("GET", path, headers=headers, retry_on=())
        except SysregError:  # a blob that is shorter than the registry said
            return 0, b""
        return response.status, response.body

    def collect(self, *, delete_untagged: bool, grace: int) -> CollectionResult:
        record = self._settings.paths.state / "latest-write-token"
        record.write_text(f"{time.time() - 600:19.6f}\n")  # a drain would wait for the last write token
        # a new connection each time: the agent closes idle ones
        with contextlib.closing(UnixHTTPConnection(self.controller.paths.agent_socket, timeout=60)) as socket:
            agent = AgentClient(socket, "agent", timeout=60, token=None)
            agent.start_collection(dry_run=False, delete_untagged=delete_untagged, grace=grace)
            wait_until(lambda: agent.collection_status().state == State.IDLE, 60, what="it ends")
            result = agent.collection_status().last_result
        assert result is not None
        return result


class _Trial:
    def __init__(self, fuzzer: Fuzzer, registry: RegistryClient, random: Random) -> None:
        self.problems: list[str] = []
        self._fuzzer = fuzzer
        self._registry = registry
        self._random = random

    def run(self) -> None:
        before = self._pulling()
        wanted = sorted(before, key=str)
        self._random.shuffle(wanted)
        left = set(before)
        for image in wanted[: self._random.randint(1, max(1, len(wanted) - 1))]:
            if self._delete(image):
                left.discard(image)
            self._check(left, f"after the delete of {image}")
        self._collect(left)

    def _delete(self, image: ImageReference) -> bool:
        ((_, outcome),) = delete_images(self._registry, [image])
        if isinstance(outcome, Deletion):
            if image.tag in self._judge().listed(image.repository):
                self.problems.append(f"delete {image}: reported as deleted, but listed")
            self._fuzzer.outcomes["deleted"] += 1
            return True
        self.problems.append(f"delete {image}: {outcome}")
        return False

    def _collect(self, left: set[ImageReference]) -> None:
        delete_untagged, grace = self._random.random() < 0.5, self._random.choice([0, 3600])
        damaged = self._listed() - self._pulling()
        result = self._fuzzer.collect(delete_untagged=delete_untagged, grace=grace)
        self._check(left, f"after a collection ({delete_untagged=}, {grace=})")
        if result.outcome == Outcome.DONE:
            self._fuzzer.outcomes["collected"] += 1
            texts = " ".join(result.warnings)
            for image in damaged:
                if str(image) not in texts:
                    self.problems.append(f"collection: does not name {image}: {result.warnings}")
            return
        if result.writes_held:
            self.problems.append(f"collection: held writes for {result.writes_held} s, then {result.error}")
        else:
            self._fuzzer.outcomes["refused before writes were held"] += 1

    def _check(self, wanted: set[ImageReference], when: str) -> None:
        for image in sorted(wanted - self._pulling(), key=str):
            self.problems.append(f"{image} does not pull {when}")

    def _pulling(self) -> set[ImageReference]:
        judge = self._judge()
        return {image for image in self._listed() if judge.pulls(image.repository, image.tag)}

    def _listed(self) -> set[ImageReference]:
        judge = self._judge()
        return {ImageReference(name, tag) for name in _REPOSITORIES for tag in judge.listed(name)}

    def _judge(self) -> Judge:
        return Judge(self._fuzzer.get)
