"""The tables of the lineage index, and the statements that all modules share.

They contain only data from Dagster's event log. The key of a node is the id of its event. The key of an input that is
missing from the log is negative.
"""

import io
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

import sqlalchemy as sql
from sqlalchemy.dialects import postgresql

__all__ = [
    "PREFIX",
    "assets",
    "batches",
    "create_indexes",
    "create_tables",
    "dagster_inputs",
    "drop_tables",
    "edges",
    "events",
    "has_tables",
    "identifiers",
    "insert_rows",
    "key_table",
    "node_identifiers",
    "nodes",
    "one_of",
    "same_partition",
    "state",
    "table_names",
    "unresolved_inputs",
]

_Item = TypeVar("_Item")

_BATCH_SIZE: Final = 500
PREFIX: Final = "ml_assets_lineage_"
"""Prefix of all names, because the tables may share a database with those of other programs."""
_METADATA: Final = sql.MetaData()
# Prefixes are looked up as ranges, which is correct only in the order of bytes.
_BYTES: Final = sql.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def _table(name: str, *columns: Any, **options: Any) -> sql.Table:
    return sql.Table(PREFIX + name, _METADATA, *columns, **options)


def _key(name: str) -> sql.Column[int]:
    return sql.Column(name, sql.BigInteger, primary_key=True, autoincrement=False)


state = _table("state", sql.Column("name", sql.Text, primary_key=True), sql.Column("value", sql.Text, nullable=False))
"""The form of the tables, and the position up to which the log was read."""

events = _table("events", _key("id"), sql.Column("fingerprint", sql.Text, nullable=False))
"""Each event that was read from the log, including events that are not a version of their asset."""

assets = _table("assets", _key("id"), sql.Column("name", sql.Text, nullable=False))

nodes = _table(
    "nodes",
    _key("key"),
    sql.Column("asset", sql.BigInteger, nullable=False),
    sql.Column("kind", sql.Text, nullable=False),
    sql.Column("partition", sql.Text),
    sql.Column("data_version", sql.Text),
    sql.Column("storage_id", sql.BigInteger),
    sql.Column("content_version", sql.Text),
    sql.Column("code_version", sql.Text),
    sql.Column("image", sql.Text),
    sql.Column("index_digest", sql.Text),
    sql.Column("environment", sql.Text),
    sql.Column("mlflow_run", sql.Text),
    sql.Column("model_version", sql.Text),
    sql.Column("commit", sql.Text),
    sql.Column("dirty", sql.Boolean),
    sql.Column("dagster_run", sql.Text),
    sql.Column("timestamp", sql.Double),
    sql.Column("problem", sql.Text),
    sql.Column("next_step", sql.Text),
)

edges = _table("edges", _key("target"), _key("source"), sqlite_with_rowid=False)

dagster_inputs = _table("dagster_inputs", _key("reader"), _key("asset"), sqlite_with_rowid=False)
"""Nodes with inputs from Dagster's own tags, whose meaning depends on the other events of the asset."""

unresolved_inputs = _table("unresolved_inputs", _key("storage_id"), _key("reader"), sqlite_with_rowid=False)
"""Events that a node read but that are not in the log."""

identifiers = _table(
    "identifiers",
    _key("id"),
    sql.Column("kind", sql.Text, nullable=False),
    sql.Column("value", _BYTES, nullable=False),
    sql.Column("digits", _BYTES),
)
"""Identifiers of nodes; the digits are the version without its algorithm."""

node_identifiers = _table("node_identifiers", _key("identifier"), _key("node"), sqlite_with_rowid=False)
"""The identifiers of each node."""

_INDEXES: Final = (
    sql.Index(PREFIX + "assets_by_name", assets.c.name),
    sql.Index(PREFIX + "nodes_by_asset", nodes.c.asset, nodes.c.partition, nodes.c.key),
    sql.Index(PREFIX + "edges_by_source", edges.c.source, edges.c.target),
    sql.Index(PREFIX + "dagster_inputs_by_asset", dagster_inputs.c.asset, dagster_inputs.c.reader),
    sql.Index(PREFIX + "unresolved_inputs_by_reader", unresolved_inputs.c.reader),
    sql.Index(PREFIX + "identifiers_by_value", identifiers.c.value),
    sql.Index(PREFIX + "identifiers_by_digits", identifiers.c.digits),
)


