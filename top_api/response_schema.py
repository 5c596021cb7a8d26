"""What answers look like: one declaration of a thing for all microversions, from which each one's JSON Schema is made.

A part of an answer is a JSON Schema that is the same at every microversion, or an ``AnswerShape`` that knows how it
looks at each. Objects are closed: a field is there where its declaration says so, and no other is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from top_api.json_schema import Schema
from top_api.microversion import LAST, Microversion

Components = dict[str, Schema]
REFERENCE = "#/components/schemas/"


class AnswerShape(ABC):
    """A part of an answer, at each microversion."""

    @abstractmethod
    def at(self, version: Microversion, components: Components | None = None) -> Schema:
        """Return its schema. ``components``: where named objects are put, to be referred to; None: all is in line."""

    def inner(self) -> Sequence[Part]:
        """Return the parts that it is made of."""
        return ()


Part = Schema | AnswerShape


def schema_at(part: Part, version: Microversion, components: Components | None = None) -> Schema:
    """Return a part's schema at a microversion."""
    return part.at(version, components) if isinstance(part, AnswerShape) else part


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field of an object in the microversions 2.``since`` to 2.``until``, both included. ``rule``: the policy that
    shows it; ``required``: whether it is there whenever that policy does not hide it."""

    part: Part
    since: int = 1
    until: int = LAST.minor
    required: bool = True
    rule: str = ""


FieldPart = Part | Field | tuple[Field, ...]  # several: of different microversions
FieldParts = Mapping[str, FieldPart]


def _fields(part: FieldPart) -> tuple[Field, ...]:
    return part if isinstance(part, tuple) else (part if isinstance(part, Field) else Field(part=part),)


def since(minor: int, part: FieldPart) -> tuple[Field, ...]:
    """Return a field that came at a microversion."""
    return tuple(replace(field, since=max(minor, field.since)) for field in _fields(part))


def until(minor: int, part: FieldPart) -> tuple[Field, ...]:
    """Return a field whose last microversion that is."""
    return tuple(replace(field, until=min(minor, field.until)) for field in _fields(part))


def optional(part: FieldPart) -> tuple[Field, ...]:
    """Return a field that is there only where the thing has it."""
    return tuple(replace(field, required=False) for field in _fields(part))


def shown_by(rule: str, part: FieldPart) -> tuple[Field, ...]:
    """Return a field that is there only for whom policy allows to see it."""
    return tuple(replace(field, required=False, rule=rule) for field in _fields(part))


class Fields(AnswerShape):
    """An object with these fields and no others. ``name``: of the thing, where others' documents refer to it."""

    def __init__(self, fields: FieldParts, *, name: str = "") -> None:
        self.fields = {key: _fields(part) for key, part in fields.items()}
        self.name = name

    def at(self, version: Microversion, components: Components | None = None) -> Schema:
        """Return its schema, or where to find it."""
        if not self.name or components is None:
            return self._whole(version, components)
        if self.name not in components:
            components[self.name] = self._whole(version, components)
        return {"$ref": REFERENCE + self.name}

    def inner(self) -> Sequence[Part]:
        """Return its fields."""
        return [field.part for fields in self.fields.values() for field in fields]

    def _whole(self, version: Microversion, components: Components | None) -> Schema:
        there = {
            name: field
            for name, fields in self.fields.items()
            for field in fields
            if field.since <= version.minor <= field.until
        }
        return {
            "type": "object",
            "properties": {name: _shown(field, version, components) for name, field in there.items()},
            "required": [name for name, field in there.items() if field.required],
            "additionalProperties": False,
        }


def _shown(field: Field, version: Microversion, components: Components | None) -> Schema:
    schema = schema_at(field.part, version, components)
    return {**schema, "x-policy": field.rule} if field.rule else schema


class _Changing(AnswerShape):
    def __init__(self, first: Part, later: Mapping[int, Part]) -> None:
        self.parts = [(1, first), *sorted(later.items(), key=lambda pair: pair[0])]
        self.changes = tuple(later)

    def inner(self) -> Sequence[Part]:
        return [part for _, part in self.parts]

    def at(self, version: Microversion, components: Components | None = None) -> Schema:
        return schema_at(
            next(part for minor, part in reversed(self.parts) if version.minor >= minor), version, components
        )


def changing(first: Part, later: Mapping[int, Part]) -> AnswerShape:
    """Return what looks another way from each of those microversions on."""
    return _Changing(first, later)


class _Around(AnswerShape):
    """A schema with others in it, below one keyword."""

    def __init__(self, keyword: str, parts: Part | tuple[Part, ...], around: Schema) -> None:
        self.keyword, self.parts, self.around = keyword, parts, around

    def inner(self) -> Sequence[Part]:
        return self.parts if isinstance(self.parts, tuple) else (self.parts,)

    def at(self, version: Microversion, components: Components | None = None) -> Schema:
        inner = (
            [schema_at(part, version, components) for part in self.parts]
            if isinstance(self.parts, tuple)
            else schema_at(self.parts, version, components)
        )
        return {**self.around, self.keyword: inner}


def list_of(part: Part, **bounds: Any) -> AnswerShape:
    """Return a list of such things."""
    return _Around("items", part, {"type": "array", **bounds})


def in_order(*parts: Part) -> AnswerShape:
    """Return a list of exactly those things, in that order."""
    count = len(parts)
    return _Around("prefixItems", parts, {"type": "array", "items": False, "minItems": count, "maxItems": count})


def map_of(part: Part, **bounds: Any) -> AnswerShape:
    """Return an object from any names to such things."""
    return _Around("additionalProperties", part, {"type": "object", **bounds})


def one_of(*parts: Part) -> AnswerShape:
    """Return what is one of several."""
    return _Around("anyOf", parts, {})


def nullable(part: Part) -> Part:
    """Return the same, or null."""
    if isinstance(part, AnswerShape) or not isinstance(part.get("type"), str):
        return one_of(part, {"type": "null"})
    values = {"enum": [*part["enum"], None]} if "enum" in part else {}
    return {**part, "type": [part["type"], "null"], **values}


class _Without(AnswerShape):
    def __init__(self) -> None:
        self.schema: Schema = {}

    def at(self, version: Microversion, components: Components | None = None) -> Schema:
        return self.schema


NOTHING, NEVER = _Without(), _Without()
"""An answer without a body; and where no request succeeds."""


def body_at(answer: AnswerShape, version: Microversion, components: Components | None = None) -> Schema | None:
    """Return the schema of an answer's body, None for one that has none."""
    schema = answer.at(version, components)
    return None if schema is NOTHING.schema or schema is NEVER.schema else schema


def inner_parts(*parts: Part) -> Iterator[Part]:
    """Yield the parts and each that lies in them."""
    for part in parts:
        yield part
        if isinstance(part, AnswerShape):
            yield from inner_parts(*part.inner())


def fields_of(*parts: Part) -> Iterator[tuple[str, Field]]:
    """Yield each field of each object in those parts."""
    for part in inner_parts(*parts):
        if isinstance(part, Fields):
            yield from ((name, field) for name, fields in part.fields.items() for field in fields)
