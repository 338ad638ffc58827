"""Metadata of a materialization for analysts: entries, order and format."""

import math
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from ml_assets.artifacts.metadata import (
    NOT_CONTAINERIZED,
    describe_commit,
    frame_metadata,
    metadata_of,
    model_metadata,
)
from ml_assets.resources.provenance import (
    RECORD_METADATA,
    ArtifactKind,
    Content,
    Hardware,
    InputVersion,
    Launch,
    LaunchKind,
    MlflowRun,
    Observed,
    ProvenanceRecord,
    RunEnvironment,
    Source,
    Uncovered,
    UncoveredKind,
    record_of,
)
from ml_assets.resources.usage import GpuUsage, PhaseSeconds, Usage

COMMIT = "0123456789abcdef0123456789abcdef01234567"
IMAGE = "registry.example/train@sha256:" + "a" * 64
PNG = b"\x89PNG\r\n\x1a\n"


def record(**fields: Any) -> ProvenanceRecord:
    now = datetime(2026, 6, 1, tzinfo=UTC)
    given: dict[str, Any] = {
        "kind": ArtifactKind.MODEL,
        "asset": "model",
        "data_version": "md5:" + "0" * 32,
        "environment": RunEnvironment(
            target="local", environment_digest="sha256:" + "1" * 64, python="CPython 3.11.7", dagster="1.13.27"
        ),
        "source": Source(commit=COMMIT, dirty=False, repository="git@github.com:owner/project.git"),
        "code_version": "2" * 64,
        "dagster_run": "run",
        "dagster_step": "model",
        "attempt": 0,
        "job": "job",
        "launch": Launch(kind=LaunchKind.SCHEDULE, name="nightly", tick="2026-06-01T03:15:00-04:00"),
        "hardware": Hardware(architecture="x86_64", system="Linux", processor="CPU", cpus=2, memory_bytes=1),
        "started_at": now,
        "ended_at": now,
        "reproducible": True,
    }
    return ProvenanceRecord(**{**given, **fields})


def rows(value: dg.TableMetadataValue) -> list[dict[str, Any]]:
    return [dict(row.data) for row in value.records]


def test_the_whole_record_is_the_last_entry() -> None:
    made = record()
    entries = metadata_of(made)
    assert list(entries)[-1] == RECORD_METADATA
    assert record_of(entries) == made


def test_details_stand_between_identity_and_making_and_win() -> None:
    entries = metadata_of(
        record(parameters={"depth": 6}), {"mae": 1.5, "image": "mine", "parameters": "mine", "commit": "x"}
    )
    assert list(entries) == [
        "data version",
        "image",
        "commit",
        "mae",
        "parameters",
        "launched by",
        "reproducible",
        "code version",
        "environment",
        RECORD_METADATA,
    ]
    assert (entries["image"], entries["parameters"], entries["commit"]) == ("mine", "mine", "x")


def test_no_detail_replaces_the_record() -> None:
    entries = metadata_of(record(), {RECORD_METADATA: "mine"})
    assert entries[RECORD_METADATA].value["asset"] == "model"


def test_the_image_that_ran_is_shown_or_that_there_was_none() -> None:
    assert metadata_of(record())["image"].value == NOT_CONTAINERIZED
    inside = record().environment.model_copy(update={"image": IMAGE})
    assert metadata_of(record(environment=inside))["image"].value == IMAGE
    assert metadata_of(record(made_image="made", environment=inside))["image"].value == "made"


def test_a_clean_commit_links_to_its_page() -> None:
    assert metadata_of(record())["commit"] == dg.MetadataValue.url(f"https://github.com/owner/project/commit/{COMMIT}")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (Source(), "no commit"),
        (Source(commit=COMMIT, dirty=True, repository="https://github.com/owner/project"), f"{COMMIT}+dirty"),
        (Source(commit=COMMIT, dirty=False), COMMIT),
    ],
)
def test_any_other_commit_is_text(source: Source, text: str) -> None:
    assert metadata_of(record(source=source))["commit"] == dg.MetadataValue.text(text)


def test_a_run_in_mlflow_is_a_link_where_its_page_is_known() -> None:
    run = MlflowRun(run_id="r1", experiment_id="1", tracking_uri="sqlite:///x", registered_model="m", model_version="3")
    entries = metadata_of(record(mlflow=run))
    assert entries["MLflow run"] == dg.MetadataValue.text("r1")
    assert entries["registered model"].value == "models:/m/3"
    linked = run.model_copy(update={"url": "http://mlflow.example/#/runs/r1"})
    assert metadata_of(record(mlflow=linked))["MLflow run"] == dg.MetadataValue.url("http://mlflow.example/#/runs/r1")


def test_parameters_of_any_type_are_a_table() -> None:
    entries = metadata_of(record(parameters={"depth": 6, "device": "cpu", "layers": [1, 2], "early": None}))
    assert rows(entries["parameters"]) == [
        {"parameter": "depth", "value": "6"},
        {"parameter": "device", "value": "cpu"},
        {"parameter": "layers", "value": "[1, 2]"},
        {"parameter": "early", "value": "null"},
    ]


