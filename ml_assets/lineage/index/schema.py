"""The tables of the lineage index, and how many rows are written at once.

They hold nothing that is not in Dagster's event log. A node's key is the id of its event; that of an input that is
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
    "among",
    "assets",
    "carriers",
    "claims",
    "create_indexes",
    "create_tables",
    "drop_tables",
    "edges",
    "events",
    "insert_rows",
    "listed",
    "names",
    "names_of_tables",
    "nodes",
    "of_one_partition",
    "pages",
    "pointers",
    "state",
]

_Item = TypeVar("_Item")

_PAGE: Final = 500
PREFIX: Final = "ml_assets_lineage_"
"""All names begin with it, for the tables may stand beside those of others."""
_METADATA: Final = sql.MetaData()
# Beginnings are looked up as ranges, which hold in the order of bytes alone.
_BYTES: Final = sql.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def _table(name: str, *columns: Any, **options: Any) -> sql.Table:
    return sql.Table(PREFIX + name, _METADATA, *columns, **options)


def _key(name: str) -> sql.Column[int]:
    return sql.Column(name, sql.BigInteger, primary_key=True, autoincrement=False)


state = _table("state", sql.Column("name", sql.Text, primary_key=True), sql.Column("value", sql.Text, nullable=False))
"""The form of the tables, and how far the log was read."""

events = _table("events", _key("id"), sql.Column("origin", sql.Text, nullable=False))
"""Each event of the log that was read, whether or not it is a version of its asset."""

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

pointers = _table("pointers", _key("reader"), _key("asset"), sqlite_with_rowid=False)
"""Which nodes have inputs that Dagster recorded as pointers, whose meaning hangs on the asset's other events."""

claims = _table("claims", _key("storage_id"), _key("reader"), sqlite_with_rowid=False)
"""Which events a node read that are not in the log."""

names = _table(
    "names",
    _key("id"),
    sql.Column("form", sql.Text, nullable=False),
    sql.Column("value", _BYTES, nullable=False),
    sql.Column("digits", _BYTES),
)
"""What identifies nodes; the digits are a version without its algorithm."""

carriers = _table("carriers", _key("name"), _key("node"), sqlite_with_rowid=False)
"""Which nodes carry a name."""

_INDEXES: Final = (
    sql.Index(PREFIX + "assets_by_name", assets.c.name),
    sql.Index(PREFIX + "nodes_by_asset", nodes.c.asset, nodes.c.partition, nodes.c.key),
    sql.Index(PREFIX + "edges_by_source", edges.c.source, edges.c.target),
    sql.Index(PREFIX + "pointers_by_asset", pointers.c.asset, pointers.c.reader),
    sql.Index(PREFIX + "claims_by_reader", claims.c.reader),
    sql.Index(PREFIX + "names_by_value", names.c.value),
    sql.Index(PREFIX + "names_by_digits", names.c.digits),
)


def create_tables(connection: sql.Connection) -> None:
    """Make the tables, without indexes, which are made faster once there are rows."""
    for table in _METADATA.sorted_tables:
        connection.execute(sql.schema.CreateTable(table))


def create_indexes(connection: sql.Connection) -> None:
    """Make the indexes."""
    for index in _INDEXES:
        connection.execute(sql.schema.CreateIndex(index))


def names_of_tables() -> list[str]:
    """What the tables are called in the database."""
    return [table.name for table in _METADATA.sorted_tables]


def drop_tables(connection: sql.Connection) -> None:
    """Remove the tables, those of another form of the index too."""
    for name in sql.inspect(connection).get_table_names():
        if name.startswith(PREFIX):
            connection.exec_driver_sql(f'DROP TABLE "{name}"')


def pages(items: Collection[_Item]) -> Iterator[list[_Item]]:
    """Items in portions that one statement can name one by one."""
    listed = list(items)
    return (listed[start : start + _PAGE] for start in range(0, len(listed), _PAGE))


def listed(connection: sql.Connection, keys: Iterable[int]) -> sql.Subquery:
    """Any number of keys as a table, whose column is ``key``."""
    if connection.dialect.name == "postgresql":
        array = sql.cast(list(keys), postgresql.ARRAY(sql.BigInteger))
        return sql.select(sql.func.unnest(array).column_valued("listed").label("key")).subquery()
    each = sql.func.json_each(json.dumps(list(keys))).table_valued("value")
    return sql.select(sql.cast(each.c.value, sql.BigInteger).label("key")).subquery()


def among(connection: sql.Connection, column: sql.ColumnElement[int], keys: Iterable[int]) -> sql.ColumnElement[bool]:
    """Whether a column holds one of any number of keys; rows come in the order of an index on the column, if any."""
    if connection.dialect.name == "postgresql":
        return column == sql.func.any(sql.cast(list(keys), postgresql.ARRAY(sql.BigInteger)))
    return column.in_(sql.select(listed(connection, keys).c.key))


def of_one_partition(one: Any, other: Any) -> tuple[sql.ColumnElement[bool], sql.ColumnElement[bool]]:
    """The two ways in which nodes are of the same partition of their asset: a look-up in an index each.

    An index serves no comparison that takes NULLs for equal.

    Args:
        one: columns of `nodes`.
        other: columns of `nodes`, or of an alias of it.
    """
    return one.partition == other.partition, one.partition.is_(None) & other.partition.is_(None)


def insert_rows(connection: sql.Connection, table: sql.Table, rows: Sequence[Sequence[Any]]) -> None:
    """Insert many rows, whose values stand in the order of the table's columns."""
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        _copy(connection, table, rows)
        return
    places = ", ".join("?" * len(table.columns))
    connection.exec_driver_sql(f"INSERT INTO {table.name} VALUES ({places})", [tuple(row) for row in rows])  # noqa: S608 (our own name)


def _copy(connection: sql.Connection, table: sql.Table, rows: Iterable[Sequence[Any]]) -> None:
    # An INSERT of each row takes ten times as long.
    lines = io.StringIO("".join("\t".join(map(_text, row)) + "\n" for row in rows))
    cursor: Any = connection.connection.cursor()
    try:
        cursor.copy_expert(f"COPY {table.name} FROM STDIN", lines)
    except connection.dialect.loaded_dbapi.Error as error:
        raise sql.exc.DatabaseError(f"COPY {table.name}", None, error) from error
    finally:
        cursor.close()


# PostgreSQL has no text with a null character in it.
_ESCAPED: Final = str.maketrans(
    {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\N{REPLACEMENT CHARACTER}"}
)


def _text(value: Any) -> str:
    if value is None:
        return r"\N"
    return value.translate(_ESCAPED) if isinstance(value, str) else str(value)
