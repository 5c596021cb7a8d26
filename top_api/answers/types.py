"""Pieces that several resources' answers share. Times are as Nova writes them in each place."""

from __future__ import annotations

from collections.abc import Iterable

from top_api.json_schema import Schema
from top_api.response_schema import AnswerShape, FieldPart, Fields, in_order, list_of, map_of, optional, since

TEXT: Schema = {"type": "string"}
WORD: Schema = {"type": "string", "minLength": 1}
INTEGER: Schema = {"type": "integer"}
COUNT: Schema = {"type": "integer", "minimum": 0}
LIMIT: Schema = {"type": "integer", "minimum": -1}
NUMBER: Schema = {"type": "number"}
BOOLEAN: Schema = {"type": "boolean"}
NULL: Schema = {"type": "null"}
UUID: Schema = {"type": "string", "format": "uuid"}
URL: Schema = {"type": "string", "format": "uri"}
SECOND: Schema = {"type": "string", "format": "date-time", "pattern": "[0-9T:-]{19}Z"}
MICROSECOND: Schema = {"type": "string", "pattern": r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}"}
BASE64: Schema = {"type": "string", "pattern": r"\s*(([A-Za-z0-9+/]\s*){2}[A-Za-z0-9+/=]\s*[A-Za-z0-9+/=]\s*)*"}
MAC: Schema = {"type": "string", "pattern": "[0-9a-f]{2}(:[0-9a-f]{2}){5}"}
ADDRESS: Schema = {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}
TEXTS: AnswerShape = map_of(TEXT)  # metadata, properties, extra specs


def a_word(words: Iterable[str], *more: str) -> Schema:
    """Return one of those words."""
    return {"type": "string", "enum": [*map(str, words), *more]}


def links(*rels: str, name: str) -> AnswerShape:
    """Return one link of each relation, in that order. ``name``: of a link, behind its relation's."""
    return in_order(*(Fields({"rel": {"const": rel}, "href": URL}, name=rel.title() + name) for rel in rels))


LINKS = links("self", "bookmark", name="Link")
BOOKMARKS = links("bookmark", name="OnlyLink")
NEXT_PAGE = links("next", name="Page")


def a_page(collection: str, item: AnswerShape, *, paged_since: int = 1) -> AnswerShape:
    """Return a list of such things, with a link to the next page where there is one."""
    return Fields({collection: list_of(item), f"{collection}_links": optional(since(paged_since, NEXT_PAGE))})


def only(key: str, part: FieldPart) -> AnswerShape:
    """Return an object with that one field."""
    return Fields({key: part})
