"""The verbs of a compute service. It answers to the server name its hosts report (``HostReport.queue``), by default
the host's own."""

from __future__ import annotations

from typing import Protocol

from cellcloud.context import RequestContext
from cellcloud.model.console import VNC, ConsoleAddress
from cellcloud.model.guest_commands import GuestCommand
from cellcloud.model.guest_questions import GuestDiagnostics, GuestQuestion
from cellcloud.model.image import Image
from cellcloud.model.network_plan import GivenPlan
from cellcloud.model.observed_guests import GuestDescription, GuestState
from cellcloud.rpc.accounts import Role
from cellcloud.rpc.interface import call, cast, served_by


@served_by(Role.HOST, callers=(Role.CONDUCTOR,))
class Compute(Protocol):
    @cast()
    def apply(self, context: RequestContext, host: str, commands: list[GuestCommand]) -> None:
        """Do each command on the host it names, else on ``host``; outcomes come back by Conductor.report_events."""
        ...

    @call(timeout=10.0, since=2)
    def cache_images(self, context: RequestContext, host: str, images: list[Image]) -> dict[str, str]:
        """Fetch images into the host's cache, unless they are there: ask again for those that are FETCHING.

        By image id what became of it: "existing", "cached", FETCHING, or "error: " and why. An end is told once.
        """
        ...

    @call(timeout=5.0)
    def get_console_output(self, context: RequestContext, host: str, server_id: str, length: int) -> str: ...

    @call(timeout=20.0, since=1)
    def ask_guest(
        self, context: RequestContext, host: str, server_id: str, generation: int, question: GuestQuestion
    ) -> GuestDiagnostics | None:
        """Figures where they are asked for. Raises NotFound, Stale when the guest has moved on; Conflict when it does
        not run; NotSupported, GuestFailed."""
        ...

    @call(timeout=5.0, by=(Role.CONSOLEAUTH,))
    def get_console(
        self, context: RequestContext, host: str, server_id: str, generation: int, protocol: str = VNC
    ) -> ConsoleAddress:
        """Return where a guest's console is. Raises Stale when the guest has moved on, NotFound when there is none,
        Conflict when it does not run, Invalid when it has no console of that protocol."""
        ...

    @call(timeout=5.0)
    def describe_guest(self, context: RequestContext, host: str, server_id: str) -> GuestDescription:
        """Return a guest with what it was made from. Raises NotFound when the host has no such guest, or does not know
        what it was made from."""
        ...

    @cast()
    def compare_guests(self, context: RequestContext, host: str) -> None:
        """Compare the host's guests with the cell's records now."""
        ...

    @cast(since=3)
    def change_plans(
        self, context: RequestContext, hosts: list[str], plans: list[GivenPlan], removed: dict[str, list[str]]
    ) -> None:
        """Have hosts make networks so, each those documents that name it; ``removed``: host -> keys of what it holds no
        more."""
        ...

    @call(timeout=10.0, since=4)
    def check_networks(self, context: RequestContext, hosts: list[str]) -> dict[str, list[str]]:
        """Return for each host in words where its networks are not as its guests and plans say; the first hundred."""
        ...

    @call(timeout=10.0, pages=("server_id",))
    def list_guests(self, context: RequestContext, host: str) -> list[GuestState]: ...
