"""One damaged storage: delete tags, collect, type the remedies, and check what must hold."""

from __future__ import annotations

import contextlib
import io
import shlex
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from random import Random

from devstack.controller import Controller
from devstack.waiting import wait_until
from sysreg_cli import settings
from sysreg_cli.agent.registry_access import local_registry
from sysreg_cli.agent.storage import layout
from sysreg_cli.agent.storage.damage import STRAY
from sysreg_cli.agent.storage.tags import TagStorage
from sysreg_cli.cli.agent_client import AgentClient
from sysreg_cli.cli.invocation import Invocation
from sysreg_cli.cli.main import run as run_system
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
from tests.fuzz.storage import remedies, stores
from tests.fuzz.storage.damage import damage
from tests.fuzz.storage.judge import Judge
from tests.fuzz.storage.pristine import Pristine

_REPOSITORIES = ("app", "team/app", "team/app/sub")
_EVERYTHING = tuple(Access("repository", name, ("pull", "push", "delete")) for name in _REPOSITORIES)
#: what a failed delete says of files that the registry may not change
_BELONGS = "belong to another user"
# A remedy may uncover the next damage, for example below a manifest that could not be read.
_MAX_ROUNDS = 6


class Fuzzer:
    """Runs trials on one controller, whose storage it replaces."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.outcomes: Counter[str] = Counter()
        self.root = controller.paths.storage
        self.top = self.root / "docker/registry/v2"
        self.settings = settings.load(controller.paths.settings)
        self.storage = TagStorage(self.settings)
        self._signer = TokenSigner.load(self.settings)
        context = client_context(str(self.settings.certificate.chain))
        self._transport = Transport(self.settings.registry.base_url, context, timeout=60)
        self._environ = controller.openrc()

    def run(self, seed: int) -> list[str]:
        """Run the trial ``seed``. Returns what went wrong, a line each."""
        random = Random(seed)
        stores.build(self.root, random)
        pristine = Pristine.read(self.top)
        changes = [damage(self.top, random) for _ in range(random.choice([1, 1, 1, 2, 3]))]
        with local_registry(self.settings) as registry:
            trial = _Trial(self, registry, random, pristine)
            try:
                trial.run()
            except Exception as error:  # a bug in one storage ends no other trial
                trial.problems.append(f"{type(error).__name__}: {error}")
        return [f"{problem}   [{seed}: {'; '.join(changes)}]" for problem in trial.problems]

    def get(self, path: str, accept: str) -> tuple[int, bytes]:
        """Send a GET with a token that the signing key of the controller signs."""
        try:
            response = self._transport.request(
                "GET", path, headers={"Accept": accept, **self._authorization()}, retry_on=()
            )
        except SysregError:  # a blob that is shorter than the registry said
            return 0, b""
        return response.status, response.body

    def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> tuple[int, str]:
        """Send a request of a push. Returns the status and where to send the next one."""
        sent = {**headers, **self._authorization()}
        response = self._transport.request(method, path, headers=sent, body=body, retry_on=())
        location = response.headers.get("Location", "")
        return response.status, location.removeprefix(self.settings.registry.base_url)

    def type(self, command: str) -> str:
        """Type a command that a message names. Returns "" if it ended with 0, else what it said."""
        program, *arguments = shlex.split(command)
        if program != "system":
            done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
            return f"{done.returncode}: {done.stderr}" if done.returncode else ""
        self._forget_writes()
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            code = run_system(arguments, Invocation(self._environ))
        return f"{code}: {output.getvalue()}" if code else ""

    def collect(self, *, delete_untagged: bool, grace: int) -> CollectionResult:
        """Run a collection, and return its result."""
        self._forget_writes()
        # a new connection each time: the agent closes idle ones
        with contextlib.closing(UnixHTTPConnection(self.controller.paths.agent_socket, timeout=60)) as socket:
            agent = AgentClient(socket, "agent", timeout=60, token=None)
            agent.start_collection(dry_run=False, delete_untagged=delete_untagged, grace=grace)
            wait_until(lambda: agent.collection_status().state == State.IDLE, 60, what="it ends")
            result = agent.collection_status().last_result
        assert result is not None
        return result

    def _forget_writes(self) -> None:
        """Record that the last write token is old: a drain would wait for its end."""
        record = self.settings.paths.state / "latest-write-token"
        record.write_text(f"{time.time() - 600:19.6f}\n")

    def _authorization(self) -> dict[str, str]:
        service = self.settings.registry.address
        token = self._signer.sign("fuzzer", _EVERYTHING, lifetime=300, service=service)
        return {"Authorization": f"Bearer {token}"}


class _Trial:
    def __init__(self, fuzzer: Fuzzer, registry: RegistryClient, random: Random, pristine: Pristine) -> None:
        self.problems: list[str] = []
        self._fuzzer = fuzzer
        self._registry = registry
        self._random = random
        self._pristine = pristine
        #: tags that must be whole
        self._left: set[ImageReference] = set()
        self._blobs: dict[str, bool] = {}

    def run(self) -> None:
        self._left = self._pulling()
        wanted = sorted(self._left, key=str)
        self._random.shuffle(wanted)
        for image in wanted[: self._random.randint(1, max(1, len(wanted) - 1))]:
            self._delete(image)
            self._check(f"after the delete of {image}")
        result = self._collect()
        if not self.problems:
            self._mend(result)

    # -- deletes and the first collection

    def _delete(self, image: ImageReference) -> None:
        ((_, outcome),) = delete_images(self._registry, [image], storage=self._fuzzer.storage)
        if not isinstance(outcome, Deletion) and _BELONGS in str(outcome):
            stores.own(self._fuzzer.root)
            ((_, outcome),) = delete_images(self._registry, [image], storage=self._fuzzer.storage)
        elif isinstance(outcome, SysregError):
            remedy = remedies.read(str(outcome))
            if remedy and remedy.goes_first:
                self._fuzzer.type(remedy.commands[0])
                ((_, outcome),) = delete_images(self._registry, [image], storage=self._fuzzer.storage)
        if not isinstance(outcome, Deletion):
            self.problems.append(f"delete {image}: {outcome}")
            return
        self._left -= {other for other in self._left if self._is_same(other, image)}
        if image.tag in self._judge().listed(image.repository):
            self.problems.append(f"delete {image}: reported as deleted, but listed")
        self._fuzzer.outcomes["deleted"] += 1

    def _collect(self) -> CollectionResult:
        delete_untagged, grace = self._random.random() < 0.5, self._random.choice([0, 3600])
        damaged = {image for image in self._listed() - self._pulling() if not self._is_silent(image)}
        result = self._fuzzer.collect(delete_untagged=delete_untagged, grace=grace)
        self._blobs.clear()
        self._check(f"after a collection ({delete_untagged=}, {grace=})")
        if result.outcome == Outcome.DONE:
            self._fuzzer.outcomes["collected"] += 1
            texts = " ".join(result.warnings)
            for image in damaged:
                if str(image) not in texts and f"_manifests/tags/{image.tag} {STRAY}" not in texts:
                    self.problems.append(f"collection: does not name {image}: {result.warnings}")
        elif result.writes_held:
            self.problems.append(f"collection: held writes for {result.writes_held} s, then {result.error}")
        else:
            self._fuzzer.outcomes["refused before writes were held"] += 1
        return result

    # -- remedies

    def _mend(self, result: CollectionResult) -> None:
        """Type what the messages say until there are none, push all images again, and look once more.

        A damaged manifest does not say which sizes its layers have. So the second look may find those.
        """
        for _ in range(2):
            self._follow_all(result)
            stores.own(self._fuzzer.root)  # single files of root's are told by sysreg-deploy --check
            for image in sorted(self._pristine.tags, key=str):
                if self._pristine.can_be_pushed(image) and not self._is_silent(image):
                    self._push(image)
            result = self._fuzzer.collect(delete_untagged=False, grace=3600)
        wanted = {image for image in self._pristine.tags if self._pristine.can_be_pushed(image)}
        self._left |= {image for image in wanted if not self._is_silent(image)}
        self._blobs.clear()
        self._check("after all was mended, and pushed again")

    def _follow_all(self, result: CollectionResult) -> None:
        for _ in range(_MAX_ROUNDS):
            messages = result.warnings if result.outcome == Outcome.DONE else (result.error,)
            if not messages:
                break
            for message in messages:
                self._follow(message)
            result = self._fuzzer.collect(delete_untagged=False, grace=3600)
        else:
            self.problems.append(f"not mended: {messages}")
        self._blobs.clear()
        self._check("after the remedies")

    def _follow(self, message: str) -> None:
        remedy = remedies.read(message)
        if remedy is None:
            self.problems.append(f"no remedy: {message}")
            return
        pushable = [image for image in remedy.instead if self._pristine.can_be_pushed(image)]
        if pushable and len(pushable) == len(remedy.instead) and self._random.random() < 0.5:
            for image in pushable:
                self._push(image)
            return
        if remedy.after_grace_time:
            stores.make_old(self._fuzzer.top)
        for command in remedy.commands:
            self._fuzzer.outcomes[f"typed {command.partition(' -')[0].partition(' /')[0]}"] += 1
            failure = self._fuzzer.type(command)
            if _BELONGS in failure:
                stores.own(self._fuzzer.root)
                failure = self._fuzzer.type(command)
            for line in failure.splitlines():
                if (other := remedies.read(line)) and other.goes_first:
                    self._type_first(other.commands[0])
                    failure = self._fuzzer.type(command)
            # an earlier remedy may have deleted it
            if failure and "there is no such image" not in failure and "No such file" not in failure:
                self.problems.append(f"{command}: {failure} (for: {message})")
            self._left -= {image for image in self._left if str(image) in command.split()}

    def _type_first(self, command: str) -> None:
        """Type what a failed command says to do first."""
        self._fuzzer.type(command)
        self._left -= {image for image in self._left if str(image) in command.split()}

    def _push(self, image: ImageReference) -> None:
        try:
            self._pristine.push(image, self._fuzzer.send)
        except AssertionError as error:
            self.problems.append(f"push {image}: {error}")

    def _is_same(self, one: ImageReference, other: ImageReference) -> bool:
        """Whether both are one tag, because a symbolic link gives its repository a second name."""
        paths = [layout.repository(self._fuzzer.root, image.repository).resolve() for image in (one, other)]
        return one.tag == other.tag and paths[0] == paths[1]

    # -- what can be pulled

    def _check(self, when: str) -> None:
        for image in sorted(self._left - self._pulling(), key=str):
            self.problems.append(f"{image} does not pull {when}")

    def _pulling(self) -> set[ImageReference]:
        judge = self._judge()
        return {image for image in self._listed() if judge.pulls(image.repository, image.tag)}

    def _listed(self) -> set[ImageReference]:
        judge = self._judge()
        return {ImageReference(name, tag) for name in _REPOSITORIES for tag in judge.listed(name)}

    def _is_silent(self, image: ImageReference) -> bool:
        return image in self._pristine.tags and self._pristine.silently_damaged(image, self._fuzzer.top)

    def _judge(self) -> Judge:
        return Judge(self._fuzzer.get, self._blobs)
