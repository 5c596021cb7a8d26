"""The scheduler service: ranks hosts for batches of requests. Whether a host really has the room is decided by the
claim in the cell's database, which every scheduler races for."""

from __future__ import annotations

import logging
import threading

from cell.scheduler.refresh import Hosts
from cell.scheduler.select import select
from cellcloud import fastsched
from cellcloud.config import Config
from cellcloud.context import RequestContext, service_context
from cellcloud.model.placement import SelectAnswer, SelectRequest
from cellcloud.rpc.conductor import Conductor
from cellcloud.rpc.scheduler import Scheduler
from cellcloud.rpc.transport import Server, Transport, unique_name
from cellcloud.service import Loop

LOG = logging.getLogger(__name__)
REFRESH_SECONDS = 1.0
MAX_AGE_SECONDS = 2.0


class SchedulerService:
    """Serves the Scheduler verbs."""

    def __init__(self, config: Config, transport: Transport) -> None:
        self.name = "scheduler"
        self._transport = transport
        self._host = config.host
        conductor: Conductor = transport.client(Conductor)
        self._conductor = conductor
        self._hosts = Hosts(conductor)
        self._choosing = threading.Lock()
        self._refresh_loop = Loop("refresh", REFRESH_SECONDS, self._hosts.keep_fresh)
        self._heartbeat_loop = Loop("heartbeat", config.cell.report_interval, self._beat)
        self._server: Server | None = None

    # ---- service -----------------------------------------------------------------------------------------------
    def start(self) -> None:
        self._server = self._transport.serve(Scheduler, self, server=unique_name(self._host), threads=8)
        self._refresh_loop.start()
        self._heartbeat_loop.start()
        LOG.info("scheduler chooses", extra={"kernel": fastsched.KERNEL})

    def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.stop()
        self._refresh_loop.stop()
        self._heartbeat_loop.stop()

    def check(self) -> dict[str, str]:
        return {"refresh": self._refresh_loop.check()}

    # ---- verbs -------------------------------------------------------------------------------------------------
    def select(self, context: RequestContext, requests: list[SelectRequest], fresh: bool) -> list[SelectAnswer]:
        """No request is turned away on figures that were read before it came."""
        if fresh:
            return self._choose(context, requests, max_age=0.0)
        answers = self._choose(context, requests, max_age=MAX_AGE_SECONDS)
        refused = [request for request, answer in zip(requests, answers, strict=True) if not answer.hosts]
        if not refused:
            return answers
        again = {answer.server_id: answer for answer in self._choose(context, refused, max_age=0.0)}
        return [again.get(answer.server_id, answer) for answer in answers]

    def _choose(self, context: RequestContext, requests: list[SelectRequest], *, max_age: float) -> list[SelectAnswer]:
        hosts = self._hosts.newest(context, max_age=max_age)
        with self._choosing:
            return select(hosts, requests)

    def _beat(self) -> None:
        self._conductor.heartbeat(service_context(), "nova-scheduler", self._host)
