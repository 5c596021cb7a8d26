"""what servers are found by that a column cannot say, and orders that had no index"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

TABLE = "server_index"
BY = ("availability_zone", "hostname", "launched_at", "node", "power_state")
RARE = {  # index -> columns: of the rows that have the first one
    "ix_server_index_asked": ["quota_asked_at"],
    "ix_server_index_group": ["group_id", "deleted"],
    "ix_server_index_hints": ["hints_id"],
    "ix_server_index_large_fields": ["large_fields_id"],
    "ix_server_index_user_data": ["user_data_id"],
}
BEFORE = {
    "ix_server_index_deleted_at": ["deleted", "deleted_at"],
    "ix_server_index_host": ["cell", "host", "deleted"],
    "ix_server_index_project": ["project_id", "deleted", "created_at", "id"],
}
NOW = {
    "ix_server_index_ended": ["deleted", "deleted_at", "created_at", "id"],
    "ix_server_index_of_project": ["deleted", "project_id", "created_at", "id"],
}
STALE = "CASE WHEN terms_version = version THEN NULL ELSE 1 END"


def upgrade() -> None:
    op.create_table(
        "server_terms",
        sa.Column("term", sa.String(length=80), nullable=False),
        sa.Column("server_id", sa.String(length=36), nullable=False),
        sa.ForeignKeyConstraint(["server_id"], ["server_index.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("term", "server_id", name=op.f("pk_server_terms")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_server_terms_server", "server_terms", ["server_id"])
    op.add_column(TABLE, sa.Column("terms_version", sa.BigInteger(), nullable=True))
    stored = True if op.get_bind().dialect.name == "postgresql" else None  # the others need not write every row anew
    op.add_column(TABLE, sa.Column("terms_stale", sa.Integer(), sa.Computed(STALE, persisted=stored), nullable=True))
    _create_rare("ix_server_index_terms_stale", ["terms_stale", "id"])
    for name, columns in NOW.items():
        op.create_index(name, TABLE, columns)
    for column in BY:
        op.create_index(f"ix_server_index_by_{column}", TABLE, [column, "created_at", "id"])
    for name in BEFORE:
        op.drop_index(name, TABLE)
    if op.get_bind().dialect.name in ("sqlite", "postgresql"):
        for name, columns in RARE.items():
            op.drop_index(name, TABLE)
            _create_rare(name, columns)


def _create_rare(name: str, columns: list[str]) -> None:
    some = sa.text(f"{columns[0]} IS NOT NULL")
    op.create_index(name, TABLE, columns, postgresql_where=some, sqlite_where=some)


def downgrade() -> None:
    for name, columns in BEFORE.items():
        op.create_index(name, TABLE, columns)
    for column in BY:
        op.drop_index(f"ix_server_index_by_{column}", TABLE)
    for name in NOW:
        op.drop_index(name, TABLE)
    op.drop_index("ix_server_index_terms_stale", TABLE)
    op.drop_column(TABLE, "terms_stale")
    op.drop_column(TABLE, "terms_version")
    op.drop_table("server_terms")
