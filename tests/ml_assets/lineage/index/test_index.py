"""The index is made where it is missing, mends itself, and is never the source of truth."""

import os
import signal
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sql

from ml_assets.lineage.graph import Node, NodeKind, Trace
from ml_assets.lineage.index.databases import MemoryDatabase, SqliteDatabase
from ml_assets.lineage.index.event_log import LoggedEvent
from ml_assets.lineage.index.event_parser import ParsedEvent
from ml_assets.lineage.index.index import LineageIndex, open_index
from ml_assets.lineage.questions import NODE_LIMIT, Question
from ml_assets.resources.errors import LineageError
from ml_assets.resources.provenance import ArtifactKind, InputVersion
from tests.migrated import Migrated
from tests.ml_assets.lineage.index.indexed import MadeUpLog, load_graph, require_equal, whole_graph

START = datetime(2026, 1, 1, tzinfo=UTC)


def made(storage_id: int, asset: str, *inputs: ParsedEvent, kind: ArtifactKind = ArtifactKind.DATASET) -> ParsedEvent:
    node = Node(
        asset=asset,
        kind=kind,
        data_version=f"v{storage_id}",
        storage_id=storage_id,
        dagster_run=f"run {storage_id}",
        timestamp=START + timedelta(days=storage_id),
    )
    read = [
        InputVersion(asset=each.node.asset, data_version=f"v{each.storage_id}", storage_id=each.storage_id)
        for each in inputs
    ]
    return ParsedEvent(node, tuple(read))


def small_log() -> MadeUpLog:
    raw = made(1, "raw")
    table = made(2, "table", raw)
    model = made(3, "model", table, kind=ArtifactKind.MODEL)
    log = MadeUpLog()
    log.write([raw, table, model, made(4, "report", model), made(5, "other")])
    return log


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lineage.db"


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def index(file: Path, said: list[str]) -> LineageIndex:
    """The index of a small log, in a file, brought up to date."""
    index = LineageIndex(small_log(), SqliteDatabase(file), said.append)
    require_equal(whole_graph(index), small_log().graph())
    assert said == []
    return index


def ids(trace: Trace) -> list[str]:
    return list(trace.graph.nodes)


def break_whole(file: Path) -> None:
    file.write_bytes(b"no database" * 1000)


