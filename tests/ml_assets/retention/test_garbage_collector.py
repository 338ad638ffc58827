"""Kept content can be fetched after a collection, and deleted content is reported: real remotes, MLflow, a registry."""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import pandas as pd
import pytest
from mlflow import MlflowClient
from moto.server import ThreadedMotoServer

from ml_assets.artifacts.io_manager import STORAGE_KEY, ArtifactStorage
from ml_assets.datasets import dataset
from ml_assets.images import container_image
from ml_assets.lineage import Lineage
from ml_assets.lineage.deletion_log import DeletionLog, explain_missing
from ml_assets.lineage.graph import Node
from ml_assets.lineage.impact import Urgency
from ml_assets.lineage.index.index import LineageIndex, open_index
from ml_assets.models import TrainedModel, model
from ml_assets.resources.dvc.store import DvcStore
from ml_assets.resources.errors import ContentMissing, RegistryError, RetentionError
from ml_assets.resources.identity import Digest, ImageReference
from ml_assets.resources.image_builders.environment import InterpreterEnvironment
from ml_assets.resources.image_builders.interface import BuiltImage
from ml_assets.resources.registry.client import RegistryClient
from ml_assets.resources.tracking.model_registry import ModelRegistry
from ml_assets.retention.garbage_collector import GarbageCollector, Scope
from ml_assets.retention.plan import Plan
from ml_assets.retention.policy import Policy, kept_nodes
from tests.conftest import require_program
from tests.oci_registry import OciRegistry

NO_GRACE = timedelta(0)
CONTENT: dict[str, str] = {}
"""Content of the next directory."""
FOLDER: list[Path] = []
train = container_image("train", dockerfile="Dockerfile.train", sources=["resources"])


def written() -> Path:
    folder = FOLDER[0] / f"folder-{len(list(FOLDER[0].glob('folder-*')))}"
    folder.mkdir()
    for name, text in CONTENT.items():
        (folder / name).write_text(text)
    return folder


@dataset(image=train, partitions_def=dg.StaticPartitionsDefinition(["a", "b"]))
def files() -> Path:
    return written()


@dataset()
def copied(files: dict[str, Path]) -> Path:
    CONTENT.update({f"{name}-{file.name}": file.read_text() for name, one in files.items() for file in one.iterdir()})
    return written()


@model(registered_name="delay")
def delay(copied: Path) -> TrainedModel:
    from sklearn.linear_model import LinearRegression

    inputs = pd.DataFrame({"x": [1.0, 2.0]})
    return TrainedModel(LinearRegression().fit(inputs, inputs["x"] * len(CONTENT)), inputs, {"files": len(CONTENT)})


@model()
def unregistered(copied: Path) -> TrainedModel:
    from sklearn.linear_model import LinearRegression

    inputs = pd.DataFrame({"x": [1.0, 2.0]})
    return TrainedModel(LinearRegression().fit(inputs, inputs["x"] * len(CONTENT)), inputs, {"files": len(CONTENT)})


@dg.job
def nothing() -> None: ...


