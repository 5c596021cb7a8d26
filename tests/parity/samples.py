"""Values made of a schema: one with everything that it knows, and many that differ from it in one place."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from typing import Any

ID = "11111111-2222-4333-8444-555555555555"
TEXTS = ("a", "1", "http://example.org/", "a-1", "YQ==", ID, "192.0.2.1", "2001:db8::1", "none", "auto", "HARD",
         "AUTO", "ssh", "novnc", "vnc", "enabled", "x:y", "/dev/vda", "ssh-rsa AAAA", "True", "2026-01-01T00:00:00Z",
         "2026-01-01T00:00:00.000000", "2026-01-01 00:00:00", "fa:16:3e:00:00:01", "b" * 56, "2.1",
         "192.0.2.0/24")  # fmt: skip
HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 1.5, 2**31 - 1, 2**31, 10**12, "", "a", "-", "a" * 63, "a" * 64, "a" * 255, "a" * 256,
    "a" * 70_000, " a", "a ", "a b", "a.b", "a_b", "a@b", "a/b", "a,b", "a:b", "\u00e9", "\u20ac", "a\nb", "a\n",
    "a\x00b", "0", "1", "-1", "1.0", "01", "true", "TRUE", "yes", "x", ID, ID.replace("-", ""), "not-an-id",
    "192.0.2.1", "192.0.2.256", "2001:db8::1", "YQ==", "YQ=", "Y Q = =", "2026-01-01", "yesterday", [], ["a"],
    ["a", "a"], {}, {"x": 1},
)  # fmt: skip


def whole(schema: Any, is_valid: Callable[[Any, Any], bool]) -> Any:
    """A value with every key that the schema knows; ``is_valid(schema, value)``."""
    if "enum" in schema:
        return schema["enum"][0]
    for choice in ("oneOf", "anyOf"):
        for inner in schema.get(choice, ()):
            value = whole({**{k: v for k, v in schema.items() if k != choice}, **inner}, is_valid)
            if is_valid(schema, value):
                return value
    kind = schema.get("type", "object" if "properties" in schema else "string")
    for each in kind if isinstance(kind, list) else [kind]:
        value = _of_kind(each, schema, is_valid)
        if is_valid(schema, value):
            return value
    return value


def _of_kind(kind: str, schema: Any, is_valid: Callable[[Any, Any], bool]) -> Any:
    if kind == "object":
        found = {key: whole(inner, is_valid) for key, inner in schema.get("properties", {}).items()}
        found = {key: inner for key, inner in found.items() if is_valid(schema["properties"][key], inner)}
        patterned = next(iter(schema.get("patternProperties", {}).values()), None)
        return found if found or patterned is None else {"a": whole(patterned, is_valid)}
    if kind == "array":
        return [whole(schema.get("items") or next(iter(schema.get("prefixItems", ())), {}), is_valid)]
    if kind in ("integer", "number"):
        return min(max(schema.get("minimum", 1), 1), schema.get("maximum", 1))
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    return next((text for text in TEXTS if is_valid(schema, text)), "a")


def variants(value: Any) -> Iterator[tuple[str, Any]]:
    """(what was done, the value) for every place in it: another value there, a key left out, a key more."""
    yield "as it is", value
    for path in _paths(value):
        for hostile in HOSTILE:
            yield f"{'.'.join(map(str, path))} = {shown(hostile)}", _with(value, path, hostile)
        inner = _at(value, path)
        if path and isinstance(path[-1], str):
            yield f"without {'.'.join(map(str, path))}", _without(value, path)
        if isinstance(inner, dict):
            yield f"{'.'.join(map(str, path))} with more", _with(value, path, {**inner, "unknown": 1})
        if isinstance(inner, list) and inner:
            for count in (2, 40, 51, 101):
                yield f"{'.'.join(map(str, path))} x {count}", _with(value, path, inner * count)


def spread(schema: Any, is_valid: Callable[[Any, Any], bool]) -> Iterator[Any]:
    """Values of a schema of an answer: one with everything, then, one at a time, each other word, type and shape that
    a place may have, and each field that may be missing gone."""
    if "const" in schema or "enum" in schema:
        yield from [schema["const"]] if "const" in schema else schema["enum"]
    elif "anyOf" in schema:
        rest = {key: inner for key, inner in schema.items() if key != "anyOf"}
        for inner in schema["anyOf"]:
            yield from spread({**rest, **inner}, is_valid)
    elif isinstance(schema.get("type"), list):
        for kind in schema["type"]:
            yield from spread({**schema, "type": kind}, is_valid)
    elif schema.get("type") == "object":
        yield from _spread_object(schema, is_valid)
    elif "prefixItems" in schema:
        places = [list(spread(each, is_valid)) for each in schema["prefixItems"]]
        whole_list = [values[0] for values in places]
        yield whole_list
        for number, values in enumerate(places):
            yield from ([*whole_list[:number], value, *whole_list[number + 1 :]] for value in values[1:])
    elif schema.get("type") == "array":
        least, most = schema.get("minItems", 0), schema.get("maxItems", 1)
        for each in spread(schema["items"], is_valid) if most else ():
            yield [each] * max(least, 1)
        if not least:
            yield []
    else:
        yield _of_kind(schema.get("type", "string"), schema, is_valid)


def _spread_object(schema: Any, is_valid: Callable[[Any, Any], bool]) -> Iterator[Any]:
    fields = {name: list(spread(inner, is_valid)) for name, inner in schema.get("properties", {}).items()}
    whole = {name: values[0] for name, values in fields.items()}
    if isinstance(schema.get("additionalProperties"), dict):
        for each in spread(schema["additionalProperties"], is_valid):
            yield {**whole, "1" if "propertyNames" in schema else "a": each}
    if not schema.get("minProperties"):
        yield whole
    for name, values in fields.items():
        yield from ({**whole, name: value} for value in values[1:])
        if name not in schema["required"]:
            yield {other: value for other, value in whole.items() if other != name}


def prune(value: Any, find_error: Callable[[Any], Any]) -> list[str]:
    """Take out of a value what makes it refused, and say what that was: it would hide all else."""
    gone: list[str] = []
    for _ in range(100):
        error = find_error(value)
        if error is None:
            break
        path = tuple(error.absolute_path)
        place = _at(value, path)
        known = error.schema.get("properties") if isinstance(error.schema, dict) else None
        unknown = [key for key in place if key not in known] if isinstance(place, dict) and known is not None else []
        doomed = [(*path, key) for key in unknown] or [path]
        if doomed == [()]:
            break
        for each in doomed:
            del _at(value, each[:-1])[each[-1]]
            gone.append(".".join(map(str, each)))
    return gone


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _paths(inner, (*path, key))


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


def _with(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    changed = copy.deepcopy(value)
    _at(changed, path[:-1])[path[-1]] = new
    return changed


def _without(value: Any, path: tuple[Any, ...]) -> Any:
    changed = copy.deepcopy(value)
    del _at(changed, path[:-1])[path[-1]]
    return changed


def shown(value: Any) -> str:
    """A value of a report."""
    return f"{len(value)} letters" if isinstance(value, str) and len(value) > 40 else repr(value)


def queries(keys: set[str]) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Each key with each text, once and twice."""
    texts = [value for value in HOSTILE if isinstance(value, str) and "\x00" not in value]
    for key, text in itertools.product(sorted(keys | {"unknown"}), texts):
        yield f"{key}={shown(text)}", {key: [text]}
    for key, text in itertools.product(sorted(keys), ("1", "a", "asc", "true", "2026-01-01", ID)):
        yield f"{key}={text} twice", {key: [text, text]}
