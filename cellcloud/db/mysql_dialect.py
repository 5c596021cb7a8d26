"""SQLAlchemy's dialect for mysqlclient, but for commits where nothing was begun: it would ask the server for each of
them, and all that only reads would take one message more. Registered as others' dialects are."""

from __future__ import annotations

from typing import Any

from sqlalchemy.dialects import registry
from sqlalchemy.dialects.mysql.mysqldb import MySQLDialect_mysqldb

BEGUN = "begun"  # in what is known of a connection: it has a transaction to commit
DRIVER = "mysql+cellcloud"


class CommitIfBegun(MySQLDialect_mysqldb):
    supports_statement_cache = True

    def do_commit(self, dbapi_connection: Any) -> None:
        if dbapi_connection.info.pop(BEGUN, False):
            super().do_commit(dbapi_connection)  # type: ignore[no-untyped-call]


registry.register(DRIVER.replace("+", "."), __name__, CommitIfBegun.__name__)
