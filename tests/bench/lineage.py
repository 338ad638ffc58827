"""Measure questions about a history of 100,000 materializations and 1,000,000 edges: ``python -m tests.bench.lineage``.

Runs on SQLite and on PostgreSQL. Traces and impacts have up to 2,000 nodes and 20,000 edges, use references and options
of all kinds, and include collected content. They are compared with:

- MLflow: ``search_runs`` by a tag, which finds one run without its inputs or outputs.
- Dagster's GraphQL: the materializations of all assets that may be part of the answer. A client that knows these assets
  and our record can assemble the same graph from them.

Updating and rebuilding the index are compared with Dagster's own reading of the same events.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import md5, sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import dagster as dg
import sqlalchemy as sql

from ml_assets.dagster_internals import AssetKeyTable, EventLogCursor, SqlEventLogStorageTable
from ml_assets.lineage import Lineage
from ml_assets.lineage.deletion_log import DeletionLog
from ml_assets.lineage.index.index import open_index
from ml_assets.lineage.questions import Question
from ml_assets.resources.provenance import (
    RECORD_METADATA,
    ArtifactKind,
    Hardware,
    InputVersion,
    Launch,
    LaunchKind,
    ProvenanceRecord,
    RunEnvironment,
    Source,
)
from tests.bench.report import Measurement, write
from tests.postgres import postgres

_MATERIALIZATIONS = 100_000
_INPUTS = 10
_PROJECT = 2_000
"""Number of connected materializations: the size of the largest answer."""
_ASSETS = 20
"""Number of assets in a project. Their partitions fill the project."""
_WINDOW = 40
"""Inputs are chosen among this number of materializations before the reader."""
_NEW = 1_000
_COLLECTED = 10
"""The content of one materialization in this number was collected."""
_QUESTIONS = 200
_PROMISED_MS = 100
_GRAPHQL_QUESTIONS = 3
_PAGE = 1_000
_START = 1_700_000_000.0


def main(materializations: int = _MATERIALIZATIONS) -> None:
    """Measure, print and write ``build/bench/lineage.json``."""
    measured = []
    for name, opened in {"SQLite": _on_sqlite, "PostgreSQL": _on_postgres}.items():
        with opened() as home:
            measured += _measure(name, home, materializations)
    _say(f"load of the machine, of {os.cpu_count()} processors: {os.getloadavg()[0]:.1f}")
    write("lineage", measured)


def _measure(name: str, home: Path, materializations: int) -> list[Measurement]:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        _say(f"{name}: writing {materializations:,} events")
        _write_history(instance, 0, materializations)
        collected = [_version(number) for number in range(0, materializations, _COLLECTED)]
        DeletionLog(instance).add(collected, datetime.now(UTC))
        _settle(instance)
    _say(f"{name}: Dagster reads them")
    theirs = _in_process("read", home)
    _say(f"{name}: the index is made")
    ours = _in_process("rebuild", home)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        _say(f"{name}: questions")
        traces = sorted(_ask(instance, materializations, _trace))
        impacts = sorted(_ask(instance, materializations, _impact))
        graphql = _ask_graphql(instance, materializations)
        _write_history(instance, materializations, _NEW)
        upkeep = _seconds(lambda: _catch_up(instance)) / _NEW
        read = _seconds(lambda: _read_with_dagster(instance, materializations)) / _NEW
    search = _search_mlflow(materializations)
    measured = [
        Measurement("making the index, beside Dagster's reading of the events", ours[0], theirs[0], "s", times=2),
        Measurement("the memory of both", ours[1], theirs[1], "MB", at_most=500),
        Measurement("upkeep, a materialization, beside reading it", upkeep * 1e3, read * 1e3, "ms", at_most=1),
    ]
    for what, seconds in {"trace": traces, "impact": impacts}.items():
        figures = {"p95": _p95(seconds), "median": statistics.median(seconds) * 1e3}
        for beside, other in {"MLflow's search of one run": search, "Dagster's GraphQL": graphql}.items():
            for figure, ms in figures.items():
                at_most = _PROMISED_MS if figure == "p95" else None
                measured.append(Measurement(f"{what}, {figure}, beside {beside}", ms, other, "ms", at_most=at_most))
    return [replace(each, name=f"{name}: {each.name}") for each in measured]


def _in_process(what: str, home: Path) -> tuple[float, float]:
    """Return the seconds and the MB that a task takes in its own process."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.lineage", what, str(home)], check=True, capture_output=True, text=True
    )
    seconds, memory = json.loads(done.stdout.splitlines()[-1])
    return seconds, memory


