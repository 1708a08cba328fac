"""The call that prunes images (docs/contracts.rst, "The agent's API")."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sysreg_cli.agent.context import AgentContext
from sysreg_cli.agent.identity import Caller, Role
from sysreg_cli.agent.parameters import flag, number
from sysreg_cli.agent.prune.pruning import Order, prune
from sysreg_cli.errors import NotFound, UsageError
from sysreg_cli.settings import MAX_DURATION, RetentionSettings, Settings
from sysreg_cli.text import shorten
from sysreg_cli.v1 import paths, wire
from sysreg_cli.v1.prune import Pruning

_MAX_KEEP = 999_999
_OF_A_RULE = ("image", "match", "keep", "older_than", "at_most")


def routes(context: AgentContext) -> list[Route]:
    """Return the route."""
    # one at a time: each reads the whole storage
    turn = threading.Lock()

    def run(order: Order) -> Pruning:
        with turn:
            return prune(context.settings, order)

    async def post(request: Request, caller: Caller) -> Response:
        order = replace(_parse(request, context.settings), by=caller.name)
        request.state.audit_object = _subject(order)
        # in a thread, because a client that goes away must not stop it
        pruning = await asyncio.to_thread(run, order)
        done = "would remove" if order.dry_run else "removed"
        request.state.audit_outcome = f"{done} {pruning.removed} of {len(pruning.tags)} tags"
        return JSONResponse(wire.to_json(pruning))

    return [context.route("POST", paths.PRUNE, post, Role.ADMIN, action="image prune")]


def _parse(request: Request, settings: Settings) -> Order:
    """Return what was asked for. Raises UsageError, NotFound."""
    policy = flag(request, "policy")
    rules = {"": _rule(request)}
    if policy:
        if any(name in request.query_params for name in _OF_A_RULE):
            raise UsageError(f"policy=True takes none of {', '.join(_OF_A_RULE)}")
        rules = dict(settings.retention)
        if not rules:
            raise NotFound(
                "sysreg.conf has no section [retention NAME]", next_step="add one, and run sysreg-deploy"
            )
    elif not rules[""].has_condition:
        raise UsageError("keep, older_than or match has to say which tags go")
    return Order(rules, policy=policy, dry_run=flag(request, "dry_run"), unlimited=flag(request, "yes"))


def _rule(request: Request) -> RetentionSettings:
    query = request.query_params
    globs = {name: tuple(query.getlist(name)) for name in ("image", "match")}
    if any(not glob for given in globs.values() for glob in given):
        raise UsageError("a glob is empty")
    return RetentionSettings(
        images=globs["image"] or ("*",),
        match=globs["match"],
        keep=number(request, "keep", 0, _MAX_KEEP),
        older_than=number(request, "older_than", 1, MAX_DURATION),
        at_most=_at_most(request),
    )


def _at_most(request: Request) -> int:
    given = number(request, "at_most", 0, 100)
    return RetentionSettings().at_most if given is None else given


def _subject(order: Order) -> str:
    """Return what the audit log names."""
    return "by policy" if order.policy else shorten(" ".join(order.rules[""].images))
