"""A full disk is recognised in the errors of all libraries."""

import errno
import sqlite3

import pytest
import sqlalchemy as sql

from ml_assets.resources.full_disk import full_disk


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "No space left on device"), (errno.EDQUOT, "Disk quota exceeded")]
)
def test_full_disk_is_named_with_its_file(number: int, words: str) -> None:
    assert full_disk(OSError(number, "text of the system", "/data/file")) == f"{words} (/data/file)"
    wrapped = RuntimeError("a library failed")
    wrapped.__cause__ = OSError(number, "text of the system")
    assert full_disk(wrapped) == words


def test_full_database_is_named() -> None:
    engine = sql.create_engine("sqlite://")
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 2")
        with pytest.raises(sql.exc.OperationalError) as raised:
            connection.exec_driver_sql("CREATE TABLE events AS SELECT zeroblob(100000) AS content")
    engine.dispose()
    assert full_disk(raised.value) == "No space left for an SQLite database"


@pytest.mark.parametrize("error", [ValueError("x"), OSError(errno.EIO, "x"), sqlite3.OperationalError("locked")])
def test_other_errors_are_none(error: Exception) -> None:
    assert full_disk(error) is None