DATA = ("files", "copied")
ASSETS = [train, files, copied, delay, unregistered]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Path:
    FOLDER[:] = [tmp_path]
    CONTENT.clear()
    return tmp_path


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance in memory, which is created in a tenth of the time."""
    with dg.DagsterInstance.ephemeral() as found:
        yield found


@pytest.fixture
def collector(instance: dg.DagsterInstance, storage: ArtifactStorage, tmp_path: Path) -> GarbageCollector:
    models = ModelRegistry(storage.tracking.tracking_uri, storage.tracking.experiment)
    client = RegistryClient(docker_config=tmp_path / "no-config.json", timeout=20)
    return GarbageCollector(instance, storage.store, models, client)


@pytest.fixture
def make(instance: dg.DagsterInstance, resources: dict[str, Any]) -> Callable[..., None]:
    def materialize(asset: dg.AssetsDefinition, content: dict[str, str], partition: str | None = None) -> None:
        CONTENT.clear()
        CONTENT.update(content)
        dg.materialize(ASSETS, selection=[asset], partition_key=partition, instance=instance, resources=resources)

    return materialize


def all_of(collector: GarbageCollector, asset: str) -> list[Node]:
    with open_index(collector.instance) as index:
        return [node for node in index.whole().nodes.values() if node.asset == asset]


def collect(collector: GarbageCollector, policy: Policy, *scopes: Scope, orphans: bool = False) -> Plan:
    chosen = scopes or (Scope.DATA, Scope.CACHE)
    plan = collector.plan(policy, chosen, orphans=orphans)
    list(collector.collect(policy, plan, chosen))
    return plan


def require_kept(collector: GarbageCollector, policy: Policy, folder: Path) -> int:
    """Fetch all kept content into an empty cache, which verifies it; return the number of deleted versions."""
    fresh = collector.store.model_copy(update={"cache": str(folder / f"fresh-{random.random()}")})
    with open_index(collector.instance) as index:
        graph = index.whole()
    kept = kept_nodes(graph, policy, frozenset(), datetime.now(UTC))
    contents = {node.id: Digest.parse(node.data_version or "") for node in graph.nodes.values() if node.asset in DATA}
    there = {version for name, version in contents.items() if name in kept}
    assert there
    for version in there:
        fresh.fetch(version)
    return len({version for version in contents.values() if not fresh.has(version)})


def test_every_kept_materialization_can_be_fetched_whatever_went(
    collector: GarbageCollector, make: Callable[..., None], tmp_path: Path
) -> None:
    chance, gone = random.Random(7), 0
    for keep in (2, 1):
        for _ in range(4):
            content = {f"{number}.txt": f"text {number}" for number in range(12) if chance.random() < 0.4}
            make(files, content, chance.choice("ab"))
        make(copied, {"own.txt": f"text {keep}"})
        policy = Policy(last=keep, grace=NO_GRACE)
        plan = collect(collector, policy)
        assert collector.plan(policy, [Scope.DATA]).data.collect == ()
        assert not plan.data.incomplete
        gone = require_kept(collector, policy, tmp_path)
    assert gone


def test_a_trace_says_what_was_collected_until_it_is_made_again(
    collector: GarbageCollector, make: Callable[..., None], tmp_path: Path
) -> None:
    make(files, {"old": "old"}, "a")
    make(files, {"new": "new"}, "a")
    collect(collector, Policy(last=1, grace=NO_GRACE))
    lineage = Lineage(collector.instance)
    old, new = sorted(all_of(collector, "files"), key=lambda node: node.storage_id or 0)
    assert lineage.trace(old.id).graph.nodes[old.id].deleted_at is not None
    assert lineage.trace(new.id).graph.nodes[new.id].deleted_at is None
    with pytest.raises(ContentMissing) as error:
        collector.store.fetch(Digest.parse(old.data_version or ""))
    assert "ml-assets gc deleted the content" in str(
        explain_missing(error.value, old.data_version or "", collector.instance)
    )
    make(files, {"old": "old"}, "a")
    assert lineage.trace(old.id).graph.nodes[old.id].deleted_at is None


def test_a_trace_of_much_that_was_collected_brings_the_index_up_once(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = [f"md5:{number:032}" for number in range(30)]
    for version in versions:
        tags = {"dagster/data_version": version}
        instance.report_runless_asset_event(dg.AssetMaterialization("table", partition=version, tags=tags))
    DeletionLog(instance).add(versions, datetime.now(UTC))
    looked = list[object]()
    sync = LineageIndex._sync
    monkeypatch.setattr(LineageIndex, "_sync", lambda index: looked.append(index) or sync(index))
    trace = Lineage(instance).trace("table", up=False)
    assert all(node.deleted_at for node in trace.graph.nodes.values())
    assert len(looked) == 1


def test_nothing_goes_while_runs_are_at_work(collector: GarbageCollector, make: Callable[..., None]) -> None:
    make(files, {"old": "old"}, "a")
    make(files, {"new": "new"}, "a")
    policy = Policy(last=1, grace=NO_GRACE)
    plan = collector.plan(policy, [Scope.DATA])
    run = collector.instance.create_run_for_job(nothing)
    collector.instance.report_run_canceling(run)
    with pytest.raises(RetentionError, match=f"runs are in progress \\({run.run_id[:8]}"):
        list(collector.collect(policy, plan, [Scope.DATA]))
    collector.instance.report_run_canceled(run)
    assert len(list(collector.collect(policy, plan, [Scope.DATA]))) == 1


def test_what_is_younger_than_the_grace_period_stays(collector: GarbageCollector, make: Callable[..., None]) -> None:
    make(files, {"old": "old"}, "a")
    make(files, {"new": "new"}, "a")
    assert collector.plan(Policy(last=1), list(Scope)).size == 0


def test_only_what_was_agreed_upon_goes(collector: GarbageCollector, make: Callable[..., None]) -> None:
    for text in ("first", "second", "third"):
        make(files, {text: text}, "a")
    agreed = collector.plan(Policy(last=2, grace=NO_GRACE), [Scope.DATA])
    list(collector.collect(Policy(last=1, grace=NO_GRACE), agreed, [Scope.DATA]))
    assert len(collector.plan(Policy(last=1, grace=NO_GRACE), [Scope.DATA]).data.collect) == 1


def test_an_interrupted_collection_is_finished_by_the_next(
    collector: GarbageCollector, make: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make(files, {"one": "1", "two": "2", "shared": "3"}, "a")
    make(files, {"shared": "3"}, "a")
    policy, remote = Policy(last=1, grace=NO_GRACE), collector.store.opened()
    plan, remove, removed = collector.plan(policy, [Scope.DATA]), type(remote).remove, list[str]()

    def die(self: Any, values: Any) -> None:
        if removed:
            raise KeyboardInterrupt
        removed.append(values[0])
        remove(self, values[:1])

    with monkeypatch.context() as patch:
        patch.setattr(type(remote), "remove", die)
        with pytest.raises(KeyboardInterrupt):
            list(collector.collect(policy, plan, [Scope.DATA]))
    (rest,) = collector.plan(policy, [Scope.DATA]).data.collect
    assert set(rest.objects) == set(plan.data.collect[0].objects) - set(removed)
    collect(collector, policy)
    assert not collector.plan(policy, [Scope.DATA], orphans=True).data.orphans
    require_kept(collector, policy, tmp_path)


def test_what_plain_dvc_users_keep_in_the_remote_stays_unless_it_is_asked_for(
    collector: GarbageCollector, make: Callable[..., None], tmp_path: Path
) -> None:
    make(files, {"old": "old", "theirs": "theirs"}, "a")
    make(files, {"new": "new"}, "a")
    CONTENT.clear()
    CONTENT.update({"theirs": "theirs", "more": "more"})
    theirs = Digest.parse(collector.store.put(written()).version)
    policy = Policy(last=1, grace=NO_GRACE)
    plan = collect(collector, policy)
    # One of their three files is also in a collected directory.
    assert len(plan.data.orphans) == 2
    fresh = collector.store.model_copy(update={"cache": str(tmp_path / "fresh")})
    fresh.fetch(theirs)
    collect(collector, policy, Scope.DATA, orphans=True)
    assert not collector.store.has(theirs)


def test_what_another_instance_said_to_keep_stays(
    collector: GarbageCollector, make: Callable[..., None], resources: dict[str, Any]
) -> None:
    CONTENT.update({"common": "common"})
    with dg.DagsterInstance.ephemeral() as other:
        dg.materialize([files], selection=[files], partition_key="a", instance=other, resources=resources)
        collect(replace(collector, instance=other), Policy(grace=NO_GRACE))
        make(files, {"common": "common"}, "a")
        make(files, {"new": "new"}, "a")
        notes: list[str] = []
        plan = replace(collector, note=notes.append).plan(Policy(last=1, grace=NO_GRACE), [Scope.DATA])
    assert plan.data.collect == ()
    assert any("1 other instances keep content" in line for line in notes)


def test_objects_and_notes_of_strangers_stop_nothing_and_stay(
    collector: GarbageCollector, make: Callable[..., None], tmp_path: Path
) -> None:
    make(files, {"old": "old"}, "a")
    make(files, {"new": "new"}, "a")
    remote, objects = collector.store.opened(), Path(collector.store.remote) / "files" / "md5"
    strange = {
        "ab/" + "0" * 30 + ".dir": "garbage",
        "ab/" + "1" * 30 + ".dir": json.dumps([{"md5": "../../../victim", "relpath": "a"}] * 3)[1:],
        "ab/readme.txt": "not an object",
        "notes/" + "2" * 30: "not an object",
    }
    for name, text in strange.items():
        (objects / name).parent.mkdir(exist_ok=True)
        (objects / name).write_text(text)
    remote.write_note("keeps/README", b"not a claim")
    remote.write_note("collecting.json", b'{"until": "x"}')
    notes: list[str] = []
    told = replace(collector, note=notes.append)
    plan = collect(told, Policy(last=1, grace=NO_GRACE), Scope.DATA, orphans=True)
    assert len(plan.data.collect) == 1
    assert set(plan.data.damaged) == {"ab" + "0" * 30 + ".dir", "ab" + "1" * 30 + ".dir"}
    assert any("keeps/README" in line for line in notes)
    assert all((objects / name).exists() for name in strange if not name.endswith(".dir"))
    require_kept(collector, Policy(last=1, grace=NO_GRACE), tmp_path)


@pytest.mark.parametrize("damage", ["listing", "claim"])
def test_nothing_goes_while_it_is_unknown_what_others_need(
    damage: str, collector: GarbageCollector, make: Callable[..., None]
) -> None:
    make(files, {"old": "old"}, "a")
    make(files, {"new": "new"}, "a")
    CONTENT.clear()
    CONTENT.update({"old": "old", "theirs": "theirs"})
    theirs = collector.store.put(written()).version.removeprefix("md5:")
    collector.store.forget([theirs])
    listing = Path(collector.store.remote) / "files" / "md5" / theirs[:2] / theirs[2:]
    if damage == "listing":
        listing.chmod(0o644)
        listing.write_bytes(listing.read_bytes()[:20])
    else:
        collector.store.opened().write_note("keeps/0123.json", b'["')
    notes: list[str] = []
    plan = collect(replace(collector, note=notes.append), Policy(last=1, grace=NO_GRACE), Scope.DATA, orphans=True)
    assert (plan.data.collect, dict(plan.data.orphans)) == ((), {})
    assert plan.data.unknown == {theirs} if damage == "listing" else any("keeps/0123.json" in line for line in notes)


def test_the_cache_keeps_what_is_kept(collector: GarbageCollector, make: Callable[..., None]) -> None:
    for text in ("old", "new"):
        make(files, {text: text}, "a")
        make(files, {text: text}, "b")
        make(copied, {})
    before = collector.store.cached()
    collect(collector, Policy(last=1, grace=NO_GRACE), Scope.CACHE)
    assert 0 < len(collector.store.cached()) < len(before)
    assert collector.plan(Policy(last=1, grace=NO_GRACE), [Scope.DATA]).data.collect


def test_content_goes_from_a_server_too(
    collector: GarbageCollector, instance: dg.DagsterInstance, storage: ArtifactStorage, tmp_path: Path
) -> None:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        keys = {"access_key_id": "key", "secret_access_key": "secret", "region": "us-east-1"}
        options = {"endpointurl": "http://{}:{}".format(*server.get_host_and_port()), **keys}
        client = boto3.client(
            "s3",
            endpoint_url=options["endpointurl"],
            aws_access_key_id="key",
            aws_secret_access_key="secret",
            region_name="us-east-1",
        )
        client.create_bucket(Bucket="content")
        client.close()
        store = DvcStore(remote="s3://content/store", options=options, cache=str(tmp_path / "cache"))
        there = {STORAGE_KEY: replace(storage, store=store)}
        for text in ("old", "new"):
            CONTENT.clear()
            CONTENT.update({text: text, "shared": "shared"})
            dg.materialize(ASSETS, selection=[files], partition_key="a", instance=instance, resources=there)
        # S3 has timestamps in whole seconds.
        policy = Policy(last=1, grace=timedelta(seconds=-2))
        plan = collect(replace(collector, store=store), policy)
        assert [len(each.objects) for each in plan.data.collect] == [2]
        assert require_kept(replace(collector, store=store), policy, tmp_path) == 1
        assert store.opened().notes("keeps")
        assert store.opened().read_note("collecting.json") is None
    finally:
        server.stop()


def test_artifacts_of_models_that_are_not_kept_go_and_their_runs_stay(
    collector: GarbageCollector, make: Callable[..., None], storage: ArtifactStorage
) -> None:
    for partition in ("a", "b"):
        make(files, {"a": "a"}, partition)
    make(copied, {})
    for number in range(2):
        make(delay, {str(each): "" for each in range(number + 1)})
    policy = Policy(last=1, grace=NO_GRACE)
    assert collector.plan(policy, [Scope.MLFLOW]).runs == ()
    client = MlflowClient(storage.tracking.tracking_uri)
    client.delete_model_version("delay", "1")
    (first, second) = sorted(all_of(collector, "delay"), key=lambda node: node.storage_id or 0)
    plan = collect(collector, policy, Scope.MLFLOW, Scope.DATA)
    ((gone,), (content,)) = plan.runs, plan.data.collect
    assert (gone.run_id, gone.of, content.of) == (first.mlflow_run, (first.id,), (first.id,))
    assert gone.size > 0
    run = client.get_run(first.mlflow_run or "")
    assert run.data.metrics["files"] == 1
    assert "ml_assets.collected" in run.data.tags
    assert collector.plan(policy, [Scope.MLFLOW]).runs == ()
    assert client.list_artifacts(second.mlflow_run or "") or client.get_run(second.mlflow_run or "").outputs


@pytest.mark.parametrize("policy", [Policy(last=1), Policy(last=1, registered=False)], ids=["registered", "deployed"])
def test_models_that_people_registered_themselves_are_kept(
    collector: GarbageCollector, make: Callable[..., None], policy: Policy
) -> None:
    policy = replace(policy, grace=NO_GRACE)
    make_models(make, unregistered, "abcd")
    first, second, third, _ = nodes = made_in_order(collector, "unregistered")
    client = MlflowClient(collector.models.uri)
    for name, node in {"prod": first, "other": second}.items():
        (logged,) = client.get_run(node.mlflow_run or "").outputs.model_outputs
        client.create_registered_model(name)
        # MLflow's UI does the same.
        source = client.get_logged_model(logged.model_id).artifact_location
        client.create_model_version(name, source, run_id=node.mlflow_run)
        client.set_registered_model_alias(name, "champion", "1")
    assert gone_runs(collector, policy) == [third.mlflow_run]
    shown = Lineage(collector.instance, collector.models).trace("copied", up=False).graph.nodes
    assert [(shown[each.id].model_version, shown[each.id].aliases) for each in nodes] == [
        ("models:/prod/1", ("champion",)),
        ("models:/other/1", ("champion",)),
        (None, ()),
        (None, ()),
    ]


@pytest.mark.parametrize("is_left", [True, False], ids=["promoted", "moved"])
def test_a_model_that_was_promoted_to_another_name_is_kept_and_the_first_that_is_affected(
    collector: GarbageCollector, make: Callable[..., None], is_left: bool
) -> None:
    make_models(make, delay, "abc")
    first, second, third = made_in_order(collector, "delay")
    client = MlflowClient(collector.models.uri)
    client.copy_model_version("models:/delay/1", "prod")
    client.set_registered_model_alias("prod", "champion", "1")
    if not is_left:
        client.delete_model_version("delay", "1")
    assert gone_runs(collector, Policy(last=1, registered=False, grace=NO_GRACE)) == [second.mlflow_run]
    found = Lineage(collector.instance, collector.models).impact("copied")
    assert [(each.node.id, each.urgency) for each in found.affected[:3]] == [
        (first.id, Urgency.DEPLOYED),
        (second.id, Urgency.REGISTERED),
        (third.id, Urgency.REGISTERED),
    ]
    lineage = Lineage(collector.instance, collector.models)
    for reference in ("models:/prod@champion", "models:/prod/1"):
        assert lineage.origin(reference).node.id == first.id
    (told, *_) = found.affected
    assert (told.node.model_version, told.node.aliases) == (
        ("models:/delay/1", ("models:/prod@champion",)) if is_left else ("models:/prod/1", ("champion",))
    )


def test_a_registry_of_many_pages_is_read_whole(
    collector: GarbageCollector, make: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml_assets.resources.tracking.model_registry._PAGE", 2)
    make_models(make, delay, "ab")
    client = MlflowClient(collector.models.uri)
    for number in range(5):
        client.copy_model_version("models:/delay/1", f"copy{number}")
        client.set_registered_model_alias(f"copy{number}", "champion", "1")
    first, _ = made_in_order(collector, "delay")
    told = Lineage(collector.instance, collector.models).trace(first.id).graph.nodes[first.id]
    assert told.aliases == tuple(f"models:/copy{number}@champion" for number in range(5))


def test_all_models_are_kept_where_mlflow_does_not_answer(
    collector: GarbageCollector, make: Callable[..., None]
) -> None:
    make_models(make, unregistered, "ab")
    (content,) = collector.plan(Policy(last=1, grace=NO_GRACE), [Scope.DATA]).data.collect
    assert content.of == (made_in_order(collector, "unregistered")[0].id,)
    notes: list[str] = []
    silent = replace(collector, models=ModelRegistry("http://127.0.0.1:1", "tests"), note=notes.append)
    assert silent.plan(Policy(last=1, grace=NO_GRACE), [Scope.DATA]).data.collect == ()
    assert notes[-1].startswith("all models are kept, because the registered ones are unknown. the MLflow server")


def make_models(make: Callable[..., None], asset: dg.AssetsDefinition, numbers: str) -> None:
    """Make different models from the same data."""
    for partition in ("a", "b"):
        make(files, {"a": "a"}, partition)
    make(copied, {})
    for number in range(len(numbers)):
        make(asset, dict.fromkeys(numbers[: number + 1], ""))


def made_in_order(collector: GarbageCollector, asset: str) -> list[Node]:
    return sorted(all_of(collector, asset), key=lambda node: node.storage_id or 0)


def gone_runs(collector: GarbageCollector, policy: Policy) -> list[str]:
    """Return the MLflow runs whose artifacts and content are deleted."""
    plan = collect(collector, policy, Scope.MLFLOW, Scope.DATA)
    assert [each.of for each in plan.runs] == [each.of for each in plan.data.collect]
    return [each.run_id for each in plan.runs]


class Pushing(InterpreterEnvironment):
    """Stand-in for BuildKit: the test pushes the images that it claims to have built."""

    built: list[ImageReference]
    index: list[str]

    def build(self, spec: Any, log: Any) -> BuiltImage:
        made = super().build(spec, log)
        return replace(made, image=self.built[-1], index_digest=Digest.parse(self.index[-1]))


def push(registry: OciRegistry, tag: str) -> tuple[ImageReference, str]:
    digest = registry.push_image("ml/train", f"{tag}-amd64", labels={"build": tag})
    attestation = registry.push_image("ml/train", f"{tag}-attestation", architecture="unknown", labels={"of": tag})
    index = registry.push_index("ml/train", tag, {"linux/amd64": digest, "unknown/unknown": attestation})
    return ImageReference.parse(f"{registry.host}/ml/train@{digest}"), index


@pytest.mark.parametrize("deletes", [True, False])
def test_images_that_nothing_kept_was_made_in_go_with_what_is_attached(
    collector: GarbageCollector,
    instance: dg.DagsterInstance,
    storage: ArtifactStorage,
    tmp_path: Path,
    deletes: bool,
) -> None:
    program = require_program("docker-registry", "docker-registry")
    location = {"filesystem": {"rootdirectory": str(tmp_path / "registry")}, "delete": {"enabled": deletes}}
    with OciRegistry.started(program, tmp_path / "registry", settings={"storage": location}) as registry:
        builder = Pushing(Path(__file__).parents[3])
        builder.built, builder.index = [], []
        there = {STORAGE_KEY: replace(storage, image_builder=builder)}
        for tag in ("first", "second"):
            image, index = push(registry, tag)
            builder.built.append(image)
            builder.index.append(index)
            dg.materialize(ASSETS, selection=[train], instance=instance, resources=there)
        assert collector.plan(Policy(last=1, grace=NO_GRACE), [Scope.IMAGES]).images == ()
        policy = Policy(last=1, service_images=False, grace=NO_GRACE)
        (going,) = collector.plan(policy, [Scope.IMAGES]).images
        assert going.reference == str(builder.built[0])
        assert (len(going.manifests), going.manifests[0]) == (3, builder.index[0])
        assert going.size > 0
        if not deletes:
            with pytest.raises(RegistryError, match=r"does not allow deletion\. Next: enable deletion"):
                collect(collector, policy, Scope.IMAGES)
            return
        collect(collector, policy, Scope.IMAGES)
        client = collector.registry
        assert client.parts(builder.built[0]) is None
        assert client.find(f"{registry.host}/ml/train:second") is not None
        assert client.find(f"{registry.host}/ml/train:first") is None
        assert collector.plan(policy, [Scope.IMAGES]).images == ()
        old, _ = sorted(all_of(collector, "images/train"), key=lambda node: node.storage_id or 0)
        assert Lineage(instance).trace(old.id).graph.nodes[old.id].deleted_at is not None