def break_in_half(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size // 2 // 4096 * 4096)


def break_page(file: Path) -> None:
    with file.open("r+b") as opened:
        for page in range(1, file.stat().st_size // 4096):
            opened.seek(page * 4096)
            opened.write(b"\xff" * 100)


def break_in_page(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size - 4096 - 100)


def lose_node(file: Path) -> None:
    change(file, "DELETE FROM ml_assets_lineage_nodes WHERE key = 2")


def break_kind(file: Path) -> None:
    change(file, "UPDATE ml_assets_lineage_nodes SET kind = 'nonsense'")


def break_time(file: Path) -> None:
    change(file, "UPDATE ml_assets_lineage_nodes SET timestamp = 'nonsense'")


def drop_table(file: Path) -> None:
    change(file, "DROP TABLE ml_assets_lineage_edges")


def drop_column(file: Path) -> None:
    change(file, "ALTER TABLE ml_assets_lineage_nodes DROP COLUMN model_version")


def change_form(file: Path) -> None:
    change(file, "UPDATE ml_assets_lineage_state SET value = '0.1' WHERE name = 'form'")


def forget_form(file: Path) -> None:
    change(file, "DELETE FROM ml_assets_lineage_state")


def change(file: Path, statement: str) -> None:
    connection = sqlite3.connect(file)
    connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    "damage",
    [
        break_whole,
        break_in_half,
        break_in_page,
        break_page,
        lose_node,
        break_kind,
        break_time,
        drop_table,
        drop_column,
        change_form,
        forget_form,
    ],
)
def test_a_broken_index_is_made_anew_and_one_line_says_so(
    index: LineageIndex, file: Path, said: list[str], damage: object
) -> None:
    assert callable(damage)
    damage(file)
    assert ids(index.trace(Question("model"))) == ["raw#1", "table#2", "model#3", "report#4"]
    (line,) = said
    assert line.startswith(f"the lineage index ({file}) ")
    assert line.count("\n") == 0
    require_equal(whole_graph(index), small_log().graph())
    assert len(said) == 1


def test_an_empty_file_is_no_broken_index(file: Path, said: list[str]) -> None:
    file.touch()
    assert ids(LineageIndex(small_log(), SqliteDatabase(file), said.append).trace(Question("raw")))[0] == "raw#1"
    assert said == []


def test_an_index_is_filled_with_what_is_new_alone(index: LineageIndex) -> None:
    log = index._log
    assert isinstance(log, MadeUpLog)
    log.were_read.clear()
    log.write([made(6, "report", log.events[3])])
    assert "report#6" in ids(index.trace(Question("model")))
    index.trace(Question("model"))
    assert log.were_read == [6]


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
        # So little memory that half of what is written reaches the disk.
        sql.event.listen(database._engine, "connect", lambda opened, _: opened.execute("PRAGMA cache_size = 1"))
        log.write(events)
        index = LineageIndex(log, database, lambda _: None)
        index.rebuild() if is_new else index.trace(Question("model"))

    assert in_processes(die) == [signal.SIGKILL]
    assert file.with_name(file.name + "-journal").exists() or is_new
    log = MadeUpLog()
    log.write(events)
    require_equal(whole_graph(LineageIndex(log, SqliteDatabase(file), pytest.fail)), log.graph())


def in_processes(*tasks: Callable[[], object]) -> list[int]:
    """Do things at once; gives the status with which each process ended."""
    return [os.waitpid(pid, 0)[1] for pid in [_in_process(task) for task in tasks]]


def _in_process(task: Callable[[], object]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        task()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def test_a_full_disk_is_told_and_repaired_by_asking_again(file: Path, index: LineageIndex) -> None:
    log = small_log()
    log.write(made(number, f"more{number}") for number in range(6, 1000))
    database = SqliteDatabase(file)

    def fill(opened: Any, _: Any) -> None:
        opened.execute("PRAGMA max_page_count = 20")  # SQLite says the same as where no block is left

    sql.event.listen(database._engine, "connect", fill)
    with pytest.raises(LineageError, match=r"cannot be kept: database or disk is full. Next: make its place writable"):
        LineageIndex(log, database, lambda _: None).trace(Question("model"))
    sql.event.remove(database._engine, "connect", fill)
    require_equal(whole_graph(LineageIndex(log, SqliteDatabase(file), pytest.fail)), log.graph())


def test_what_is_deleted_while_the_index_is_being_filled_is_not_in_it() -> None:
    class Shrinking(MadeUpLog):
        def read(self, storage_ids):  # type: ignore[no-untyped-def]
            if 9 in storage_ids:
                self.events = {key: event for key, event in self.events.items() if key not in (2, 9)}
            yield from super().read(storage_ids)

    log = Shrinking()
    log.write(small_log().events.values())
    index = LineageIndex(log, MemoryDatabase(), pytest.fail)
    index.trace(Question("model"))
    log.write([made(9, "report", log.events[3])])
    index.trace(Question("model"))
    require_equal(whole_graph(index), log.graph())


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    index = LineageIndex(small_log(), SqliteDatabase(tmp_path / "file" / "lineage.db"), lambda _: None)
    with pytest.raises(LineageError, match=r"lineage index \(.*file/lineage.db\) cannot be kept.*Next: make its place"):
        index.trace(Question("raw"))


def test_processes_that_ask_rebuild_and_materialize_at_once_get_along(tmp_path: Path) -> None:
    """Each version of a chain is made of the one before it, so any answer that lacks one in between is wrong."""

    def follow(instance: dg.DagsterInstance) -> None:
        (last,) = instance.fetch_materializations(dg.AssetKey("chain"), limit=1).records
        tags = {"dagster/input_event_pointer/chain": str(last.storage_id), "dagster/input_data_version/chain": "v"}
        tags["dagster/data_version"] = "v"
        instance.report_runless_asset_event(dg.AssetMaterialization("chain", tags=tags))

    def materialize() -> None:
        with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
            for _ in range(40):
                follow(instance)

    def ask() -> None:
        length = 0
        with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
            for _ in range(30):
                with open_index(instance) as index:
                    graph = index.trace(Question("chain")).graph
                assert len(graph.edges) == len(graph.nodes) - 1 >= length
                length = len(graph.edges)

    def rebuild() -> None:
        with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
            for _ in range(15):
                with open_index(instance) as index:
                    assert index.rebuild()

    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization("chain", tags={"dagster/data_version": "v"}))
    assert in_processes(materialize, ask, ask, rebuild, rebuild) == [0] * 5
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        assert len(load_graph(instance).nodes) == 41


@pytest.fixture
def on_disk(tmp_path: Path, migrated: Migrated) -> Iterator[dg.DagsterInstance]:
    with migrated.instance(tmp_path) as instance:
        yield instance


def report(instance: dg.DagsterInstance, asset: str, version: str) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(asset, tags={"dagster/data_version": version}))