def test_inputs_are_a_table_of_versions() -> None:
    inputs = (
        InputVersion(asset="frame", partition="2013-01-01", data_version="md5:1"),
        InputVersion(asset="images/train", data_version="sha256:2", loaded=False),
    )
    assert rows(metadata_of(record(inputs=inputs))["inputs"]) == [
        {"input": "frame@2013-01-01", "data version": "md5:1"},
        {"input": "images/train", "data version": "sha256:2"},
    ]


def test_of_very_many_inputs_the_rest_is_counted() -> None:
    inputs = tuple(InputVersion(asset="frame", partition=str(day), data_version=f"md5:{day}") for day in range(365))
    table = rows(metadata_of(record(inputs=inputs))["inputs"])
    assert len(table) == 101
    assert table[-1]["input"].startswith("265 more")


def test_who_launched_it_and_why_it_cannot_be_repeated_are_told() -> None:
    entries = metadata_of(record(reproducible=False, not_reproducible_because=("one", "two")))
    assert entries["launched by"].value == "schedule nightly 2026-06-01T03:15:00-04:00"
    assert entries["not reproducible because"].value == "one; two"
    assert "not reproducible because" not in metadata_of(record())


def test_what_the_code_version_does_not_cover_is_shown() -> None:
    items = (
        Uncovered(kind=UncoveredKind.CODE, name="a:f", digest="1"),
        Uncovered(kind=UncoveredKind.FILE, name="q.sql", digest=None),
    )
    entries = metadata_of(record(observed=Observed(code_version=None, uncovered=items, unseen=("processes",))))
    rows = [each.data for each in entries["not covered by the code version"].value.records]
    assert rows == [{"code or file": "a:f", "digest": "1"}, {"code or file": "q.sql", "digest": "unknown"}]
    assert entries["not observed"].value == "processes"
    assert not {"not covered by the code version", "not observed"} & metadata_of(record()).keys()


def test_size_is_shown_where_there_is_content() -> None:
    content = Content(format="model", version="md5:0", size=12, files=2)
    assert metadata_of(record(content=content))["size in bytes"].value == 12


def test_metrics_have_six_significant_digits() -> None:
    entries = model_metadata({"mae": 15.598142873011414, "flights": 26483.0, "undefined": math.nan}, {})
    assert entries["mae"].value == 15.5981
    assert entries["flights"].value == 26483.0
    assert math.isnan(entries["undefined"].value)


def test_a_figure_is_a_picture_in_markdown() -> None:
    (entry,) = model_metadata({}, {"curve": PNG}).items()
    assert entry == ("plot curve", dg.MetadataValue.md("![curve](data:image/png;base64,iVBORw0KGgo=)"))


def test_a_frame_shows_rows_schema_and_preview() -> None:
    frame = pd.DataFrame({"n": range(9), "x": [None, *[0.5] * 8], "when": pd.Timestamp("2013-01-01", tz="UTC")})
    entries = frame_metadata(frame)
    assert entries["dagster/row_count"] == 9
    nullable = {column.name: column.constraints.nullable for column in entries["dagster/column_schema"].columns}
    assert nullable == {"n": False, "x": True, "when": False}
    preview = rows(entries["preview"])
    assert preview[0] == {"n": 0, "x": None, "when": "2013-01-01 00:00:00+00:00"}
    assert len(preview) == 5


def test_a_commit_is_described_in_short() -> None:
    assert describe_commit(COMMIT, False) == "0123456789ab"
    assert describe_commit(COMMIT, True) == "0123456789ab+dirty"
    assert describe_commit(None, None) == "no commit"


def test_what_it_took_can_be_plotted_and_read() -> None:
    gpu = GpuUsage(
        name="T4", utilization_mean=40.0, utilization_max=90.0, memory_peak_bytes=2**30, memory_bytes=2**34, samples=9
    )
    usage = Usage(
        memory_peak_bytes=600 * 2**20,
        memory_needed_bytes=512 * 2**20,
        cpu_seconds=12.5,
        seconds=PhaseSeconds(importing=1.0, input=0.5, compute=8.25, output=0.125),
        gpus=(gpu,),
        cost=0.0123456789,
    )
    entries = metadata_of(record(usage=usage))
    floats = {name: entry.value for name, entry in entries.items() if isinstance(entry, dg.FloatMetadataValue)}
    assert floats == {
        "compute seconds": 8.25,
        "CPU seconds": 12.5,
        "memory in MiB": 512.0,
        "cost": 0.0123457,
        "GPU utilization in percent": 40.0,
        "GPU memory in MiB": 1024.0,
    }
    assert rows(entries["time spent"])[2] == {"phase": "compute", "seconds": "8.250"}
    assert "cost" not in metadata_of(record(usage=usage.model_copy(update={"cost": None, "gpus": ()})))
