"""The status of assets is that of Dagster's UI, plus what was recorded."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from pyarrow import parquet

from ml_assets.dagster_internals import ASSET_EVALUATION_ID_TAG
from ml_assets.features import feature_set
from ml_assets.lineage.code_location import CodeLocation
from ml_assets.lineage.staleness import Staleness
from ml_assets.lineage.why import ReasonKind, Status, Why, explain, summarize
from ml_assets.resources.errors import AmbiguousReference, SettingsError, UnknownReference
from ml_assets.resources.identity import AssetPartition
from ml_assets.resources.provenance import LaunchKind
from tests.migrated import Migrated
from tests.ml_assets.lineage import why_assets
from tests.ml_assets.lineage.why_assets import ASSETS, STATE, UNUSED, departures, flights, foreign, train, whole_year


@pytest.fixture(autouse=True)
def as_written() -> Iterator[None]:
    yield
    STATE.update(value=1, fails=0)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance in memory, which is created in a tenth of the time."""
    with dg.DagsterInstance.ephemeral() as found:
        yield found


@pytest.fixture
def on_disk(tmp_path: Path, migrated: Migrated) -> Iterator[dg.DagsterInstance]:
    """An instance with schedules and other processes, which an instance in memory does not support."""
    with migrated.instance(tmp_path / "dagster") as found:
        yield found


def maker(instance: dg.DagsterInstance, resources: dict[str, Any]) -> Any:
    def materialize(*selection: Any, month: str | None = "1", **options: Any) -> dg.ExecuteInProcessResult:
        return dg.materialize(
            ASSETS, selection=list(selection), partition_key=month, instance=instance, resources=resources, **options
        )

    return materialize


@pytest.fixture
def make(instance: dg.DagsterInstance, resources: dict[str, Any]) -> Any:
    return maker(instance, resources)


def staleness(instance: dg.DagsterInstance, *changed: dg.AssetsDefinition) -> Staleness:
    """Return the staleness of all assets, some of them with changed definitions."""
    names = {asset.key for asset in changed}
    assets = [*changed, *(asset for asset in ASSETS if asset.key not in names)]
    return Staleness(instance, CodeLocation(dg.Definitions(assets=assets, resources=UNUSED)))


def why(instance: dg.DagsterInstance, reference: str, *changed: dg.AssetsDefinition) -> Why:
    found = staleness(instance, *changed)
    return explain(found.facts(found.find(reference)))


def test_what_was_never_made_is_missing(instance: dg.DagsterInstance) -> None:
    found = why(instance, "flights@1")
    assert found.status is Status.MISSING
    assert [reason.kind for reason in found.reasons] == [ReasonKind.MISSING]
    assert (found.latest, found.launch) == (None, None)


def test_what_has_not_changed_is_fresh_and_says_who_launched_it(instance: dg.DagsterInstance, make: Any) -> None:
    make(flights, departures, tags={"user": "ada"})
    found = why(instance, "departures@1")
    assert (found.status, found.reasons) == (Status.FRESH, ())
    assert found.launch is not None
    assert (found.launch.kind, found.launch.name) == (LaunchKind.USER, "ada")


def test_changed_input_is_named_with_both_versions(instance: dg.DagsterInstance, make: Any) -> None:
    make(flights, departures)
    before = why(instance, "flights@1").latest
    STATE["value"] = 2
    make(flights)
    after = why(instance, "flights@1").latest
    assert before is not None
    assert after is not None
    found = why(instance, "departures@1")
    assert found.status is Status.STALE
    (reason,) = found.reasons
    assert (reason.kind, reason.what, reason.is_shown) == (ReasonKind.DATA, AssetPartition("flights", "1"), True)
    assert (reason.before, reason.after) == (before.data_version, after.data_version)


def test_input_made_again_with_the_same_content_makes_nothing_stale(instance: dg.DagsterInstance, make: Any) -> None:
    make(flights, departures)
    make(flights)
    assert why(instance, "departures@1").status is Status.FRESH


