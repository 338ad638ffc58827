"""Edges are the inputs recorded when a step ran, read from a real event log."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets.lineage.graph import LineageGraph, NodeKind
from ml_assets.resources.errors import LineageError, UnknownReference
from ml_assets.resources.identity import Digest
from ml_assets.resources.provenance import (
    ENVIRONMENT_METADATA,
    INPUTS_METADATA,
    RECORD_METADATA,
    SCHEMA_VERSION,
    SOURCE_METADATA,
    TRACKED_METADATA,
    ArtifactKind,
    Hardware,
    InputVersion,
    Launch,
    LaunchKind,
    MlflowRun,
    ProvenanceRecord,
    RunEnvironment,
    Source,
)
from tests.migrated import Migrated
from tests.ml_assets.lineage.index.indexed import load_graph

ENVIRONMENT = str(Digest.of_bytes(b"environment"))
MONTHS = dg.StaticPartitionsDefinition(["2013-01", "2013-02", "2013-03"])


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def on_disk(tmp_path: Path, migrated: Migrated) -> Iterator[dg.DagsterInstance]:
    """An instance as in production: one database per run, and one of all asset events with its own ids."""
    with migrated.instance(tmp_path) as instance:
        yield instance


def version(text: str) -> str:
    return str(Digest.of_bytes(text.encode()))


def record(asset: str, content: str, **fields: Any) -> ProvenanceRecord:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    defaults: dict[str, Any] = {
        "kind": ArtifactKind.DATASET,
        "environment": RunEnvironment(target="local", environment_digest=ENVIRONMENT, python="3", dagster="1"),
        "source": Source(commit="c" * 40, dirty=True),
        "code_version": "code",
        "dagster_run": "unknown",
        "dagster_step": asset,
        "attempt": 0,
        "job": "job",
        "launch": Launch(kind=LaunchKind.USER),
        "hardware": Hardware(architecture="x", system="x", processor="x", cpus=1, memory_bytes=1),
        "started_at": moment,
        "ended_at": moment,
        "reproducible": False,
    }
    return ProvenanceRecord(asset=asset, data_version=version(content), **{**defaults, **fields})


def keep(
    instance: dg.DagsterInstance, asset: str, content: str, partition: str | None = None, **fields: Any
) -> InputVersion:
    """Materialize an asset with this name and a provenance record, and return its version as readers record it."""

    @dg.asset(name=asset, partitions_def=partition and dg.StaticPartitionsDefinition([partition]))
    def made(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        made = record(asset, content, partition=partition, dagster_run=context.run.run_id, **fields)
        metadata = {RECORD_METADATA: dg.MetadataValue.json(made.model_dump(mode="json"))}
        return dg.MaterializeResult(data_version=dg.DataVersion(made.data_version), metadata=metadata)

    dg.materialize([made], instance=instance, partition_key=partition)
    return latest(instance, asset)


def latest(instance: dg.DagsterInstance, asset: str) -> InputVersion:
    (event,) = instance.fetch_materializations(dg.AssetKey(asset), limit=1).records
    assert event.asset_materialization
    return InputVersion(
        asset=asset,
        partition=event.partition_key,
        data_version=(event.asset_materialization.tags or {})["dagster/data_version"],
        storage_id=event.storage_id,
        run_id=event.run_id,
    )


def name_of(read: InputVersion) -> str:
    return f"{read.asset}{f'@{read.partition}' if read.partition else ''}#{read.storage_id}"


def edges(graph: LineageGraph) -> set[tuple[str, str]]:
    return {(edge.source, edge.target) for edge in graph.edges}


def test_nodes_carry_what_the_record_says(instance: dg.DagsterInstance) -> None:
    image = f"registry.example/train@{version('image')}"
    ran = RunEnvironment(target="docker", image=image, environment_digest=ENVIRONMENT, python="3", dagster="1")
    mlflow = MlflowRun(
        run_id="3" * 32, experiment_id="0", tracking_uri="x", registered_model="delay", model_version="2"
    )
    model = keep(instance, "model", "m", kind=ArtifactKind.MODEL, environment=ran, mlflow=mlflow)
    (node,) = load_graph(instance).nodes.values()
    assert node.id == name_of(model)
    assert (node.kind, node.data_version, node.image, node.environment) == ("model", version("m"), image, ENVIRONMENT)
    assert (node.mlflow_run, node.model_version) == ("3" * 32, "models:/delay/2")
    assert (node.commit, node.dirty, node.dagster_run) == ("c" * 40, True, model.run_id)
    assert node.timestamp is not None
    assert abs((datetime.now(UTC) - node.timestamp).total_seconds()) < 3600


def test_edges_are_the_recorded_inputs_partition_by_partition(instance: dg.DagsterInstance) -> None:
    months = [keep(instance, "flights", month, partition=month) for month in ("2013-01", "2013-02", "2013-03")]
    model = keep(instance, "model", "m", inputs=tuple(months[:2]))
    assert edges(load_graph(instance)) == {(name_of(month), name_of(model)) for month in months[:2]}


def test_an_edge_stays_at_the_version_that_was_read(on_disk: dg.DagsterInstance) -> None:
    read = keep(on_disk, "flights", "before")
    keep(on_disk, "flights", "while the step ran")
    model = keep(on_disk, "model", "m", inputs=(read,))
    keep(on_disk, "flights", "after")
    assert edges(load_graph(on_disk)) == {(name_of(read), name_of(model))}


def test_edges_stay_when_the_definitions_change(instance: dg.DagsterInstance) -> None:
    read = keep(instance, "flights", "f")
    model = keep(instance, "model", "m", inputs=(read,))
    renamed = keep(instance, "departures", "f")
    again = keep(instance, "model", "m", partition="2013-01", inputs=(renamed,))
    assert edges(load_graph(instance)) == {(name_of(read), name_of(model)), (name_of(renamed), name_of(again))}


def test_a_wiped_input_stays_in_the_trace_and_is_marked(on_disk: dg.DagsterInstance) -> None:
    read = keep(on_disk, "flights", "f", partition="2013-01")
    model = keep(on_disk, "model", "m", inputs=(read,))
    on_disk.wipe_assets([dg.AssetKey("flights")])
    graph = load_graph(on_disk)
    assert edges(graph) == {(name_of(read), name_of(model))}
    assert graph.nodes[name_of(read)].kind is NodeKind.MISSING
    assert graph.trace(version("f")).starts == (name_of(read),)


def test_versions_of_a_deleted_run_stay_in_the_trace_and_are_marked(on_disk: dg.DagsterInstance) -> None:
    read = keep(on_disk, "flights", "f")
    model = keep(on_disk, "model", "m", inputs=(read,))
    assert read.run_id
    on_disk.delete_run(read.run_id)
    assert edges(load_graph(on_disk)) == {(name_of(read), name_of(model))}
    assert load_graph(on_disk).nodes[name_of(read)].kind is NodeKind.MISSING


def test_an_identical_run_again_gives_one_version_with_two_starts(instance: dg.DagsterInstance) -> None:
    twice = [keep(instance, "flights", "same") for _ in range(2)]
    assert set(load_graph(instance).trace(version("same")).starts) == {name_of(read) for read in twice}


def test_an_image_is_found_by_the_reference_that_was_built(instance: dg.DagsterInstance) -> None:
    built, around = (f"registry.example/train@{version(content)}" for content in ("built", "around"))
    ran = RunEnvironment(
        target="docker",
        image=around,
        index_digest=version("index"),
        environment_digest=ENVIRONMENT,
        python="3",
        dagster="1",
    )
    image = keep(instance, "train", "environment", kind=ArtifactKind.IMAGE, environment=ran, made_image=built)
    graph = load_graph(instance)
    assert graph.trace(built).starts == graph.trace(version("built")).starts == (name_of(image),)
    assert graph.nodes[name_of(image)].index_digest is None


def test_an_image_is_found_by_the_index_that_stands_above_it(instance: dg.DagsterInstance) -> None:
    built, index = f"registry.example/train@{version('built')}", version("index")
    image = keep(instance, "train", "environment", kind=ArtifactKind.IMAGE, made_image=built, made_index_digest=index)
    assert load_graph(instance).trace(index).starts == (name_of(image),)


def test_the_image_is_the_input_of_what_was_made_in_it(instance: dg.DagsterInstance) -> None:
    image = keep(instance, "train", "environment", kind=ArtifactKind.IMAGE)
    assert image.data_version == ENVIRONMENT
    ran = RunEnvironment(target="x", image_asset="train", environment_digest=ENVIRONMENT, python="3", dagster="1")
    model = keep(instance, "model", "m", environment=ran, inputs=(image.model_copy(update={"loaded": False}),))
    assert edges(load_graph(instance)) == {(name_of(image), name_of(model))}


def test_the_latest_image_is_no_input_of_a_step_that_ran_in_another(instance: dg.DagsterInstance) -> None:
    older = keep(instance, "train", "environment", kind=ArtifactKind.IMAGE)
    newest = keep(instance, "train", "upgraded", kind=ArtifactKind.IMAGE)
    ran = RunEnvironment(target="x", image_asset="train", environment_digest=ENVIRONMENT, python="3", dagster="1")
    model = keep(instance, "model", "m", environment=ran, inputs=(newest.model_copy(update={"loaded": False}),))
    assert edges(load_graph(instance)) == {(name_of(older), name_of(model))}


def test_the_image_that_ran_is_told_from_another_with_the_same_environment(instance: dg.DagsterInstance) -> None:
    images = [f"registry.example/train@{version(content)}" for content in ("older", "newer", "gone")]
    made = [keep(instance, "train", "environment", kind=ArtifactKind.IMAGE, made_image=image) for image in images[:2]]
    for image, expected in zip(images, [name_of(made[0]), name_of(made[1]), f"train#{ENVIRONMENT}"], strict=True):
        ran = RunEnvironment(
            target="x", image_asset="train", image=image, environment_digest=ENVIRONMENT, python="3", dagster="1"
        )
        given = made[1].model_copy(update={"loaded": False})
        model = keep(instance, "model", image, environment=ran, inputs=(given,))
        assert {edge for edge in edges(load_graph(instance)) if edge[1] == name_of(model)} == {
            (expected, name_of(model))
        }


def test_an_observed_version_is_a_node(instance: dg.DagsterInstance) -> None:
    place = {"commit": "d" * 40, "version": version("seen")}

    tags = {"dagster/data_version": version("seen")}
    instance.report_runless_asset_event(
        dg.AssetObservation("tracked", metadata={TRACKED_METADATA: dg.MetadataValue.json(place)}, tags=tags)
    )

    @dg.asset(deps=[dg.AssetSpec("tracked")])
    def plain() -> None: ...

    dg.materialize([plain], instance=instance)
    graph = load_graph(instance)
    (observed,) = (node for node in graph.nodes.values() if node.kind is NodeKind.OBSERVATION)
    assert (observed.data_version, observed.commit) == (version("seen"), "d" * 40)
    assert edges(graph) == {(observed.id, name_of(latest(instance, "plain")))}


def test_a_remark_about_an_asset_is_no_version_of_it(instance: dg.DagsterInstance) -> None:
    instance.report_runless_asset_event(dg.AssetObservation("flights", metadata={"verdict": "bit-identical"}))
    assert not load_graph(instance).nodes


def test_plain_assets_that_read_ours_are_linked_by_what_the_io_manager_wrote(instance: dg.DagsterInstance) -> None:
    read = keep(instance, "flights", "before")
    keep(instance, "flights", "after")

    @dg.asset(deps=["flights"])
    def report() -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(metadata={INPUTS_METADATA: dg.MetadataValue.json([read.model_dump(mode="json")])})

    dg.materialize([report], instance=instance)
    assert edges(load_graph(instance)) == {(name_of(read), name_of(latest(instance, "report")))}


@dg.asset(partitions_def=MONTHS)
def upstream(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(data_version=dg.DataVersion(f"version of {context.partition_key}"))


@dg.asset(partitions_def=MONTHS, deps=[upstream])
def monthly() -> None: ...


@dg.asset(deps=[dg.AssetDep(upstream, partition_mapping=dg.AllPartitionMapping())])
def whole() -> None: ...


@dg.multi_asset(specs=[dg.AssetSpec("left", deps=[whole]), dg.AssetSpec("right", deps=[whole, "left"])])
def pair() -> Iterator[dg.MaterializeResult[None]]:
    yield dg.MaterializeResult("left")
    yield dg.MaterializeResult("right")


def run(instance: dg.DagsterInstance, asset: dg.AssetsDefinition, partition: str | None = None) -> None:
    assets = [upstream, monthly, whole, pair]
    assert dg.materialize(assets, selection=[asset], instance=instance, partition_key=partition).success


def test_plain_partitions_are_linked_to_those_whose_versions_dagster_hashed(instance: dg.DagsterInstance) -> None:
    """Dagster's pointer is the upstream's latest event of any partition, here always that of March."""
    for month in MONTHS.get_partition_keys():
        run(instance, upstream, month)
    for month in MONTHS.get_partition_keys():
        run(instance, monthly, month)
    graph = load_graph(instance)
    for node in graph.nodes.values():
        if node.asset == "monthly":
            assert [(parent.asset, parent.partition) for parent in graph.parents(node.id)] == [
                ("upstream", node.partition)
            ]


def test_a_plain_asset_is_linked_to_all_partitions_that_it_read(instance: dg.DagsterInstance) -> None:
    for month in MONTHS.get_partition_keys():
        run(instance, upstream, month)
    run(instance, whole)
    run(instance, upstream, "2013-02")
    graph = load_graph(instance)
    read = graph.parents(name_of(latest(instance, "whole")))
    assert sorted(parent.partition or "" for parent in read) == MONTHS.get_partition_keys()
    assert name_of(latest(instance, "upstream")) not in {parent.id for parent in read}


def test_a_plain_multi_asset_has_the_edges_of_each_of_its_assets(instance: dg.DagsterInstance) -> None:
    run(instance, upstream, "2013-01")
    run(instance, whole)
    run(instance, pair)
    whole_id, left_id, right_id = (name_of(latest(instance, asset)) for asset in ("whole", "left", "right"))
    graph = load_graph(instance)
    assert {edge for edge in edges(graph) if edge[1] != whole_id} == {
        (whole_id, left_id),
        (whole_id, right_id),
        (left_id, right_id),
    }


def test_a_history_longer_than_a_page_is_read_whole(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml_assets.lineage.index.schema._BATCH_SIZE", 2)
    for number in range(5):
        instance.report_runless_asset_event(
            dg.AssetMaterialization("flights", tags={"dagster/data_version": f"{number}"})
        )
    assert [node.data_version for node in load_graph(instance).nodes.values()] == ["0", "1", "2", "3", "4"]


def report(instance: dg.DagsterInstance, name: str, payload: Any, **tags: str) -> str:
    """Report a materialization of ``flights`` without a run, and return the id of its node."""
    tags = {f"dagster/{tag}": value for tag, value in tags.items()}
    instance.report_runless_asset_event(dg.AssetMaterialization("flights", metadata={name: payload}, tags=tags))
    (event,) = instance.fetch_materializations(dg.AssetKey("flights"), limit=1).records
    return f"flights#{event.storage_id}"


LATER = {**record("flights", "f").model_dump(mode="json"), "schema_version": SCHEMA_VERSION + 1, "inputs": "moved"}
TOO_LARGE = {
    **record("flights", "f").model_dump(mode="json"),
    "inputs": [{"asset": "weather", "data_version": "w", "storage_id": 2**63}],
}
NO_REFERENCE = {**record("flights", "f").model_dump(mode="json"), "made_image": "train:latest"}


def test_a_record_of_a_later_form_is_refused(instance: dg.DagsterInstance) -> None:
    report(instance, RECORD_METADATA, dg.MetadataValue.json(LATER))
    with pytest.raises(
        LineageError, match=rf"event \d+ \(flights.*format {SCHEMA_VERSION + 1}.*Next: upgrade ml-assets"
    ):
        load_graph(instance).trace("flights")


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        (RECORD_METADATA, dg.MetadataValue.json({"schema_version": SCHEMA_VERSION})),
        (RECORD_METADATA, dg.MetadataValue.json([])),
        (RECORD_METADATA, "{"),
        (RECORD_METADATA, dg.MetadataValue.json(record("weather", "w").model_dump(mode="json"))),
        (RECORD_METADATA, dg.MetadataValue.json(NO_REFERENCE)),
        (RECORD_METADATA, dg.MetadataValue.json(TOO_LARGE)),
        (ENVIRONMENT_METADATA, dg.MetadataValue.json({"image": "train:latest"})),
        (SOURCE_METADATA, dg.MetadataValue.json({"commit": 1})),
        (INPUTS_METADATA, dg.MetadataValue.json([{"asset": "weather"}])),
        (TRACKED_METADATA, dg.MetadataValue.json({"commit": 1})),
    ],
    ids=[
        "fields missing",
        "not an object",
        "not JSON",
        "of another asset",
        "image by tag",
        "id too large",
        "environment",
        "source",
        "inputs",
        "commit",
    ],
)
def test_a_malformed_record_is_refused_naming_the_event(instance: dg.DagsterInstance, name: str, payload: Any) -> None:
    report(instance, name, payload)
    graph = load_graph(instance)
    with pytest.raises(LineageError, match=r"event \d+ \(flights, run .*malformed.*Next: materialize flights and then"):
        graph.trace("flights")


@pytest.mark.parametrize("dagster_input", ["first", "9" * 5000])
def test_a_malformed_pointer_is_refused_naming_the_event(instance: dg.DagsterInstance, dagster_input: str) -> None:
    tags = {"input_data_version/weather": "w", "input_event_pointer/weather": dagster_input}
    report(instance, "remark", "none", **tags)
    with pytest.raises(LineageError, match=rf"event \d+ \(flights, run .*'{dagster_input}' is not the id of an event"):
        load_graph(instance).trace("flights")


@pytest.mark.parametrize("payload", [LATER, NO_REFERENCE, {}], ids=["later", "image by tag", "malformed"])
def test_an_unreadable_event_leaves_the_traces_of_others_alone(instance: dg.DagsterInstance, payload: Any) -> None:
    read = keep(instance, "weather", "w")
    model = keep(instance, "model", "m", inputs=(read,))
    unreadable = report(instance, RECORD_METADATA, dg.MetadataValue.json(payload))
    graph = load_graph(instance)
    assert set(graph.trace("model").graph.nodes) == {name_of(read), name_of(model)}
    assert set(graph.trace("c" * 7).graph.nodes) == {name_of(read), name_of(model)}
    assert graph.nodes[unreadable].kind is NodeKind.UNREADABLE


def test_an_unreadable_event_keeps_the_version_and_the_edges_that_dagster_recorded(
    instance: dg.DagsterInstance,
) -> None:
    weather = keep(instance, "weather", "w")
    tags = {
        "data_version": version("f"),
        "input_data_version/weather": weather.data_version,
        "input_event_pointer/weather": str(weather.storage_id),
    }
    unreadable = report(instance, RECORD_METADATA, dg.MetadataValue.json(LATER), **tags)
    model = keep(instance, "model", "m", inputs=(latest(instance, "flights"),))
    graph = load_graph(instance)
    assert edges(graph) == {(name_of(weather), unreadable), (unreadable, name_of(model))}
    for reference in (version("f"), "weather", "model"):
        with pytest.raises(LineageError, match=r"event \d+ \(flights"):
            graph.trace(reference)


@pytest.mark.parametrize("repair", ["materialize", "wipe"])
def test_what_a_malformed_record_advises_repairs_the_trace(on_disk: dg.DagsterInstance, repair: str) -> None:
    report(on_disk, RECORD_METADATA, dg.MetadataValue.json({}), data_version=version("f"))
    keep(on_disk, "model", "m", inputs=(latest(on_disk, "flights"),))
    if repair == "materialize":
        again = keep(on_disk, "flights", "f")
        keep(on_disk, "model", "n", inputs=(again,))
    else:
        on_disk.wipe_assets([dg.AssetKey("flights")])
    assert [node.asset for node in load_graph(on_disk).trace("model").graph.nodes.values()] == ["flights", "model"]


def test_a_name_that_may_stand_in_an_unreadable_event_is_not_called_unrecorded(instance: dg.DagsterInstance) -> None:
    unreadable = report(instance, RECORD_METADATA, dg.MetadataValue.json(LATER))
    with pytest.raises(UnknownReference, match=rf"'models:/delay/1'.*unreadable events: 1, such as {unreadable}"):
        load_graph(instance).trace("models:/delay/1")
