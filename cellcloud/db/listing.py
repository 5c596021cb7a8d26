"""Lists of rows: which of them, in what order, from where on. What a table's lists may be asked for is one mapping."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from cellcloud import errors
from cellcloud.db.pagination_snapshots import LONGEST, Walk


@dataclass(frozen=True, slots=True)
class Condition:
    """``operator``: in, not_in; lt, lte, gt, gte of one value; within or outside of two (from, up to); every and
    not_every, of a column that is a list: whether all of the values are in it; equals, contains, startswith, endswith
    of one text, and the same after an i without regard to case."""

    name: str
    values: Sequence[Any]
    operator: str = "in"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """``sort``: names and whether they rise; the id decides between equals. ``after``: the id of the item before the
    page. ``limit`` None: all. ``backwards``: the page that ends before ``after``. ``walk``: so that the pages of an
    order that changes are those of the order at the first one."""

    where: Sequence[Condition] = ()
    sort: Sequence[tuple[str, bool]] = ()
    after: str | None = None
    limit: int | None = None
    backwards: bool = False
    walk: Walk | None = None

    @classmethod
    def of(cls, **equal: Sequence[Any]) -> Page:
        """Every row whose columns have one of the given values."""
        return cls(where=tuple(Condition(name, values) for name, values in equal.items()))


ALL = Page()
_NEVER_CHANGING = frozenset({"id", "created_at"})
_LEAST_AT_ONCE = 100  # rows of a walk
MOST_CONDITIONS = 200  # of one statement, without lists of plain values: SQLite's expressions are 1000 deep at most
TEXT_OPERATORS = frozenset(i + name for i in ("", "i") for name in ("equals", "contains", "startswith", "endswith"))
Test = Callable[[Condition], sa.ColumnElement[bool]]
# Name -> the column or expression that it means, or what makes a condition on it.
Columns = Mapping[str, sa.ColumnElement[Any] | Test]


class holds(FunctionElement[bool]):
    """Whether a text has another one in it, with regard to case on every database."""

    type = sa.Boolean()
    inherit_cache = True
    name = "holds"


@compiles(holds, "sqlite")
def _holds_sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    text, part = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"(instr({text}, {part}) > 0)"


@compiles(holds, "mysql")
@compiles(holds, "mariadb")
def _holds_mysql(element: Any, compiler: Any, **kw: Any) -> str:
    text, part = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"(LOCATE(CAST({part} AS BINARY), CAST({text} AS BINARY)) > 0)"


@compiles(holds, "postgresql")
def _holds_postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    text, part = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"(strpos({text}, {part}) > 0)"


class tail(FunctionElement[str]):
    """The last so many characters of a text; more than none."""

    type = sa.String()
    inherit_cache = True
    name = "tail"


@compiles(tail, "sqlite")
def _tail_sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    text, length = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"substr({text}, -{length})"


@compiles(tail)
def _tail(element: Any, compiler: Any, **kw: Any) -> str:
    text, length = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"RIGHT({text}, {length})"


class json_text(FunctionElement[str]):
    """A scalar of a JSON document by the names on the way to it."""

    type = sa.String()
    inherit_cache = True
    name = "json_text"

    def __init__(self, column: sa.ColumnElement[Any], *path: str) -> None:
        super().__init__(column, sa.literal_column("'$." + ".".join(path) + "'"))


@compiles(json_text, "sqlite")
def _json_text_sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    document, path = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"CAST(json_extract({document}, {path}) AS TEXT)"


@compiles(json_text, "mysql")
@compiles(json_text, "mariadb")
def _json_text_mysql(element: Any, compiler: Any, **kw: Any) -> str:
    document, path = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"JSON_VALUE({document}, {path})"


@compiles(json_text, "postgresql")
def _json_text_postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    document, path = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"jsonb_path_query_first(CAST({document} AS jsonb), CAST({path} AS jsonpath)) #>> '{{}}'"


def has_item(column: sa.ColumnElement[Any], item: str) -> sa.ColumnElement[bool]:
    """Return whether a column of a JSON list has a text in it. Inside a text a quotation mark is always escaped."""
    return _has_member(column, "[", _quoted(item))


def has_pair(column: sa.ColumnElement[Any], key: str, value: str) -> sa.ColumnElement[bool]:
    """Return whether a column of a JSON object has a key with that text."""
    return _has_member(column, "{", f"{_quoted(key)}:{_quoted(value)}")


def _has_member(column: sa.ColumnElement[Any], bracket: str, member: str) -> sa.ColumnElement[bool]:
    text = sa.type_coerce(column, sa.Text)
    return sa.or_(*(holds(text, sa.literal(first + member, sa.Text)) for first in (bracket, ",")))


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()


def items_of(column: sa.ColumnElement[Any]) -> Test:
    """Conditions on a JSON list of texts: any of the values, every one, none."""

    def test(condition: Condition) -> sa.ColumnElement[bool]:
        found = [has_item(column, value) for value in condition.values]
        if condition.operator in ("every", "not_every"):
            all_of_them = sa.and_(sa.true(), *found)
            return all_of_them if condition.operator == "every" else sa.not_(all_of_them)
        some = sa.or_(sa.false(), *found)
        return sa.not_(some) if condition.operator == "not_in" else some

    return test


def rows_of(
    c: Connection, query: sa.Select[Any], key: sa.ColumnElement[str], columns: Columns, page: Page
) -> list[sa.Row[Any]]:
    """Return the page of the query's rows, in order. Raises NotFound for an ``after`` that is none of them, Invalid for
    more conditions than one statement bears.

    In an order that no row ever leaves its place in, a page begins at the place of ``after``. In any other, what lives
    through a walk is shown exactly once: the ids of the first page's time say what follows.
    """
    if sum(_weight(columns[wanted.name], wanted) for wanted in page.where) > MOST_CONDITIONS:
        raise errors.Invalid(f"A list takes at most {MOST_CONDITIONS} conditions at once.")
    everything, query = query, query.where(*(_condition(columns[wanted.name], wanted) for wanted in page.where))
    ranks = _ranks(key, columns, page)
    order = [rank.asc() if rises else rank.desc() for rank, rises in ranks]
    if page.walk is not None and page.limit and not all(name in _NEVER_CHANGING for name, _ in _ways(columns, page)):
        ids = _ids_behind(c, query.with_only_columns(key).order_by(*order), page, page.walk)
        if ids is not None:
            found = _these(c, query, key, ids, page.limit)
            if page.after is None:
                page.walk.begin(ids[::-1] if page.backwards else ids, len(found))
            return found[::-1] if page.backwards else found
    if page.after is not None:
        query = query.where(_beyond(c, everything, ranks, key, page.after))
    rows = list(c.execute(query.order_by(*order).limit(page.limit)).all())
    return rows[::-1] if page.backwards else rows


def _ways(columns: Columns, page: Page) -> list[tuple[str, bool]]:
    """Return what sorts the rows, up to the id: no two have the same. What is the same in all of them sorts nothing."""
    ways: dict[str, bool] = {}
    for name, rises in (*page.sort, ("id", True)):
        if not isinstance(columns[name], sa.BindParameter):
            ways.setdefault(name, rises)
        if name == "id":
            break
    return list(ways.items())


def _ranks(key: sa.ColumnElement[str], columns: Columns, page: Page) -> list[tuple[Any, bool]]:
    return [
        (key if name == "id" else _rank(columns[name]), rises != page.backwards) for name, rises in _ways(columns, page)
    ]


def _ids_behind(c: Connection, ordered: sa.Select[Any], page: Page, walk: Walk) -> list[str] | None:
    """Return the ids of a walk behind the marker, or of one that begins. None: there is none, or it would be too
    long."""
    if page.after is None:
        ids = list(c.execute(ordered.limit(LONGEST + 1)).scalars())
        return ids if len(ids) <= LONGEST else None
    return walk.find_behind(c, page.after, backwards=page.backwards)


def _these(
    c: Connection, query: sa.Select[Any], key: sa.ColumnElement[str], ids: Sequence[str], limit: int
) -> list[sa.Row[Any]]:
    """Return the first rows with these ids in their order, without those that are no more what the query asks for."""
    found: list[sa.Row[Any]] = []
    size = max(limit, _LEAST_AT_ONCE)
    for start in range(0, len(ids), size):
        some = ids[start : start + size]
        rows = {row.id: row for row in c.execute(query.where(key.in_(some)))}
        found += [rows[one] for one in some if one in rows]
        if len(found) >= limit:
            break
    return found[:limit]


def _rank(column: sa.ColumnElement[Any] | Test) -> Any:
    """Return what rows are sorted by; not every database compares truth values."""
    if isinstance(column, sa.ColumnElement) and isinstance(column.type, sa.Boolean):
        return sa.case((column, 1), else_=0)
    return column


_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
}


def _weight(column: sa.ColumnElement[Any] | Test, wanted: Condition) -> int:
    return 1 if isinstance(column, sa.ColumnElement) else max(1, len(wanted.values))


def _condition(column: sa.ColumnElement[Any] | Test, wanted: Condition) -> sa.ColumnElement[bool]:
    if not isinstance(column, sa.ColumnElement):
        return column(wanted)
    if wanted.operator == "in":
        return column.in_(list(wanted.values))
    if wanted.operator == "not_in":
        return column.not_in(list(wanted.values))
    if wanted.operator in ("within", "outside"):
        low, high = wanted.values
        inside = sa.and_(column >= low, column < high)
        return inside if wanted.operator == "within" else sa.not_(inside)
    (value,) = wanted.values
    if wanted.operator in TEXT_OPERATORS:
        return _text_condition(column, value, wanted.operator)
    found: sa.ColumnElement[bool] = _COMPARISONS[wanted.operator](column, value)
    return found


def _text_condition(column: sa.ColumnElement[Any], value: str, wanted: str) -> sa.ColumnElement[bool]:
    text: sa.ColumnElement[Any] = column
    if wanted.startswith("i"):
        text, value, wanted = sa.func.lower(column), value.lower(), wanted[1:]
    if not value and wanted != "equals":
        return text.is_not(None)
    if wanted == "equals":
        return text == value
    if wanted == "startswith":
        text = sa.func.substr(text, 1, len(value))
    elif wanted == "endswith":
        text = tail(text, sa.literal(len(value)))
    return holds(text, sa.literal(value, sa.Text))  # so with regard to case where ``=`` has none


def _beyond(
    c: Connection,
    everything: sa.Select[Any],
    ranks: Sequence[tuple[Any, bool]],
    key: sa.ColumnElement[str],
    after: str,
) -> sa.ColumnElement[bool]:
    """Rows that come after the one of that id, one of those that may be seen."""
    columns = [column.label(f"rank_{place}") for place, (column, _) in enumerate(ranks)]
    row = c.execute(everything.with_only_columns(*columns).where(key == after)).one_or_none()
    if row is None:
        raise errors.NotFound("The marker was not found.")
    ways: list[sa.ColumnElement[bool]] = []
    equal: list[sa.ColumnElement[bool]] = []
    for (column, rises), value in zip(ranks, row, strict=True):
        ways.append(sa.and_(*equal, column > value if rises else column < value))
        equal.append(column == value)
    return sa.or_(*ways)
