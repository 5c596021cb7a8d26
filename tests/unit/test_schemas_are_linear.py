"""Every schema of every API, at its worst, with a body as large as is taken: a bounded time, and no failure."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import pkgutil
import time
from collections.abc import Iterator
from typing import Any

import pytest

import top_api
from cellcloud import config, errors
from cellcloud.safe_regex import Pattern
from top_api.json_schema import Compiled
from top_api.microversion import LAST, Microversion
from top_api.schemas import servers
from top_api.validation import Queries, Versioned, check_body, read_json

MOST = config.load().top.max_body
SECONDS = 1.0  # of one processor: a linear check takes some hundredths
UNITS = ("a", " ", "0", "a ", "a-", ".:")
TEXTS = [(unit * MOST)[: MOST - 8] + end for unit in UNITS for end in ("", "!\n")]
SHORT = [unit * 120 + end for unit in UNITS for end in ("", "!", "\n", " ")]


def schemas() -> dict[str, dict[str, Any]]:
    """All that the package's modules hold, by name."""
    found: dict[str, dict[str, Any]] = {}
    for module in pkgutil.walk_packages(top_api.__path__, "top_api."):
        if module.name.endswith(("__main__", "wsgi")):
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            where = f"{module.name}.{name}"
            if isinstance(value, Versioned | Queries):
                found |= {f"{where} {which}": schema for which, schema in value}
    return found


def parts_of(schema: Any) -> Iterator[dict[str, Any]]:
    """A schema and the schemas in it."""
    if isinstance(schema, dict):
        yield schema
        for keyword, inner in schema.items():
            if keyword in ("properties", "patternProperties"):
                yield from itertools.chain(*map(parts_of, inner.values()))
            elif keyword in ("anyOf", "oneOf"):
                yield from itertools.chain(*map(parts_of, inner))
            else:
                yield from parts_of(inner)


ALL = schemas()
PARTS = {json.dumps(part, sort_keys=True): part for schema in ALL.values() for part in parts_of(schema)}


def takes(part: dict[str, Any], kind: str) -> bool:
    """Whether a schema says that it takes values of that type."""
    given = part.get("type", ())
    return kind in ([given] if isinstance(given, str) else given)


def test_the_schemas_are_all_there() -> None:
    assert len(ALL) > 100
    assert len(PARTS) > 100
    assert any(name.startswith("top_api.schemas.servers.CREATE") for name in ALL)
    for name in ("network_schemas.PORTS", "network_quotas.QUOTA", "identity_schemas.AUTH", "image_schemas.PATCH"):
        assert any(each.startswith(f"top_api.embedded_api.{name}") for each in ALL), name


def timed(compiled: Compiled, value: Any) -> float:
    began = time.process_time()
    compiled.find_error(value)
    return time.process_time() - began


def test_no_part_of_a_schema_takes_long_over_a_text() -> None:
    for part in PARTS.values():
        if not takes(part, "string"):
            continue
        compiled = Compiled(part)
        texts = TEXTS if "pattern" in part or "format" in part else TEXTS[:1]
        worst = max(itertools.chain(*((timed(compiled, one) for one in some) for some in (texts, SHORT))))
        assert worst < SECONDS, str(part)[:500]


def test_no_pattern_takes_long_even_where_no_length_is_given() -> None:
    texts = [part["pattern"] for part in PARTS.values() if "pattern" in part]
    texts += [name for part in PARTS.values() for name in part.get("patternProperties", ())]
    assert len(set(texts)) > 10
    for pattern in set(texts):
        for text in TEXTS:
            began = time.process_time()
            Pattern(pattern).matches(text)
            assert time.process_time() - began < SECONDS, pattern


MANY = 10_000
LISTS: list[Any] = [
    ["a"] * MANY,
    [{}] * MANY,
    [{"a": number} for number in range(MANY)],
    {f"k{number}": "v" for number in range(MANY)},
    {f"!{number}": {} for number in range(MANY)},
]


def test_no_part_of_a_schema_takes_long_over_lists_and_objects() -> None:
    for part in PARTS.values():
        if takes(part, "array") or takes(part, "object"):
            compiled = Compiled(part)
            for value in LISTS:
                assert timed(compiled, value) < SECONDS, str(part)[:500]


def test_a_body_at_the_limit_takes_no_longer_than_its_length() -> None:
    """The largest lists and objects a body holds, wherever a server has them."""
    server = {"name": "a", "flavorRef": "1", "networks": "auto"}
    worst: list[Any] = [
        [{}] * (MOST // 4),
        {f"!{number}": 0 for number in range(MOST // 14)},
    ]
    for _, schema in itertools.islice(reversed(list(servers.CREATE)), 1):
        compiled = Compiled(schema)
        for value in worst:
            for name in schema["properties"]["server"]["properties"]:
                assert timed(compiled, {"server": {**server, name: value}}) < SECONDS, name
            for name in ("os:scheduler_hints", "server", "other"):
                assert timed(compiled, {"server": server, name: value}) < SECONDS, name


def test_unique_items_are_found_in_linear_time() -> None:
    compiled = Compiled({"type": "array", "uniqueItems": True})
    assert compiled.find_error([{"a": 1, "b": 2}, {"b": 2, "a": 1}]) is not None
    assert compiled.find_error([1, True, "1", [1], {}]) is None
    assert timed(compiled, [{"a": number} for number in range(MOST // 16)]) < SECONDS


def test_what_is_not_bounded_in_a_list_is_bounded_by_the_list() -> None:
    for part in PARTS.values():
        if takes(part, "array"):
            assert part.get("maxItems", MOST) <= 10_000, str(part)[:500]


@pytest.mark.parametrize("depth", [60, 100, 500, 990, 5000, 100_000])
def test_depth_is_refused_or_answered(depth: int) -> None:
    for opened, closed in (("[", "]"), ('{"a":', "}")):
        data = opened * depth + ("0" if opened != "[" else "") + closed * depth
        body = f'{{"server": {data}, "os:scheduler_hints": {data}}}'.encode()
        with pytest.raises(errors.Invalid):
            check_body(servers.CREATE, LAST, read_json(body))


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" + "0" * 400, "1e308", "1.0e5", "-0.0", "9" * 4000])
def test_any_number_is_taken_or_refused(number: str) -> None:
    for name in ("max_count", "min_count", "flavorRef"):
        server = f'{{"name": "a", "networks": "auto", "flavorRef": "1", "{name}": {number}}}'
        with contextlib.suppress(errors.Invalid):
            check_body(servers.CREATE, LAST, read_json(f'{{"server": {server}}}'.encode()))


@pytest.mark.parametrize(("version", "name"), [(90, "hostname"), (94, "hostname"), (19, "name")])
def test_the_end_of_a_line_is_part_of_a_text(version: int, name: str) -> None:
    for end in ("\n", "\r\n", "\x00", " "):
        body = {"server": {"name": "a", "flavorRef": "1", "networks": "auto", name: f"host{end}"}}
        with pytest.raises(errors.Invalid):
            check_body(servers.CREATE, Microversion(2, version), body)
