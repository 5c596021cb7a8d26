"""What a cell may say upwards without being asked: that its feed has grown. The router listens on the cell's queue."""

from __future__ import annotations

from typing import Protocol

from cellcloud.context import RequestContext
from cellcloud.rpc.accounts import Role
from cellcloud.rpc.interface import cast, served_by


@served_by(Role.TOP, callers=(Role.CONDUCTOR,))
class Router(Protocol):
    @cast(fanout=True)
    def feed_grew(self, context: RequestContext, newest: int) -> None: ...
