"""The index is created if missing, repairs itself, and is never the source of truth."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from ml_assets.lineage.index.databases import MemoryDatabase, SqliteDatabase
from ml_assets.lineage.index.index import LineageIndex, open_index
from ml_assets.lineage.questions import Question
from tests.migrated import Migrated
from tests.ml_assets.lineage.index.indexed import load_graph, require_equal, whole_graph
from tests.ml_assets.lineage.index.made_up import MadeUpLog, ids, made, small_log
from tests.ml_assets.lineage.index.processes import in_processes


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
    assert f"the lineage index ({file})" in line
    assert "rebuilding it" in line
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


def test_processes_that_ask_rebuild_and_materialize_at_once_get_along(tmp_path: Path) -> None:
    """Each version of a chain derives from the previous one, so an answer with a gap is wrong."""

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