def create_tables(connection: sql.Connection) -> None:
    """Create the tables without indexes. Creating indexes is faster after the rows are inserted."""
    for table in _METADATA.sorted_tables:
        connection.execute(sql.schema.CreateTable(table))


def create_indexes(connection: sql.Connection) -> None:
    """Create the indexes."""
    for index in _INDEXES:
        connection.execute(sql.schema.CreateIndex(index))


def table_names() -> list[str]:
    """Return the names of the tables in the database."""
    return [table.name for table in _METADATA.sorted_tables]


def has_tables(connection: sql.Connection) -> bool:
    """Return True if the index exists."""
    return sql.inspect(connection).has_table(state.name, schema=connection.dialect.default_schema_name)


def drop_tables(connection: sql.Connection) -> None:
    """Remove the tables, including those of another form of the index."""
    # A database user with a schema of its own, such as a read-only user, has its own index and may see others.
    for name in sql.inspect(connection).get_table_names(schema=connection.dialect.default_schema_name):
        if name.startswith(PREFIX):
            connection.exec_driver_sql(f'DROP TABLE "{name}"')


def batches(items: Collection[_Item]) -> Iterator[list[_Item]]:
    """Return items in batches, each small enough for the parameters of one statement."""
    whole = list(items)
    return (whole[start : start + _BATCH_SIZE] for start in range(0, len(whole), _BATCH_SIZE))


def key_table(connection: sql.Connection, keys: Iterable[int]) -> sql.Subquery:
    """Return any number of keys as a table with the column ``key``."""
    if connection.dialect.name == "postgresql":
        array = sql.cast(list(keys), postgresql.ARRAY(sql.BigInteger))
        return sql.select(sql.func.unnest(array).column_valued("key_table").label("key")).subquery()
    each = sql.func.json_each(json.dumps(list(keys))).table_valued("value")
    return sql.select(sql.cast(each.c.value, sql.BigInteger).label("key")).subquery()


def one_of(connection: sql.Connection, column: sql.ColumnElement[int], keys: Iterable[int]) -> sql.ColumnElement[bool]:
    """Return the condition that a column has one of any number of keys.

    If the column has an index, rows come in its order.
    """
    if connection.dialect.name == "postgresql":
        return column == sql.func.any(sql.cast(list(keys), postgresql.ARRAY(sql.BigInteger)))
    return column.in_(sql.select(key_table(connection, keys).c.key))


def same_partition(one: Any, other: Any) -> tuple[sql.ColumnElement[bool], sql.ColumnElement[bool]]:
    """Return the two conditions for nodes of the same partition of their asset. Each is one look-up in an index.

    An index does not support a comparison that treats NULLs as equal.

    Args:
        one: columns of `nodes`.
        other: columns of `nodes`, or of an alias of it.
    """
    return one.partition == other.partition, one.partition.is_(None) & other.partition.is_(None)


def insert_rows(connection: sql.Connection, table: sql.Table, rows: Sequence[Sequence[Any]]) -> None:
    """Insert many rows, with values in the order of the table's columns."""
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        _copy(connection, table, rows)
        return
    placeholders = ", ".join("?" * len(table.columns))
    connection.exec_driver_sql(f"INSERT INTO {table.name} VALUES ({placeholders})", [tuple(row) for row in rows])  # noqa: S608 (our own name)


def _copy(connection: sql.Connection, table: sql.Table, rows: Iterable[Sequence[Any]]) -> None:
    # One INSERT per row takes ten times as long.
    lines = io.StringIO("".join("\t".join(map(_text, row)) + "\n" for row in rows))
    cursor: Any = connection.connection.cursor()
    try:
        cursor.copy_expert(f"COPY {table.name} FROM STDIN", lines)
    except connection.dialect.loaded_dbapi.Error as error:
        raise sql.exc.DatabaseError(f"COPY {table.name}", None, error) from error
    finally:
        cursor.close()


# PostgreSQL allows no null character in text.
_ESCAPED: Final = str.maketrans(
    {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\N{REPLACEMENT CHARACTER}"}
)


def _text(value: Any) -> str:
    if value is None:
        return r"\N"
    return value.translate(_ESCAPED) if isinstance(value, str) else str(value)