def test_an_index_that_was_kept_follows_wipes_and_remarks(on_disk: dg.DagsterInstance) -> None:
    for version in "abc":
        report(on_disk, "flights", version)
        report(on_disk, "weather", version)
        on_disk.report_runless_asset_event(dg.AssetObservation("weather", metadata={"remark": version}))
        load_graph(on_disk)
    on_disk.wipe_assets([dg.AssetKey("weather")])
    assert {node.asset for node in load_graph(on_disk).nodes.values()} == {"flights"}
    report(on_disk, "weather", "d")
    assert len(load_graph(on_disk).nodes) == 4
    on_disk.wipe_assets([dg.AssetKey("weather"), dg.AssetKey("flights")])
    assert not load_graph(on_disk).nodes
    report(on_disk, "flights", "e")
    assert len(load_graph(on_disk).nodes) == 1


def test_rebuilding_gives_the_same(on_disk: dg.DagsterInstance) -> None:
    report(on_disk, "flights", "a")
    before = load_graph(on_disk)
    with open_index(on_disk) as index:
        assert index.rebuild() == 1
    require_equal(load_graph(on_disk), before)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        (Question("model", down=False), ["raw#1", "table#2", "model#3"]),
        (Question("model", up=False), ["model#3", "report#4"]),
        (Question("model", depth=1), ["table#2", "model#3", "report#4"]),
        (Question("model", depth=0), ["model#3"]),
        (Question("raw", depth=2), ["raw#1", "table#2", "model#3"]),
        (Question("raw", kinds=frozenset({ArtifactKind.MODEL})), ["model#3"]),
        (Question("raw", depth=1, kinds=frozenset({ArtifactKind.MODEL})), []),
        (Question("raw", since=START + timedelta(days=3)), ["model#3", "report#4"]),
    ],
    ids=str,
)
def test_a_question_is_answered_with_what_it_asks_for(
    index: LineageIndex, question: Question, expected: list[str]
) -> None:
    assert ids(index.trace(question)) == expected


def test_an_answer_beyond_the_limit_is_refused(index: LineageIndex) -> None:
    assert len(ids(index.trace(Question("raw", limit=4)))) == 4
    for question in (Question("raw", limit=3), Question("raw", limit=2, depth=3), Question("raw", limit=0)):
        with pytest.raises(LineageError, match=r"'raw' has more than \d nodes. Next: narrow it"):
            index.trace(question)


def test_a_collected_version_may_have_more_bearers_than_an_answer(file: Path) -> None:
    empty = f"md5:{0:032}"
    events = [made(number, f"asset{number}") for number in range(1, NODE_LIMIT + 2)]
    log = MadeUpLog()
    log.write(replace(each, node=replace(each.node, data_version=empty)) for each in events)
    index = LineageIndex(log, SqliteDatabase(file), pytest.fail)
    newest = START + timedelta(days=events[-1].storage_id)
    for moment, expected in {newest: newest, newest - timedelta(seconds=1): None}.items():
        trace = index.trace(Question("asset1"), lambda versions, moment=moment: dict.fromkeys(versions, moment))
        assert [node.deleted_at for node in trace.graph.nodes.values()] == [expected]


def test_what_cannot_be_read_is_not_left_out_in_silence(index: LineageIndex) -> None:
    log = index._log
    assert isinstance(log, MadeUpLog)
    problem = LineageError("the record is malformed", next_step="wipe it")
    unreadable = replace(made(6, "late", log.events[3]).node, kind=NodeKind.UNREADABLE, problem=problem)
    log.write([replace(made(6, "late", log.events[3]), node=unreadable)])
    with pytest.raises(LineageError, match=r"the record is malformed\. Next: wipe it"):
        index.trace(Question("raw", kinds=frozenset({ArtifactKind.IMAGE})))


def test_a_chain_as_long_as_a_history_is_walked(file: Path) -> None:
    log = MadeUpLog()
    last = made(1, "state")
    log.write([last])
    for number in range(2, 3000):
        last = made(number, "state", last)
        log.write([last])
    index = LineageIndex(log, SqliteDatabase(file), pytest.fail)
    assert len(ids(index.trace(Question("v1")))) == 2999
