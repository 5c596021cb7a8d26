"""Scheduler hints: all that a tenant may say about a server's place, and how each is read.

Data, never a switch: what is not named here reaches no decision. Names, types and the default of ``cidr`` are Nova's.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import msgspec

from cellcloud import errors

MOST_BYTES = 16 << 10
QUERY_DEPTH = 16
QUERY_TERMS = 1000
QUERY_ATTRIBUTES = 8  # of hosts, each of which is a look at all of them
QUERY_OPERATORS = frozenset(["=", "<", ">", "in", "<=", ">=", "not", "or", "and"])
RULES: Mapping[str, str] = {
    "different_host": "DifferentHostFilter",
    "same_host": "SameHostFilter",
    "build_near_host_ip": "SimpleCIDRAffinityFilter",
    "cidr": "SimpleCIDRAffinityFilter",
    "query": "JsonFilter",
}
"""Hint -> the filter that obeys it. A server's group is settled before anybody chooses."""
GROUP = "group"
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """``different_host``, ``same_host``: server ids. ``near``: the network a host's address must be in, as text.
    ``query``: a condition on the host, JSON text."""

    different_host: tuple[str, ...] = ()
    same_host: tuple[str, ...] = ()
    near: str | None = None
    query: str | None = None


def check(given: Mapping[str, object], further: Collection[str] = ()) -> None:
    """Refuse hints that no scheduler would take. ``further``: names that filters of the operator's read. Raises
    Invalid."""
    if len(msgspec.json.encode(given)) > MOST_BYTES:
        raise errors.Invalid(f"Scheduler hints take at most {MOST_BYTES} bytes.")
    for name in given:
        if name != GROUP and name not in RULES and (name.startswith("_") or name not in further):
            raise errors.Invalid(f"Scheduler hint {name[:100]!r} is not offered.")
    found = read(given)
    if "cidr" in given and found.near is None:
        raise errors.Invalid("Scheduler hint 'cidr' needs 'build_near_host_ip'.")
    if found.near is not None:
        network_of(found.near)
    if found.query is not None:
        condition_of(found.query)


def check_obeyed(given: Mapping[str, object], filters: Collection[str]) -> None:
    """Refuse a hint whose filter is not among a policy's: it would be taken and not obeyed. Raises Invalid."""
    for name, rule in RULES.items():
        if given.get(name) and rule not in filters:
            raise errors.Invalid(f"Scheduler hint {name!r} is not obeyed here: the policy has no {rule}.")


def read(given: Mapping[str, object]) -> Hints:
    """Return the hints that rules read, each as texts: Nova holds a single value and a list of one alike. Raises
    Invalid."""
    texts = {name: _texts(name, given[name]) for name in RULES if name in given}
    address = _one(texts, "build_near_host_ip")
    return Hints(
        different_host=texts.get("different_host", ()),
        same_host=texts.get("same_host", ()),
        near=None if address is None else f"{address}{_one(texts, 'cidr') or '/24'}",
        query=_one(texts, "query"),
    )


def _texts(name: str, value: object) -> tuple[str, ...]:
    values = value if isinstance(value, list | tuple) else [value]
    texts = tuple(item for item in values if isinstance(item, str))
    if len(texts) != len(values):
        raise errors.Invalid(f"Scheduler hint {name!r} must be a text or a list of texts.")
    return texts


def _one(hints: Mapping[str, tuple[str, ...]], name: str) -> str | None:
    values = hints.get(name, ())
    if len(values) > 1:
        raise errors.Invalid(f"Scheduler hint {name!r} must have one value.")
    return values[0] or None if values else None


def network_of(text: str) -> Network:
    """Read a network's address. Raises Invalid."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise errors.Invalid(
            f"Scheduler hints build_near_host_ip and cidr give {text[:100]!r}, which is no network."
        ) from None


def condition_of(text: str) -> list[object]:
    """Return an operator and its arguments, of bounded depth and size. Raises Invalid."""
    try:
        query = json.loads(text)
    except (ValueError, RecursionError):
        raise errors.Invalid("Scheduler hint 'query' is not JSON.") from None
    if not isinstance(query, list):
        raise errors.Invalid("Scheduler hint 'query' must be a list: an operator and its arguments.")
    _check_condition(query, depth=1, budget=[QUERY_TERMS])
    if len(set(_attributes(query))) > QUERY_ATTRIBUTES:
        raise errors.Invalid(f"Scheduler hint 'query' names more than {QUERY_ATTRIBUTES} attributes.")
    return query


def _attributes(query: list[object]) -> Iterator[str]:
    for term in query[1:]:
        if isinstance(term, list):
            yield from _attributes(term)
        elif isinstance(term, str) and term.startswith("$"):
            yield term


def _check_condition(query: list[object], *, depth: int, budget: list[int]) -> None:
    budget[0] -= len(query)
    if depth > QUERY_DEPTH or budget[0] < 0:
        raise errors.Invalid("Scheduler hint 'query' is too large.")
    if query and (not isinstance(query[0], str) or query[0] not in QUERY_OPERATORS):
        raise errors.Invalid(f"Scheduler hint 'query': {str(query[0])[:100]!r} is no operator.")
    for term in query[1:]:
        if isinstance(term, list):
            _check_condition(term, depth=depth + 1, budget=budget)
        elif isinstance(term, dict):
            raise errors.Invalid("Scheduler hint 'query' may hold lists, texts, numbers, true, false and null.")
