"""What servers of the index are looked for by that may be several of one server, or that few have: a row for each.

A server's rows are those of its record at ``terms_version``. Where its version is another one, an older service has
written the record: such a server is looked at whatever the term, until its rows are brought up to date.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterator, Sequence
from hashlib import blake2b

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud.db.text_patterns import escaped, has_text
from cellcloud.db.top_schema import server_index, server_terms
from cellcloud.model.server import ServerRecord
from cellcloud.safe_regex import Pattern

LOCKED = "locked"
CONFIG_DRIVE = "config drive"
_ADDRESS, _BEHIND_ADDRESSES = "ip ", "ip!"
_WHOLE = Pattern(r"[0-9]{1,3}(\.[0-9]{1,3}){3}")
IS_STALE = server_index.c.terms_stale == 1


def tag(text: str) -> str:
    """Return the term of a tag: 26 letters, however long the tag, and no two tags have the same one."""
    return f"tag {base64.urlsafe_b64encode(blake2b(text.encode(), digest_size=16).digest()).decode().rstrip('=')}"


def terms_of(record: ServerRecord) -> frozenset[str]:
    """Return what a record is found by."""
    addresses = (f"{_ADDRESS}{ip.ip_address.lower()}" for port in record.ports for ip in port.fixed_ips)
    marks = ((LOCKED, record.locked), (CONFIG_DRIVE, record.spec.config_drive))
    return frozenset((*addresses, *map(tag, record.spec.tags), *(mark for mark, is_set in marks if is_set)))


# ---- writing ---------------------------------------------------------------------------------------------------------
def add(connection: Connection, records: Sequence[ServerRecord]) -> None:
    """Add the terms of servers that the index has just been given."""
    _insert(connection, [(record.id, term) for record in records for term in sorted(terms_of(record))])


def renew(connection: Connection, records: Sequence[ServerRecord]) -> None:
    """Let the terms be those of the records, of which the index has just been given those that it has."""
    told = {record.id: record for record in records}
    row = server_index.c
    wanted = sa.select(row.id, row.cell, row.version, row.terms_version, server_terms.c.term)
    of_each = wanted.join_from(server_index, server_terms, server_terms.c.server_id == row.id, isouter=True)
    known: dict[str, set[str]] = {}
    for found in connection.execute(of_each.where(row.id.in_(sorted(told)))):
        record = told[found.id]
        if (found.cell, found.version, found.terms_version) == (record.cell, record.version, record.version):
            known.setdefault(found.id, set()).update(() if found.term is None else (found.term,))
    terms = {server_id: terms_of(told[server_id]) for server_id in sorted(known)}
    over = [(server_id, term) for server_id in terms for term in sorted(known[server_id] - terms[server_id])]
    if over:
        which = (server_terms.c.server_id == sa.bindparam("which_id"), server_terms.c.term == sa.bindparam("which"))
        connection.execute(sa.delete(server_terms).where(*which), [{"which_id": i, "which": t} for i, t in over])
    new = [(server_id, term) for server_id in terms for term in sorted(terms[server_id] - known[server_id])]
    _insert(connection, new)


def _insert(connection: Connection, rows: Sequence[tuple[str, str]]) -> None:
    if rows:
        connection.execute(sa.insert(server_terms), [{"server_id": i, "term": term} for i, term in rows])


# ---- reading ---------------------------------------------------------------------------------------------------------
def meets(some: Sequence[Collection[str]], not_all: Sequence[Collection[str]]) -> list[sa.ColumnElement[bool]]:
    """Conditions on the index: a server has one term at least of each of ``some``, and lacks one at least of each of
    ``not_all``."""
    found = [sa.or_(_has(terms), unproven()) for terms in some]
    return found + [sa.or_(sa.not_(sa.and_(*(_has([term]) for term in terms))), unproven()) for terms in not_all]


def unproven() -> sa.ColumnElement[bool]:
    """Return whether a server's rows are those of an older record."""
    return sa.func.coalesce(server_index.c.terms_stale, 0) == 1


def _has(terms: Collection[str]) -> sa.ColumnElement[bool]:
    mine = server_terms.c.server_id == server_index.c.id
    return sa.exists().where(mine, _is_one_of(terms)).correlate(server_index)


def _is_one_of(terms: Collection[str]) -> sa.ColumnElement[bool]:
    return server_terms.c.term.in_(sorted(terms))


def candidates(terms: Collection[str]) -> sa.CompoundSelect[tuple[str]]:
    """Ids of the servers that may have one of the terms."""
    return sa.union(sa.select(server_terms.c.server_id.label("id")).where(_is_one_of(terms)), _stale())


def with_address(text: str) -> sa.CompoundSelect[tuple[str]]:
    """Ids of the servers that may have an address with this in it."""
    term, text = server_terms.c.term, text.lower()
    inside = sa.and_(term >= _ADDRESS, term < _BEHIND_ADDRESSES, has_text(term, sa.literal(f"%{escaped(text)}%")))
    if _WHOLE.matches(text):  # what may be around it is few
        starts = [f"{_ADDRESS}{before}{text}" for before in _befores(int(text.partition(".")[0]))]
        inside = sa.or_(*(sa.and_(term >= start, term < f"{start}:") for start in starts))
    return sa.union(sa.select(server_terms.c.server_id.label("id")).where(inside), _stale())


def _befores(first: int) -> Iterator[str]:
    """Yield what an address may have before four numbers: digits of the first one, and what makes an IPv6 of it."""
    yield from ("", "::", "::ffff:")
    yield from (str(digits) for digits in range(1, 26) if int(f"{digits}{first}") < 256)


def _stale() -> sa.Select[tuple[str]]:
    return sa.select(server_index.c.id).where(IS_STALE)
