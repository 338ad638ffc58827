"""The index of an instance in PostgreSQL, with shared tables and events that become visible out of order."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psycopg2
import pytest

from ml_assets.lineage.index.index import open_index
from ml_assets.lineage.questions import Question
from tests.ml_assets.lineage.index.indexed import load_graph, require_equal
from tests.postgres import Postgres, postgres

READER = Path(__file__).parents[4] / "deployments" / "kubernetes" / "base" / "reader.sql"


@dg.job
def nothing() -> None: ...


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture(scope="module")
def home(server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    storage = f"storage: {{postgres: {{postgres_url: '{server.url}'}}}}\n"
    (folder / "dagster.yaml").write_text(f"telemetry: {{enabled: false}}\n{storage}")
    return folder


@pytest.fixture(scope="module")
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    """One instance for all tests, because creating its tables takes seconds; each test uses its own assets."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def report(instance: dg.DagsterInstance, asset: str, version: str, *inputs: str) -> str:
    """Report a materialization and return its id."""
    tags = {"dagster/data_version": version}
    for read in inputs:
        name, _, storage_id = read.partition("#")
        (event,) = instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=dg.AssetKey(name), storage_ids=[int(storage_id)]), limit=1
        ).records
        assert event.asset_materialization
        tags[f"dagster/input_event_pointer/{name}"] = storage_id
        tags[f"dagster/input_data_version/{name}"] = (event.asset_materialization.tags or {})["dagster/data_version"]
    instance.report_runless_asset_event(dg.AssetMaterialization(asset, tags=tags))
    (event,) = instance.fetch_materializations(dg.AssetKey(asset), limit=1).records
    return f"{asset}#{event.storage_id}"


def execute(server: Postgres, statement: str) -> "psycopg2.extensions.connection":
    """Execute a statement in a transaction that stays open."""
    connection = psycopg2.connect(server.url)
    connection.cursor().execute(statement)
    return connection


def test_the_index_follows_new_events_and_wipes(instance: dg.DagsterInstance) -> None:
    flights = report(instance, "flights", "a")
    model = report(instance, "model", "m", flights)
    assert (flights, model) in load_graph(instance).edges
    again = report(instance, "model", "n", report(instance, "flights", "b\t\\N\n"))
    assert (flights, model) in load_graph(instance).edges
    instance.wipe_assets([dg.AssetKey("flights")])
    graph = load_graph(instance)
    assert {parent.kind.value for node in (model, again) for parent in graph.parents(node)} == {"missing"}


def test_a_deleted_run_is_gone(instance: dg.DagsterInstance) -> None:
    @dg.asset
    def read() -> None: ...

    @dg.asset(deps=[read])
    def reader() -> None: ...

    first = dg.materialize([read], instance=instance)
    dg.materialize([read, reader], selection=[reader], instance=instance)
    graph = load_graph(instance)
    instance.delete_run(first.run_id)
    after = load_graph(instance)
    assert after.nodes.keys() == graph.nodes.keys()
    assert [node.kind.value for node in after.nodes.values() if node.asset == "read"] == ["missing"]


def test_an_event_that_becomes_visible_late_is_not_missed(instance: dg.DagsterInstance, server: Postgres) -> None:
    early = report(instance, "late", "a")
    copied = "run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition"
    row = f"SELECT {copied} FROM event_logs WHERE id = {early.partition('#')[2]}"
    held = execute(server, f"INSERT INTO event_logs ({copied}) {row}")
    last = report(instance, "reader_of_late", "m", early)
    before = load_graph(instance)
    assert last in before.nodes
    held.commit()
    held.close()
    (late,) = load_graph(instance).nodes.keys() - before.nodes.keys()
    assert int(early.partition("#")[2]) < int(late.partition("#")[2]) < int(last.partition("#")[2])


def test_a_broken_index_is_made_anew_and_one_line_says_so(instance: dg.DagsterInstance, server: Postgres) -> None:
    kept = report(instance, "kept", "a")
    expected = load_graph(instance)
    for damage in (
        "DROP TABLE ml_assets_lineage_edges",
        "ALTER TABLE ml_assets_lineage_nodes DROP COLUMN commit",
        "UPDATE ml_assets_lineage_state SET value = '0.1' WHERE name = 'form'",
    ):
        held = execute(server, damage)
        held.commit()
        held.close()
        said: list[str] = []
        with open_index(instance, said.append) as index:
            assert kept in index.trace(Question("kept")).graph.nodes
        assert len(said) == 1
        require_equal(load_graph(instance), expected)


def test_processes_that_ask_at_once_all_get_the_answer(instance: dg.DagsterInstance, home: Path) -> None:
    asked_for = report(instance, "asked_for", "a")
    code = (
        "import sys, dagster as dg; from ml_assets.lineage.index.index import open_index;"
        "from ml_assets.lineage.questions import Question\n"
        "with dg.DagsterInstance.from_config(sys.argv[1]) as instance, open_index(instance, print) as index:\n"
        "    print(*index.trace(Question('asked_for')).starts)"
    )
    asked = [subprocess.Popen([sys.executable, "-c", code, home], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [each.communicate()[0].split() for each in asked] == [[asked_for]] * 3


def test_user_who_may_only_read_has_an_index_of_its_own(
    instance: dg.DagsterInstance, server: Postgres, tmp_path: Path
) -> None:
    kept = report(instance, "read_only", "a")
    load_graph(instance)  # the owner's index is in the schema that the reader can read
    connection = execute(server, f"{READER.read_text()} ALTER ROLE ml_assets_reader PASSWORD 'reader'")
    connection.commit()
    connection.close()
    reader = server.url.replace("ml_assets:tests", "ml_assets_reader:reader")
    (tmp_path / "dagster.yaml").write_text(
        f"telemetry: {{enabled: false}}\nstorage: {{postgres: {{postgres_url: '{reader}'}}}}\n"
    )
    with dg.DagsterInstance.from_config(str(tmp_path)) as read_only:
        assert kept in load_graph(read_only).nodes
        require_equal(load_graph(read_only), load_graph(instance))
        later = report(instance, "read_only", "b")
        assert later in load_graph(read_only).nodes
        assert [run.run_id for run in read_only.get_runs()] == [run.run_id for run in instance.get_runs()]
        with pytest.raises(Exception, match="permission denied for table"):
            report(read_only, "read_only", "c")
        with pytest.raises(Exception, match="permission denied for table"):
            read_only.create_run_for_job(nothing)
