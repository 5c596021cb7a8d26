"""Who asks, for which project, under which request id, and how long they will wait."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace

from cellcloud import clock, errors
from cellcloud.safe_regex import Pattern

REQUEST_ID = Pattern(r"req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", most=40)


def new_request_id() -> str:
    """Return a request id in OpenStack's form, ``req-<uuid>``."""
    return f"req-{uuid.uuid4()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContext:
    """Travels with every call.

    ``budget`` is the time left in seconds when the context was made or received; ``started`` is this process's
    monotonic clock at that moment, so budgets survive clocks that disagree between machines. What only the API asks
    does not travel: the domains of the caller and of its project, and the domain or ``system`` that its token is for.
    """

    request_id: str = field(default_factory=new_request_id)
    global_request_id: str | None = None
    user_id: str = ""
    project_id: str = ""
    roles: tuple[str, ...] = ()
    is_admin: bool = False
    user_domain_id: str = ""
    project_domain_id: str = ""
    domain_id: str = ""
    system: bool = False
    budget: float = 60.0
    started: float = field(default_factory=clock.monotonic)

    def remaining(self) -> float:
        """Seconds left; raises DeadlineExceeded when there are none."""
        left = self.budget - (clock.monotonic() - self.started)
        if left <= 0:
            raise errors.DeadlineExceeded("The time allowed for this request is used up.")
        return left

    def with_budget(self, seconds: float) -> RequestContext:
        """Return the same caller with ``seconds`` from now."""
        return replace(self, budget=seconds, started=clock.monotonic())

    def to_wire(self) -> dict[str, object]:
        """Plain values for a message; the budget is what is left now."""
        return {
            "request_id": self.request_id,
            "global_request_id": self.global_request_id,
            "user_id": self.user_id,
            "project_id": self.project_id,
            "roles": list(self.roles),
            "is_admin": self.is_admin,
            "budget": max(0.0, self.budget - (clock.monotonic() - self.started)),
        }

    @classmethod
    def from_wire(cls, data: dict[str, object]) -> RequestContext:
        """Read what ``to_wire`` wrote; unknown fields are ignored."""
        roles = data.get("roles")
        budget = data.get("budget", 60.0)
        gid = data.get("global_request_id")
        return cls(
            request_id=str(data.get("request_id") or new_request_id()),
            global_request_id=str(gid) if gid else None,
            user_id=str(data.get("user_id") or ""),
            project_id=str(data.get("project_id") or ""),
            roles=tuple(str(r) for r in roles) if isinstance(roles, list | tuple) else (),
            is_admin=bool(data.get("is_admin")),
            budget=float(budget) if isinstance(budget, int | float) else 60.0,
        )


def service_context(budget: float = 60.0) -> RequestContext:
    """Return a context for work that no user asked for: sweeps, heartbeats, reports."""
    return RequestContext(is_admin=True, roles=("admin", "service"), budget=budget)
