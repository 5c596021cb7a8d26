"""The scheduler's verbs."""

from __future__ import annotations

from typing import Protocol

from cellcloud.context import RequestContext
from cellcloud.model.decision import RankAnswer, RankBatch, Shape
from cellcloud.model.explanation import Explanation, Fits, Loss, Replayed
from cellcloud.rpc.accounts import Role
from cellcloud.rpc.interface import call, cast, served_by


@served_by(Role.SCHEDULER, callers=(Role.TOP,))
class Scheduler(Protocol):
    @call(timeout=8.0, by=(Role.CONDUCTOR,))
    def rank(self, context: RequestContext, batch: RankBatch) -> RankAnswer:
        """Rank hosts for many servers, best first; the best one's room counts as taken until the change log says
        what became of it. Nobody is refused on figures that were read before the call."""
        ...

    @cast(fanout=True, by=(Role.CONDUCTOR,))
    def log_grew(self, context: RequestContext, newest: int) -> None:
        """Hear that the change log has entries up to ``newest``: something that idle schedulers should know soon."""
        ...

    # ---- from operators ----------------------------------------------------------------------------------------
    @call(timeout=60.0)
    def explain(self, context: RequestContext, key: str, host: str | None, most: int) -> list[Explanation]:
        """Why a server got its host, or none: by server id, request id or decision id, oldest first; [] when the cell
        has no such decision. ``host``: one to say all about; ``most``: feasible hosts to show."""
        ...

    @call(timeout=60.0)
    def replay(self, context: RequestContext, decision: str, policy: dict[str, object] | None) -> Replayed:
        """Make a decision again, as it was or by another policy document. Raises NotFound, Invalid, and Conflict when
        what it was made from is not stored any more."""
        ...

    @call(timeout=60.0)
    def plan_fits(self, context: RequestContext, shape: Shape, servers: int) -> Fits:
        """Return how many such servers the cell has room for now, and where."""
        ...

    @call(timeout=60.0)
    def plan_loss(self, context: RequestContext, hosts: list[str], drain: bool) -> Loss:
        """Return where the servers of hosts would go if these were lost, or drained. Raises NotFound."""
        ...