def test_input_whose_file_alone_has_changed_is_said_to_have_the_same_values(
    instance: dg.DagsterInstance, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(flights, departures)
    write = parquet.write_table
    monkeypatch.setattr(
        parquet, "write_table", lambda *args, **options: write(*args, **options | {"compression": "gzip"})
    )
    make(flights)
    (reason,) = why(instance, "departures@1").reasons
    assert reason.before != reason.after
    (detail,) = reason.details
    assert detail.startswith("its values are the same; only the file differs")


def test_changed_code_names_the_functions(instance: dg.DagsterInstance, make: Any) -> None:
    from tests.ml_assets.lineage import why_assets_changed

    make(flights, departures)
    found = why(instance, "departures@1", why_assets_changed.departures)
    assert found.status is Status.STALE
    (reason,) = found.reasons
    assert reason.kind is ReasonKind.CODE
    assert reason.before != reason.after
    assert reason.details == ("STATE was removed", "added was added", "departures changed")


@feature_set()
def priced() -> pd.DataFrame:
    return pd.read_csv(Path(os.environ["PRICES_OF_TEST"]))


def test_a_changed_file_that_only_the_running_step_knew_is_told(
    instance: dg.DagsterInstance, resources: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "project" / "prices.csv"
    file.parent.mkdir()
    file.write_text("price\n1\n")
    monkeypatch.syspath_prepend(str(file.parent))
    monkeypatch.setenv("PRICES_OF_TEST", str(file))
    dg.materialize([priced], instance=instance, resources=resources)
    same = why(instance, "priced", priced)
    assert (same.status, same.reasons) == (Status.FRESH, ())
    assert [note.rpartition("/")[2] for note in same.notes] == [
        "prices.csv was read, but the code version does not cover it"
    ]
    file.write_text("price\n2\n")
    (reason,) = why(instance, "priced", priced).reasons
    assert (reason.kind, reason.is_shown) == (ReasonKind.CODE, False)
    assert reason.before != reason.after
    assert [each.rpartition("/")[2] for each in reason.details] == ["prices.csv changed"]
    dg.materialize([priced], instance=instance, resources=resources)
    assert why(instance, "priced", priced).reasons == ()


def test_another_environment_is_no_change_of_data(
    instance: dg.DagsterInstance, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(train, month=None)
    make(flights)
    tags = {"dagster/data_version": "sha256:" + "0" * 64}
    instance.report_runless_asset_event(dg.AssetMaterialization("images/train", tags=tags))
    (reason,) = why(instance, "flights@1").reasons
    assert (reason.kind, reason.what) == (ReasonKind.ENVIRONMENT, AssetPartition("images/train"))
    assert reason.after == "sha256:" + "0" * 64
    assert (reason.before or "").startswith("sha256:")


def test_failed_run_is_told_with_its_error(instance: dg.DagsterInstance, make: Any) -> None:
    make(flights, departures)
    STATE["fails"] = 1
    failed = make(departures, raise_on_error=False)
    found = why(instance, "departures@1")
    assert found.status is Status.FRESH
    (reason,) = found.reasons
    assert (reason.kind, reason.what) == (ReasonKind.FAILED, failed.run_id)
    assert reason.details == ("step departures: ValueError: no such month",)
    STATE["fails"] = 0
    make(departures)
    assert why(instance, "departures@1").reasons == ()


def test_step_that_was_not_reached_has_the_error_of_the_one_before_it(instance: dg.DagsterInstance, make: Any) -> None:
    STATE["fails"] = 1
    make(flights, departures, whole_year, raise_on_error=False)
    failed, missing = why(instance, "departures@1").reasons
    assert (failed.kind, missing.kind) == (ReasonKind.FAILED, ReasonKind.MISSING)


def test_run_that_is_at_work_is_told(instance: dg.DagsterInstance, make: Any) -> None:
    job = why_assets.definitions.resolve_implicit_global_asset_job_def()
    run = instance.create_run_for_job(job, asset_selection=frozenset({foreign.key}))
    instance.report_dagster_event(
        dg.DagsterEvent.build_asset_materialization_planned_event(
            job.name, "foreign", dg._core.events.AssetMaterializationPlannedData(foreign.key)
        ),
        run.run_id,
    )
    running, missing = why(instance, "foreign").reasons
    assert (running.kind, running.what, missing.kind) == (ReasonKind.RUNNING, run.run_id, ReasonKind.MISSING)


def test_input_that_dagster_does_not_compare_is_told_all_the_same(instance: dg.DagsterInstance, make: Any) -> None:
    months = why_assets.MONTHS.get_partition_keys()
    for month in months:
        make(flights, departures, month=month)
    make(whole_year, month=None)
    assert why(instance, "whole_year").reasons == ()
    STATE["value"] = 2
    make(flights, departures, month="2")
    found = why(instance, "whole_year")
    shown = [reason for reason in found.reasons if reason.is_shown]
    assert bool(shown) == (found.status is Status.STALE)
    assert AssetPartition("departures", "2") in [reason.what for reason in found.reasons]


def test_partitions_are_counted_by_cause(instance: dg.DagsterInstance, make: Any) -> None:
    make(flights, departures, month="1")
    make(flights, departures, month="2")
    STATE["value"] = 2
    make(flights, month="2")
    STATE["fails"] = 1
    make(departures, month="1", raise_on_error=False)
    summary = summarize("departures", staleness(instance).every("departures"))
    assert summary.statuses == {Status.FRESH: 1, Status.STALE: 1, Status.MISSING: 1}
    told = [(reason.kind, reason.what, reason.partitions) for reason in summary.reasons]
    assert told == [
        (ReasonKind.FAILED, None, ("1",)),
        (ReasonKind.MISSING, None, ("3",)),
        (ReasonKind.DATA, "flights", ("2",)),
    ]


def test_asset_of_no_factory_is_explained_by_its_run(instance: dg.DagsterInstance, make: Any) -> None:
    make(foreign, month=None)
    found = why(instance, "foreign")
    assert found.launch is not None
    assert (found.launch.kind, found.launch.name) == (LaunchKind.USER, None)
    instance.report_runless_asset_event(dg.AssetMaterialization("foreign"))
    assert why(instance, "foreign").launch is None


def test_automation_says_which_condition_held(on_disk: dg.DagsterInstance, resources: dict[str, Any]) -> None:
    make = maker(on_disk, resources)
    definitions = dg.Definitions(assets=ASSETS, resources=resources)
    make(flights, departures)
    first = dg.evaluate_automation_conditions(defs=definitions, instance=on_disk)
    STATE["value"] = 2
    make(flights)
    second = dg.evaluate_automation_conditions(defs=definitions, instance=on_disk, cursor=first.cursor)
    evaluations = [result.serializable_evaluation for result in second.results if result.key == departures.key]
    assert on_disk.schedule_storage is not None
    on_disk.schedule_storage.add_auto_materialize_asset_evaluations(
        7, [evaluation.with_run_ids(frozenset()) for evaluation in evaluations]
    )
    make(departures, tags={"dagster/from_automation_condition": "true", ASSET_EVALUATION_ID_TAG: "7"})
    found = why(on_disk, "departures@1")
    assert found.launch is not None
    assert found.launch.kind is LaunchKind.AUTOMATION
    assert [condition for condition in found.conditions if "data_version_changed" in condition], found.conditions
    assert not [condition for condition in found.conditions if "NOT" in condition]


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("flihgts", "no asset 'flihgts' is defined"),
        ("flights@9", "flights has no partition '9'"),
        ("foreign@1", "foreign has no partitions"),
        ("@1", "an asset is written"),
    ],
)
def test_what_is_not_defined_is_refused(instance: dg.DagsterInstance, reference: str, said: str) -> None:
    with pytest.raises(UnknownReference, match=said):
        staleness(instance).find(reference)


def test_partitioned_asset_has_no_facts_of_its_own(instance: dg.DagsterInstance) -> None:
    with pytest.raises(AmbiguousReference, match="flights is partitioned"):
        staleness(instance).facts(AssetPartition("flights"))


def test_code_location_is_found_by_its_module() -> None:
    location = CodeLocation.of_module("tests.ml_assets.lineage.why_assets")
    assert location.images == {"images/train"}
    assert location.code(foreign.key) is None
    assert set(location.code(departures.key) or ()) == {":departures", ":STATE"}
    with pytest.raises(SettingsError, match="cannot load the code location no_such_module"):
        CodeLocation.of_module("no_such_module")


def test_dagsters_ui_says_the_same(on_disk: dg.DagsterInstance, resources: dict[str, Any]) -> None:
    from dagster._core.test_utils import in_process_test_workspace
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
    from dagster_graphql.test.utils import execute_dagster_graphql

    make = maker(on_disk, resources)
    make(flights, departures, month="1")
    make(flights, departures, month="2")
    STATE["value"] = 2
    make(flights, month="2")
    query = """{ assetNodeOrError(assetKey: {path: ["departures"]}) { ... on AssetNode {
        staleStatusByPartition(partitions: ["1", "2", "3"]) } } }"""
    origin = LoadableTargetOrigin(module_name="tests.ml_assets.lineage.why_assets", attribute="definitions")
    with in_process_test_workspace(on_disk, origin) as workspace:
        answer = execute_dagster_graphql(workspace, query)
    facts = staleness(on_disk).every("departures")
    assert answer.data["assetNodeOrError"]["staleStatusByPartition"] == [each.status.value.upper() for each in facts]
