"""The scheduler service: ranks hosts for batches of servers. Whether a host really has the room is decided by the
claim in the cell's database, which every scheduler races for."""

from __future__ import annotations

import logging
import random
import zlib

from cell.scheduler.change_log_tailer import ChangeLogTailer
from cell.scheduler.select import batches
from cell.scheduler.why import explanation_rendering
from cell.scheduler.why.operator_queries import OperatorQueries
from cellcloud import clock, fastsched, metrics
from cellcloud.config import Config
from cellcloud.context import RequestContext, service_context
from cellcloud.model.decision import RankAnswer, RankBatch, Shape
from cellcloud.model.explanation import Explanation, Fits, Loss, Replayed
from cellcloud.rpc.conductor import Conductor
from cellcloud.rpc.scheduler import Scheduler
from cellcloud.rpc.scheduling_store import SchedulingStore
from cellcloud.rpc.transport import Server, Transport, unique_name
from cellcloud.service import Loop

LOG = logging.getLogger(__name__)
FOLLOW_SECONDS = 0.25
PREPARE_SECONDS = 10.0
BATCH_BITS = 62


class SchedulerService:
    """Serves the Scheduler verbs."""

    def __init__(self, config: Config, transport: Transport) -> None:
        self.name = "scheduler"
        self._transport = transport
        self._host = config.host
        self._cell = config.cell.name
        self._own_name = unique_name(config.host)
        self._conductor: Conductor = transport.client(Conductor)
        seed = zlib.crc32(self._own_name.encode())
        store = transport.client(SchedulingStore)
        self.tailer = ChangeLogTailer(store, scheduler=self._own_name, order_seed=seed)
        self.queries = OperatorQueries(self.tailer, store, self._conductor)
        self._numbers = random.SystemRandom()
        self._follow_loop = Loop("follow", FOLLOW_SECONDS, self.tailer.keep_up)
        self._heartbeat_loop = Loop("heartbeat", config.cell.report_interval, self._beat)
        self._prepare_loop = Loop("prepare", PREPARE_SECONDS, lambda: self.queries.prepare(service_context()))
        self._server: Server | None = None

    # ---- service -----------------------------------------------------------------------------------------------
    def start(self) -> None:
        self._server = self._transport.serve(Scheduler, self, server=self._own_name, threads=8)
        self._follow_loop.start()
        self._heartbeat_loop.start()
        self._prepare_loop.start()
        LOG.info("scheduler selects", extra={"kernel": fastsched.KERNEL})

    def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.stop()
        self._follow_loop.stop()
        self._heartbeat_loop.stop()
        self._prepare_loop.stop()

    def check(self) -> dict[str, str]:
        return {"follow": self._follow_loop.check()}

    # ---- verbs -------------------------------------------------------------------------------------------------
    def rank(self, context: RequestContext, batch: RankBatch) -> RankAnswer:
        """Rank hosts, and refuse nobody on figures that were read before the call."""
        answer = self._rank(context, batch)
        if all(ranked or position in answer.malformed for position, ranked in enumerate(answer.ranked)):
            return answer
        self.tailer.catch_up(context)
        with self.tailer.state(context) as state:
            if state.sequence == answer.basis.sequence:
                return answer
            batches.undo(state, batch)
        return self._rank(context, batch)

    def log_grew(self, context: RequestContext, newest: int) -> None:
        self.tailer.nudge(newest)
        self._follow_loop.wake()

    # ---- verbs for operators -----------------------------------------------------------------------------------
    def explain(self, context: RequestContext, key: str, host: str | None, most: int) -> list[Explanation]:
        return self.queries.explain(context, key, host, most)

    def replay(self, context: RequestContext, decision: str, policy: dict[str, object] | None) -> Replayed:
        return self.queries.replay(context, decision, policy)

    def plan_fits(self, context: RequestContext, shape: Shape, servers: int) -> Fits:
        return self.queries.plan_fits(context, shape, servers)

    def plan_loss(self, context: RequestContext, hosts: list[str], drain: bool) -> Loss:
        return self.queries.plan_loss(context, hosts, drain=drain)

    # ---- inside ------------------------------------------------------------------------------------------------
    def _rank(self, context: RequestContext, batch: RankBatch) -> RankAnswer:
        policy = self.tailer.policy
        if policy is not None:
            batches.prepare(batch, policy)
        with self.tailer.state(context, at_least=batch.at_least) as state:
            number = self._numbers.getrandbits(BATCH_BITS)
            with metrics.RANKING.labels(self._cell).time():
                answer = batches.answer_batch(
                    state, batch, number, now=clock.monotonic(), reasons_of=explanation_rendering.reasons_of
                )
        for number in answer.why:
            for name in answer.refused[number] if number >= 0 else ():
                metrics.REFUSALS.labels(name).inc()
        return answer

    def _beat(self) -> None:
        self._conductor.heartbeat(service_context(), "nova-scheduler", self._host)
