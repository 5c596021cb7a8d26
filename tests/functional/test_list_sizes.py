"""Every verb that answers with a list: in messages of at most 1 MiB, whole, in order, whatever changes meanwhile."""

from __future__ import annotations

import datetime as dt
import enum
import types
import typing
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from cell.conductor.rpc_endpoint import ConductorService
from cell.conductor.scheduling_store import SchedulingStoreService
from cellcloud import config as options
from cellcloud.batching import MOST_BYTES
from cellcloud.context import RequestContext, service_context
from cellcloud.db import cell_schema, hosts, scheduler_change_log, services
from cellcloud.db.engine import Database
from cellcloud.model import codec
from cellcloud.model.change_log import Changes
from cellcloud.model.host import Host
from cellcloud.rpc import paging, transport
from cellcloud.rpc.compute import Compute
from cellcloud.rpc.conductor import Conductor
from cellcloud.rpc.interface import Verb, verbs_of
from cellcloud.rpc.serializer import Heard, Message
from cellcloud.rpc.transport import Transport
from tests.architecture.test_budgets import INTERFACES
from tests.workflows.world import make_report

PAGED = {
    f"{interface.__name__}.{verb.name}": (interface, verb)
    for interface in INTERFACES
    for verb in verbs_of(interface).values()
    if verb.pages
}
FITTING = "answers what fits, and is asked again: test_message_sizes"
OTHERWISE = {
    "Conductor.reserve": FITTING,
    "Conductor.confirm": FITTING,
    "Conductor.begin_deletes": FITTING,
    "Conductor.get_servers": FITTING,
    "Conductor.get_user_data": FITTING,
    "Conductor.apply_external_events": "a number for each event of the question",
    "Conductor.list_versions": "pairs of an id and a number, as many as are asked for: test_message_sizes",
    "SchedulingStore.list_decision_ids": "short ids, of the servers of one request or the decisions about one",
    "SchedulingStore.list_bases": "figures of as many batches as are asked for",
    "SchedulingStore.set_policy_role": "changes something, so that it is asked once: what list_policies answers",
    "SchedulingStore.set_aggregates": "changes something, so that it is asked once: what list_aggregates answers",
    "Scheduler.explain": "made at some cost, so that it is asked once: of one request, with as many hosts as asked for",
}
COUNT = 40
TIMES = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
BIG = "é" * 30_000


def test_every_verb_that_lists_is_bounded() -> None:
    lists = {
        f"{interface.__name__}.{verb.name}"
        for interface in INTERFACES
        for verb in verbs_of(interface).values()
        if verb.answered and typing.get_origin(verb.answer) is list
    }
    assert lists == PAGED.keys() | OTHERWISE.keys()
    assert not PAGED.keys() & OTHERWISE.keys()


# ---- examples of what verbs answer with ------------------------------------------------------------------------------
def example(kind: Any, number: int = 0) -> Any:
    """A value of that type, without more in it than there must be."""
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return next(iter(kind))
    if is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        needed = [one for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING]
        return cast(Any, kind)(**{one.name: example(hints[one.name], number) for one in needed})
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return example(next(one for one in typing.get_args(kind) if one is not type(None)), number)
    plain: dict[Any, Any] = {str: f"{number:04}", int: number, float: 0.0, bool: True, dt.datetime: TIMES}
    return plain[kind] if kind in plain else (typing.get_origin(kind) or kind)()


def told_apart(item: Any, name: str, number: int) -> Any:
    """The item with another value of that attribute."""
    first, _, rest = name.lstrip("-").partition(".")
    if rest:
        return replace(item, **{first: told_apart(getattr(item, first), rest, number)})
    hint = str(typing.get_type_hints(type(item))[first])
    if "datetime" in hint:
        return replace(item, **{first: TIMES + dt.timedelta(seconds=number)})
    return replace(item, **{first: number if "int" in hint else f"{number:04}"})


