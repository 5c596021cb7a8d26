"""The console authority's verbs."""

from __future__ import annotations

from typing import Protocol

from cellcloud.context import RequestContext
from cellcloud.model.console import ConsoleAddress, ConsoleGrant
from cellcloud.rpc.accounts import Role
from cellcloud.rpc.interface import call, served_by


@served_by(Role.CONSOLEAUTH, callers=(Role.CONSOLEAUTH,))
class ConsoleAuth(Protocol):
    @call(timeout=8.0, by=(Role.TOP,))
    def create_console(self, context: RequestContext, server_id: str, protocol: str, type: str) -> ConsoleGrant:
        """Return a new single-use token. Raises NotFound, Conflict, Invalid (a protocol the cell does not offer)."""
        ...

    @call(timeout=8.0, by=(Role.TOP,), since=1)
    def find_console(self, context: RequestContext, token: str) -> ConsoleAddress:
        """Return where a token leads, without using it up. Raises NotFound, Stale."""
        ...

    @call(timeout=8.0)
    def redeem(self, context: RequestContext, token: str) -> ConsoleAddress:
        """Use a token up, ask the host again, and answer where to connect. Raises NotFound, Stale."""
        ...

    @call(timeout=5.0)
    def check(self, context: RequestContext, server_id: str, generation: int) -> bool:
        """Return whether a console opened at that generation may stay open."""
        ...
