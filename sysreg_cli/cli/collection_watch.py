"""Wait for the end of a garbage collection, with a progress bar on a terminal."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from sysreg_cli.errors import (
    NotAuthenticated,
    NotAuthorized,
    ProtocolError,
    SysregError,
    TooManyRequests,
    Unavailable,
)
from sysreg_cli.v1.collections import CollectionResult, CollectionStatus, Phase, State

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

    from sysreg_cli.cli.agent_client import AgentClient

# The agent is asked again after this part of the time spent so far, within these bounds (seconds). So the
# wait for a short collection ends soon after it, and a long one is not disturbed.
_PAUSE_PART = 1 / 20
_MIN_PAUSE, _MAX_PAUSE = 0.05, 0.5
_STEPS = 1000
# short, so that the detail fits beside it on a line of 80 characters
_BAR_WIDTH = 16

#: shows phase, progress from 0 to 1, and detail
Show = Callable[[str, float, str], None]


class CollectionWatch:
    """Watches one collection. If the agent is busy or restarts, tries again for ``patience`` seconds."""

    def __init__(self, agent: AgentClient, identifier: str, *, patience: float, plan: bool = False) -> None:
        self._agent = agent
        self._identifier = identifier
        self._patience = patience
        self._plan = plan
        self._silent_since: float | None = None
        self._renewed = False

    def wait(self, limit: float = float("inf")) -> CollectionStatus:
        """Return the status after the end of the collection.

        Raises SysregError if the collection takes longer than ``limit`` seconds, and Unavailable,
        NotAuthenticated or NotAuthorized if the agent stops answering. The collection itself goes on then.
        """
        begun = time.monotonic()
        with progress_bar() as show:
            while True:
                status = self._poll()
                if status is not None:
                    if status.state != State.RUNNING or status.id != self._identifier:
                        show("end", 1.0, "")
                        return status
                    show(status.phase, status.progress, status.detail)
                elapsed = time.monotonic() - begun
                if elapsed > limit:
                    raise SysregError(
                        f"the collection has not ended within {limit:g} s", next_step="look with --status"
                    )
                time.sleep(min(max(elapsed * _PAUSE_PART, _MIN_PAUSE), _MAX_PAUSE))

    def _poll(self) -> CollectionStatus | None:
        """Ask the agent once. Returns None if it is busy or restarts."""
        try:
            status = self._agent.collection_status(plan=self._plan)
        except (NotAuthenticated, NotAuthorized) as error:
            if self._renewed:
                raise type(error)(
                    f"{error.message}: the wait is over, but the collection goes on",
                    next_step="look with --status",
                ) from error
            # the token may expire before the collection ends
            self._agent.renew_token()
            self._renewed = True
            return self._poll()
        except (Unavailable, TooManyRequests) as error:
            now = time.monotonic()
            self._silent_since = self._silent_since or now
            if now - self._silent_since > self._patience:
                raise Unavailable(
                    f"{error.message}: how the collection ended is not known",
                    next_step="look with --status when the agent answers again",
                ) from error
            return None
        self._silent_since, self._renewed = None, False
        return status


def result_of(status: CollectionStatus, identifier: str) -> CollectionResult:
    """Return how the collection ended. Raises ProtocolError if the agent does not know."""
    for result in status.results:
        if result.id == identifier:
            return result
    raise ProtocolError(
        "the agent doesn't know how the collection ended", next_step="see `journalctl -u sysreg-agent`"
    )


@contextlib.contextmanager
def progress_bar() -> Iterator[Show]:
    """Yield a function that draws the progress on a terminal, and does nothing elsewhere."""
    if not sys.stderr.isatty() or os.environ.get("TERM") in ("dumb", None):
        yield lambda phase, progress, detail: None
        return
    import click

    shown_detail = ""
    bar: ProgressBar[int]
    with click.progressbar(
        length=_STEPS,
        label=Phase.SCAN,
        file=sys.stderr,
        show_eta=False,
        width=_BAR_WIDTH,
        item_show_func=lambda item: shown_detail,
    ) as bar:

        def show(phase: str, progress: float, detail: str) -> None:
            nonlocal shown_detail
            bar.label = phase
            # a line that wraps would be drawn below itself again and again
            room = shutil.get_terminal_size().columns - len(phase) - _BAR_WIDTH - len("  []  100%  ") - 1
            shown_detail = detail[: max(room, 0)]
            bar.update(max(int(progress * _STEPS) - bar.pos, 0))
            bar.render_progress()

        yield show
