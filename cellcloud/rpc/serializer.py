"""What crosses a queue, and how: contexts, arguments, answers and errors, as oslo.messaging's serializer.

What a call is given and what it answers cross as texts: oslo.messaging writes and reads all values twice, one by one,
and a batch has thousands of them. They are written where they are made, so that what cannot be is its maker's fault.
What arrives stays as it came until it is known of which verb it is: only that says how it is to be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cellcloud.third_party_patches  # noqa: F401 -- first, before oslo.messaging is loaded

# isort: split
import oslo_messaging as messaging

from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.model import codec
from cellcloud.rpc import paging


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a verb is given. ``page``: what a caller that reads lists in pages wants of one, see ``paging``."""

    texts: Mapping[str, Any]
    page: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Arguments:
        """Write down a call's arguments. Raises TypeError for what cannot be written down."""
        return cls({name: codec.to_wire(value) for name, value in given.items()})


@dataclass(frozen=True, slots=True)
class Reply:
    """What a verb answers. ``more``: of a page, the key to ask on from."""

    text: Any
    more: paging.Key | None = None

    @classmethod
    def of(cls, value: Any) -> Reply:
        """Write down an answer. Raises TypeError for what cannot be written down."""
        return cls(codec.to_wire(value))


@dataclass(frozen=True, slots=True)
class Heard:
    """Who asks, and the name of the account that the queue vouches for."""

    context: RequestContext
    account: str


@dataclass(frozen=True, slots=True)
class Message:
    """What has arrived: arguments or an answer, not yet read."""

    plain: Mapping[str, Any] = field(default_factory=dict)

    def arguments(self, kinds: Mapping[str, Any]) -> dict[str, Any]:
        """Those that were given, each read as its kind. Raises Invalid."""
        return {name: codec.from_wire(self.plain[name], kind) for name, kind in kinds.items() if name in self.plain}

    @property
    def page(self) -> Mapping[str, Any] | None:
        """What is wanted of a list, by callers that read it in pages."""
        wanted: Mapping[str, Any] | None = self.plain.get(paging.WANTED)
        return wanted

    @property
    def account(self) -> str:
        """The name of the account that gave this answer."""
        return str(self.plain.get("sender"))

    @property
    def more(self) -> paging.Key | None:
        """The key to ask on from; None where the list ends."""
        key: paging.Key | None = self.plain.get(paging.MORE)
        return key

    def answer(self, kind: Any) -> Any:
        """Return what was answered, read as ``kind``. Raises the error that was answered instead, Invalid."""
        problem = self.plain.get("error")
        if problem is not None:
            raise _error_of(problem)
        return codec.from_wire(self.plain.get("answer"), kind)


class Serializer(messaging.Serializer):  # type: ignore[misc]
    """Writes what is sent and takes in what has come, on both sides of a queue."""

    def serialize_context(self, ctxt: RequestContext) -> dict[str, object]:
        """Return the context in plain values."""
        return ctxt.to_wire()

    def deserialize_context(self, ctxt: dict[str, Any]) -> Heard:
        """Return the context, and whose it is."""
        return Heard(RequestContext.from_wire(ctxt), str(ctxt.get("account", "")))

    def serialize_entity(self, ctxt: Any, entity: Any) -> dict[str, Any]:
        """Arguments, an answer or an error, in plain values. Raises TypeError for anything else."""
        match entity:
            case Arguments(texts, page):
                return {**texts} if page is None else {**texts, paging.WANTED: page}
            case Reply(text, more):
                return {"answer": text} if more is None else {"answer": text, paging.MORE: more}
            case errors.CellcloudError():
                return {"error": _problem_of(entity)}
        raise TypeError(f"{type(entity).__name__} does not cross queues")

    def deserialize_entity(self, ctxt: Any, entity: Any) -> Message:
        """Return what has come. Raises Unreachable for what is no message of ours."""
        if not isinstance(entity, dict):
            raise errors.Unreachable("A service gave an answer that cannot be read.")
        return Message(entity)


def _problem_of(error: errors.CellcloudError) -> dict[str, Any]:
    kinds = errors.lineage(error)
    return {"name": kinds[0], "kinds": list(kinds), "message": error.message, "detail": error.detail}


def _error_of(problem: Mapping[str, Any]) -> errors.CellcloudError:
    """Return the nearest error known here; of a sender that tells no ancestors, by its name alone."""
    kind = errors.nearest(problem.get("kinds") or [problem.get("name", "")])
    error = kind(problem.get("message", ""), detail=problem.get("detail", ""))
    error.relayed = True
    return error