def _process(what: str, home: str) -> None:
    with dg.DagsterInstance.from_config(home) as instance:
        do = {"read": lambda: _read_with_dagster(instance, 0), "rebuild": lambda: _rebuild(instance)}[what]
        seconds = _seconds(do)
    # getrusage would include the memory of the process from which this one was forked.
    (peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    print(json.dumps([seconds, int(peak.split()[1]) / 1024]))


def _rebuild(instance: dg.DagsterInstance) -> None:
    with open_index(instance) as index:
        index.rebuild()


def _catch_up(instance: dg.DagsterInstance) -> None:
    with open_index(instance) as index:
        index.trace(Question(_key(0) + "@0", depth=0))


def _read_with_dagster(instance: dg.DagsterInstance, after: int) -> int:
    count = 0
    for key in instance.get_asset_keys():
        cursor, more = EventLogCursor.from_storage_id(after).to_string() if after else None, True
        while more:
            page = instance.fetch_materializations(key, limit=_PAGE, cursor=cursor, ascending=True)
            count += len(page.records)
            cursor, more = page.cursor, page.has_more
    return count


def _ask(
    instance: dg.DagsterInstance, materializations: int, ask: Callable[[Lineage, str, random.Random], int]
) -> Iterator[float]:
    """Yield the time of each question in seconds, including the opening of the index."""
    generator, lineage = random.Random(1), Lineage(instance)
    _catch_up(instance)
    for _ in range(_QUESTIONS):
        reference = _reference(generator, generator.randrange(materializations))
        started = time.perf_counter()
        nodes = ask(lineage, reference, generator)
        yield time.perf_counter() - started
        assert 0 < nodes <= _PROJECT


def _reference(generator: random.Random, number: int) -> str:
    version, record = _version(number), _record(number)
    return generator.choice(
        [
            f"{_key(number)}@{_partition(number)}",
            _key(number),
            f"{_key(number)}@{_partition(number)}#{number + 1}",
            version,
            version[:16],
            str(record.environment.image),
            str(record.environment.environment_digest),
            str(record.source.commit),
            record.dagster_run,
        ]
    )


def _trace(lineage: Lineage, reference: str, generator: random.Random) -> int:
    options: list[dict[str, Any]] = [{}, {}, {"up": False}, {"down": False}, {"depth": 3}]
    options.append({"kinds": [ArtifactKind.DATASET]})
    return len(lineage.trace(reference, **generator.choice(options)).graph.nodes)


def _impact(lineage: Lineage, reference: str, _: random.Random) -> int:
    return len(lineage.impact(reference).affected)


def _ask_graphql(instance: dg.DagsterInstance, materializations: int) -> float:
    """Return the median milliseconds in which Dagster's server returns the data from which a trace can be assembled."""
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import EmptyWorkspaceTarget
    from dagster_graphql.test.utils import execute_dagster_graphql

    query = """
        query ($key: AssetKeyInput!, $limit: Int!) { assetOrError(assetKey: $key) { ... on Asset {
            assetMaterializations(limit: $limit) {
                runId timestamp partition tags { key value }
                metadataEntries { label ... on JsonMetadataEntry { jsonString } }
            }
        } } }"""
    taken = []
    with WorkspaceProcessContext(instance, EmptyWorkspaceTarget()) as workspace:
        context = workspace.create_request_context()
        for project in range(min(_GRAPHQL_QUESTIONS, materializations // _PROJECT)):
            started, count = time.perf_counter(), 0
            for asset in range(_ASSETS):
                variables = {"key": {"path": [_key(project * _PROJECT + asset)]}, "limit": _PROJECT}
                answer = execute_dagster_graphql(context, query, variables).data
                count += len(answer["assetOrError"]["assetMaterializations"])
            taken.append(time.perf_counter() - started)
            assert count
    return statistics.median(taken) * 1e3


def _p95(seconds: list[float]) -> float:
    """Return the 95th percentile of sorted seconds, in milliseconds."""
    return seconds[int(len(seconds) * 0.95)] * 1e3


def _write_history(instance: dg.DagsterInstance, first: int, count: int) -> None:
    storage: Any = instance.event_log_storage
    template = _template()
    keys = {_key(number) for number in range(first, first + count)}
    with storage.index_connection() as connection:
        if connection.dialect.name == "postgresql":
            connection = connection.execution_options(isolation_level="READ COMMITTED")
            with connection.begin():
                _insert(connection, template, first, count, keys)
        else:
            _insert(connection, template, first, count, keys)


def _settle(instance: dg.DagsterInstance) -> None:
    """Vacuum and analyze PostgreSQL, which does this by itself while a log grows for months."""
    storage: Any = instance.event_log_storage
    with storage.index_connection() as connection:
        if connection.dialect.name == "postgresql":
            connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("VACUUM (ANALYZE)")


def _insert(connection: sql.Connection, template: dict[str, Any], first: int, count: int, keys: set[str]) -> None:
    known = set(connection.scalars(sql.select(AssetKeyTable.c.asset_key)))
    added = [{"asset_key": json.dumps([key])} for key in sorted(keys) if json.dumps([key]) not in known]
    if added:
        connection.execute(AssetKeyTable.insert(), added)
    for start in range(first, first + count, _PAGE):
        rows = [_row(template, number) for number in range(start, min(start + _PAGE, first + count))]
        connection.execute(SqlEventLogStorageTable.insert(), rows)


def _template() -> dict[str, Any]:
    """Return an event as Dagster writes it."""
    metadata = {RECORD_METADATA: dg.MetadataValue.json({}), "rows": 1, "preview": dg.MetadataValue.md("| a |")}
    tags = {"dagster/data_version": _version(0), "dagster/code_version": "code"}
    with dg.DagsterInstance.ephemeral() as instance:
        made = dg.AssetMaterialization("template", partition="0", metadata=metadata, tags=tags)
        instance.report_runless_asset_event(made)
        storage: Any = instance.event_log_storage
        with storage.index_connection() as connection:
            event: dict[str, Any] = json.loads(connection.scalar(sql.select(SqlEventLogStorageTable.c.event)))
    return event


def _row(template: dict[str, Any], number: int) -> dict[str, Any]:
    key, partition, moment = _key(number), _partition(number), _START + number
    event = dict(template, run_id=_run(number), timestamp=moment)
    made = event["dagster_event"]["event_specific_data"]["materialization"]
    made["asset_key"]["path"], made["partition"] = [key], partition
    made["tags"]["dagster/data_version"] = _version(number)
    for entry in made["metadata_entries"]:
        if entry["label"] == RECORD_METADATA:
            entry["entry_data"]["data"] = _record(number).model_dump(mode="json")
    return {
        "id": number + 1,
        "run_id": _run(number),
        "event": json.dumps(event),
        "dagster_event_type": "ASSET_MATERIALIZATION",
        "timestamp": datetime.fromtimestamp(moment, UTC).replace(tzinfo=None),
        "step_key": key,
        "asset_key": json.dumps([key]),
        "partition": partition,
    }


def _record(number: int) -> ProvenanceRecord:
    generator = random.Random(number)
    place = number % _PROJECT
    before = range(max(number - _WINDOW, number - place), number)
    inputs = sorted(generator.sample(before, min(_INPUTS, len(before))))
    moment = datetime.fromtimestamp(_START + number, UTC)
    return ProvenanceRecord(
        kind=list(ArtifactKind)[place % 3],
        asset=_key(number),
        partition=_partition(number),
        data_version=_version(number),
        inputs=tuple(
            InputVersion(
                asset=_key(read),
                partition=_partition(read),
                data_version=_version(read),
                storage_id=read + 1,
                run_id=_run(read),
            )
            for read in inputs
        ),
        environment=RunEnvironment(
            target="kubernetes",
            image=f"registry.example/train@sha256:{sha256(str(number // _PROJECT).encode()).hexdigest()}",
            environment_digest=f"sha256:{sha256(f'environment {number // _PROJECT}'.encode()).hexdigest()}",
            python="CPython 3.11.7",
            dagster="1.13.27",
        ),
        source=Source(commit=sha256(str(number // 500).encode()).hexdigest()[:40], dirty=False),
        code_version="code",
        dagster_run=_run(number),
        dagster_step=_key(number),
        attempt=0,
        job="__ASSET_JOB",
        launch=Launch(kind=LaunchKind.SCHEDULE, name="nightly"),
        parameters={"rounds": 200, "depth": 6},
        hardware=Hardware(architecture="x86_64", system="Linux", processor="x", cpus=8, memory_bytes=1 << 34),
        started_at=moment,
        ended_at=moment,
        reproducible=True,
    )


def _key(number: int) -> str:
    return f"project_{number // _PROJECT}_asset_{number % _ASSETS}"


def _partition(number: int) -> str:
    return str(number % _PROJECT // _ASSETS)


def _version(number: int) -> str:
    return f"md5:{md5(str(number).encode()).hexdigest()}"


def _run(number: int) -> str:
    return str(UUID(int=number // _ASSETS + (1 << 100)))


def _search_mlflow(runs: int) -> float:
    """Return the median milliseconds that MLflow takes to find the run of a data version among this number of runs."""
    from mlflow import MlflowClient

    from ml_assets.resources.tracking.tags import RunTags

    with tempfile.TemporaryDirectory() as folder:
        client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
        experiment = client.create_experiment("bench")
        run = client.create_run(experiment, tags={RunTags.DATA_VERSION: "template"})
        engine = sql.create_engine(f"sqlite:///{folder}/mlflow.db")
        tables = sql.MetaData()
        tables.reflect(engine, only=["runs", "tags"])
        _copy_run(engine, tables, run.info.run_id, runs, RunTags.DATA_VERSION)
        taken = []
        for number in range(0, runs, max(runs // 20, 1)):
            wanted = f"tags.`{RunTags.DATA_VERSION}` = '{_version(number)}'"
            started = time.perf_counter()
            found = client.search_runs([experiment], wanted)
            taken.append(time.perf_counter() - started)
            assert len(found) == 1
        return statistics.median(taken) * 1e3


def _copy_run(engine: sql.Engine, tables: sql.MetaData, run_id: str, count: int, tag: str) -> None:
    runs, tags = tables.tables["runs"], tables.tables["tags"]
    with engine.begin() as connection:
        row = dict(connection.execute(sql.select(runs).where(runs.c.run_uuid == run_id)).mappings().one())
        for start in range(0, count, _PAGE):
            numbers = range(start, min(start + _PAGE, count))
            connection.execute(runs.insert(), [row | {"run_uuid": UUID(int=number).hex} for number in numbers])
            named = [{"run_uuid": UUID(int=number).hex, "key": tag, "value": _version(number)} for number in numbers]
            connection.execute(tags.insert(), named)


@contextmanager
def _on_sqlite() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield _home(Path(folder), "")


@contextmanager
def _on_postgres() -> Iterator[Path]:
    with postgres() as server, tempfile.TemporaryDirectory() as folder:
        yield _home(Path(folder), f"storage: {{postgres: {{postgres_url: '{server.url}'}}}}\n")


def _home(folder: Path, storage: str) -> Path:
    (folder / "dagster.yaml").write_text(f"telemetry: {{enabled: false}}\n{storage}")
    return folder


def _seconds(do: Callable[[], object]) -> float:
    started = time.perf_counter()
    do()
    return time.perf_counter() - started


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        _process(*sys.argv[1:])
    else:
        main(*map(int, sys.argv[1:]))
