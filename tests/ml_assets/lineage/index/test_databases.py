"""A killed writer or a full disk leaves the previous content of the index intact."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql

from ml_assets.lineage.index.databases import SqliteDatabase
from ml_assets.lineage.index.event_log import LoggedEvent
from ml_assets.lineage.index.index import LineageIndex
from ml_assets.lineage.questions import Question
from ml_assets.resources.errors import LineageError
from tests.ml_assets.lineage.index.indexed import require_equal, whole_graph
from tests.ml_assets.lineage.index.made_up import MadeUpLog, made, small_log
from tests.ml_assets.lineage.index.processes import in_processes


def test_a_writer_that_is_killed_leaves_what_was_there(file: Path, index: LineageIndex) -> None:
    code = (
        "import os, sys; from pathlib import Path; from ml_assets.lineage.index import schema;"
        "from ml_assets.lineage.index.databases import SqliteDatabase\n"
        "with SqliteDatabase(Path(sys.argv[1])).writing() as connection:\n"
        "    connection.exec_driver_sql('PRAGMA cache_size = 1')\n"
        "    schema.insert_rows(connection, schema.events, [(n, 'x' * 99) for n in range(100, 9999)])\n"
        "    schema.drop_tables(connection); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(file)], check=False).returncode == 9
    require_equal(whole_graph(index), small_log().graph())


@pytest.mark.parametrize("is_new", [True, False], ids=["made anew", "filled"])
def test_a_process_that_is_killed_while_it_writes_the_index_leaves_no_half_of_it(
    file: Path, index: LineageIndex, is_new: bool
) -> None:
    class Deadly(MadeUpLog):
        def read(self, storage_ids: Sequence[int]) -> Iterator[LoggedEvent]:
            for event in super().read(storage_ids):
                if event.storage_id == 900:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield event

    events = [*small_log().events.values(), *(made(number, f"more{number}") for number in range(6, 1000))]

    def die() -> None:
        database, log = SqliteDatabase(file), Deadly()
        # The cache is so small that half of the written data reaches the disk early.
        sql.event.listen(database._engine, "connect", lambda opened, _: opened.execute("PRAGMA cache_size = 1"))
        log.write(events)
        index = LineageIndex(log, database, lambda _: None)
        index.rebuild() if is_new else index.trace(Question("model"))

    assert in_processes(die) == [signal.SIGKILL]
    assert file.with_name(file.name + "-journal").exists() or is_new
    log = MadeUpLog()
    log.write(events)
    require_equal(whole_graph(LineageIndex(log, SqliteDatabase(file), pytest.fail)), log.graph())


def test_a_full_disk_is_told_and_repaired_by_asking_again(file: Path, index: LineageIndex) -> None:
    log = small_log()
    log.write(made(number, f"more{number}") for number in range(6, 1000))
    database = SqliteDatabase(file)

    def fill(opened: Any, _: Any) -> None:
        opened.execute("PRAGMA max_page_count = 20")  # SQLite reports the same error as on a full disk

    sql.event.listen(database._engine, "connect", fill)
    with pytest.raises(
        LineageError,
        match=r"cannot write the lineage index .*: database or disk is full. Next: make the location writable",
    ):
        LineageIndex(log, database, lambda _: None).trace(Question("model"))
    sql.event.remove(database._engine, "connect", fill)
    require_equal(whole_graph(LineageIndex(log, SqliteDatabase(file), pytest.fail)), log.graph())


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    index = LineageIndex(small_log(), SqliteDatabase(tmp_path / "file" / "lineage.db"), lambda _: None)
    with pytest.raises(
        LineageError, match=r"cannot write the lineage index \(.*file/lineage.db\).*Next: make the location"
    ):
        index.trace(Question("raw"))