def with_much_text(item: Any, pages: tuple[str, ...]) -> Any:
    """The item with a large text in it, in the first place for one; the same item where there is none."""
    hints = typing.get_type_hints(type(item))
    for name, hint in hints.items():
        if name not in pages and str(hint) in ("<class 'str'>", "str | None"):
            return replace(item, **{name: (getattr(item, name) or "") + BIG})
    for name in hints:
        inner = getattr(item, name)
        if is_dataclass(inner) and (larger := with_much_text(inner, ())) is not inner:
            return replace(item, **{name: larger})
    return item


def examples(verb: Verb, count: int = COUNT) -> list[Any]:
    """Items that differ, each by one of the attributes that pages are cut by, in the order in which they go."""
    (kind,) = typing.get_args(verb.answer)
    made = []
    for number in range(count):
        item = example(kind, number)
        place = number % len(verb.pages)
        for each, name in enumerate(verb.pages):
            item = told_apart(item, name, number // len(verb.pages) if each < place else number)
        made.append(with_much_text(item, tuple({*verb.pages} - {"text"})))
    return made


class Serving:
    """The verbs of an interface, each answered from a list, and the bytes of each answer."""

    def __init__(self, interface: type[Any]) -> None:
        self.sizes: list[int] = []
        self.between: Callable[[], None] = lambda: None
        self.transport = Transport("lists", "kombu+memory://", shim=self._measure)
        verbs: Any = types.SimpleNamespace(**dict.fromkeys(verbs_of(interface), self.answer))
        self._server = self.transport.serve(interface, verbs, server="lists", threads=1)
        self._client = self.transport.client(interface, server="lists" if interface is Compute else None)

    def expect(self, verb: Verb) -> None:
        self.verb, self.items, self.between = verb, examples(verb), lambda: None
        self.sizes.clear()

    def answer(self, *args: Any, **kwargs: Any) -> Any:
        return list(self.items)

    def _measure(self, interface: str, verb: str, deliver: Callable[[], Any]) -> Any:
        reply = deliver()
        self.sizes.append(len(str(reply.plain["answer"])))
        self.between()
        return reply

    def ask(self) -> list[Any]:
        given = [example(kind) for kind in self.verb.parameters.values()]
        found: list[Any] = getattr(self._client, self.verb.name)(service_context(), *given)
        return found

    def close(self) -> None:
        self._server.stop()
        self.transport.close()


@pytest.fixture(scope="module")
def served() -> Iterator[dict[type[Any], Serving]]:
    made = {interface: Serving(interface) for interface in {interface for interface, _ in PAGED.values()}}
    yield made
    for one in made.values():
        one.close()


def serving_of(served: dict[type[Any], Serving], name: str) -> Serving:
    interface, verb = PAGED[name]
    served[interface].expect(verb)
    return served[interface]


@pytest.mark.parametrize("name", PAGED)
def test_no_list_is_larger_than_a_message(served: dict[type[Any], Serving], name: str) -> None:
    serving = serving_of(served, name)
    items = serving.items
    key_of, descending = paging._order(serving.verb.pages)
    serving.items = items[::2] + items[1::2]
    assert codec.wire_size(items) > 2 * MOST_BYTES
    assert serving.ask() == sorted(items, key=key_of, reverse=descending)
    assert len(serving.sizes) > 2
    assert max(serving.sizes) <= MOST_BYTES + 100

    serving.sizes.clear()
    serving.items = items[5:2:-1]
    assert serving.ask() == items[5:2:-1]  # what fits goes at once, in the order in which the verb answers
    assert len(serving.sizes) == 1
    serving.items = []
    assert serving.ask() == []


@pytest.mark.parametrize("name", PAGED)
def test_what_is_there_all_the_while_is_told_once(served: dict[type[Any], Serving], name: str) -> None:
    serving = serving_of(served, name)
    key_of, descending = paging._order(serving.verb.pages)
    in_order = sorted(serving.items, key=key_of, reverse=descending)
    passing, lasting = in_order[::5], [item for place, item in enumerate(in_order) if place % 5]
    serving.items = [*passing[::2], *lasting]

    def change() -> None:
        """Some go, others come, and the rest are told in another order."""
        serving.items = [*passing[1::2], *reversed(lasting)]

    serving.between = change
    found = serving.ask()
    assert [item for item in found if item in lasting] == lasting


def test_alike_items_are_all_told(served: dict[type[Any], Serving]) -> None:
    serving = serving_of(served, "Conductor.get_timeline")
    serving.items = [item for item in serving.items for _ in "ab"]
    assert sorted(map(str, serving.ask())) == sorted(map(str, serving.items))
    assert len(serving.sizes) > 2


def test_a_caller_that_knows_no_pages_gets_the_whole(served: dict[type[Any], Serving]) -> None:
    serving = serving_of(served, "Conductor.list_hosts")
    handle = transport._handler(serving.transport, "Conductor", serving.verb, serving.answer)
    reply = handle(Heard(service_context(), serving.transport.account.name), Message({}))
    assert codec.from_wire(reply.text, serving.verb.answer) == serving.items


def test_a_page_of_the_change_log_fits(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/cell.db")
    with database.write() as connection:
        cell_schema.metadata.create_all(connection)
        for number in range(30):
            scheduler_change_log.append(connection, Changes(ended=(f"{number}" + "x" * 60_000,)))
    store, after, seen, pages = SchedulingStoreService(database), 0, 0, defaultdict[int, int](int)
    while True:
        page = store.list_changes(service_context(), after, 1000)
        if not page.entries:
            break
        assert codec.wire_size(page) <= MOST_BYTES + 1000
        pages[after] += 1
        seen, after = seen + len(page.entries), page.entries[-1].sequence
        assert page.newest == 30
    database.close()
    assert seen == 30
    assert len(pages) > 1


def test_a_large_cell_tells_of_its_hosts_some_at_a_time(tmp_path: Path) -> None:
    """What a page costs does not grow with the cell: no more hosts are read for it than are told, but for a few."""
    database = Database(f"sqlite:///{tmp_path}/cell.db")
    with database.write() as connection:
        cell_schema.metadata.create_all(connection)
        reports = [make_report(f"h{number:04}") for number in range(700)]
        info = {"features": ["x" * 4_000]}
        hosts.report(connection, [replace(one, facts=replace(one.facts, cpu_info=info)) for one in reports])
        for binary in ("nova-conductor", "nova-a", "nova-scheduler"):
            services.beat(connection, binary, "h0001")
    line = Transport("large", "kombu+memory://", shim=lambda interface, verb, deliver: measured(verb, deliver()))
    sizes: dict[str, list[int]] = defaultdict(list)

    def measured(verb: str, reply: Any) -> Any:
        sizes[verb].append(len(reply.plain["answer"]))
        return reply

    class Counting(ConductorService):
        def list_hosts(self, context: RequestContext) -> list[Host]:
            raise AssertionError("not all at once")

    nobody: Any = types.SimpleNamespace(compute=None)
    service = Counting(replace(options.load().cell, name="large"), database, nobody, nobody, nobody, nobody)
    server = line.serve(Conductor, cast(Any, service), server="large-1", threads=1)
    conductor = line.client(Conductor)
    with database.read() as connection:
        whole = hosts.list_hosts(connection, down_time=15)
        states = hosts.list_states(connection, down_time=15)
        others = services.list_all(connection, down_time=15)
    assert conductor.list_hosts(service_context()) == whole
    assert conductor.list_host_states(service_context()) == states
    told = [(one.binary, one.host) for one in conductor.list_services(service_context())]
    assert told == sorted([*((one.binary, one.host) for one in others), *(("nova-compute", one.host) for one in whole)])
    for verb, several in (("list_hosts", 3), ("list_host_states", 3), ("list_services", 1)):
        assert len(sizes[verb]) >= several
        assert max(sizes[verb]) <= MOST_BYTES + 100
    server.stop()
    line.close()
    database.close()
