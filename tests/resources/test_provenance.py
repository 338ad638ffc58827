import json
import re
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest
from pydantic import ValidationError

from ml_assets.resources import provenance
from ml_assets.resources.errors import RecordError, RecordTooNew
from ml_assets.resources.provenance import (
    RECORD_METADATA,
    SCHEMA_VERSION,
    ArtifactKind,
    Content,
    Hardware,
    ImageLabels,
    InputVersion,
    Launch,
    LaunchKind,
    MlflowRun,
    ProvenanceRecord,
    RunEnvironment,
    Source,
    Threads,
    find_record,
    record_of,
)
from ml_assets.resources.tracking.tags import RunTags

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
RECORD = ProvenanceRecord(
    kind=ArtifactKind.MODEL,
    asset="delay_model",
    partition="2013-05-01",
    data_version="md5:d41d8cd98f00b204e9800998ecf8427e.dir",
    content=Content(format="model", version="md5:d41d8cd98f00b204e9800998ecf8427e.dir", size=10, files=3),
    inputs=(InputVersion(asset="departures", partition="2013-04-01", data_version="md5:0", storage_id=4, run_id="r"),),
    environment=RunEnvironment(target="local", environment_digest="sha256:0", python="CPython 3.11", dagster="1.13"),
    source=Source(commit="abc", dirty=False),
    code_version="v",
    dagster_run="run",
    dagster_step="delay_model",
    attempt=0,
    job="nightly",
    launch=Launch(kind=LaunchKind.SCHEDULE, name="nightly", tick="2026-01-02T03:15:00"),
    parameters={"rounds": 10, "nested": {"a": [1, 2]}},
    seeds={"numpy": 0},
    threads=Threads(variables={"OMP_NUM_THREADS": "2"}, libraries={"libgomp": 2}),
    hardware=Hardware(architecture="x86_64", system="Linux", processor="p", cpus=2, memory_bytes=1 << 30),
    mlflow=MlflowRun(run_id="m", experiment_id="1", tracking_uri="sqlite:///x"),
    started_at=NOON,
    ended_at=NOON,
    reproducible=True,
)


def test_record_comes_back_from_json_as_it_was() -> None:
    assert ProvenanceRecord.model_validate(json.loads(json.dumps(RECORD.model_dump(mode="json")))) == RECORD


def test_record_says_which_form_it_has() -> None:
    assert RECORD.model_dump()["schema_version"] == provenance.SCHEMA_VERSION


def test_field_of_a_later_record_is_passed_over() -> None:
    later = RECORD.model_dump(mode="json") | {"price": 3}
    assert ProvenanceRecord.model_validate(later) == RECORD


def test_record_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RECORD.asset = "another"  # type: ignore[misc]


@pytest.mark.parametrize(
    "field", [name for name, field in ProvenanceRecord.model_fields.items() if field.is_required()]
)
def test_record_cannot_be_made_in_part(field: str) -> None:
    part = RECORD.model_dump(mode="json")
    del part[field]
    with pytest.raises(ValidationError, match=f"(?s){field}.*Field required"):
        ProvenanceRecord.model_validate(part)


def test_tags_and_labels_are_distinct_and_acceptable_to_mlflow_and_oci() -> None:
    for names in (RunTags, ImageLabels):
        values = [value for name, value in vars(names).items() if name.isupper()]
        assert len(set(values)) == len(values)
        assert all(re.fullmatch(r"ml_assets\.[a-z_]+", value) for value in values)


@pytest.mark.parametrize(
    ("repository", "page"),
    [
        ("git@github.com:owner/project.git", "https://github.com/owner/project"),
        ("ssh://git@gitlab.example:2222/group/project.git", "https://gitlab.example/group/project"),
        ("ssh://git@gitlab.example/group/project", "https://gitlab.example/group/project"),
        ("https://github.com/owner/project.git", "https://github.com/owner/project"),
        ("https://github.com/owner/project/", "https://github.com/owner/project"),
        ("/srv/git/project.git", None),
        ("file:///srv/git/project.git", None),
        (None, None),
    ],
)
def test_page_of_a_repository_follows_from_its_remote(repository: str | None, page: str | None) -> None:
    assert Source(repository=repository).repository_page == page


def test_record_is_found_in_metadata_wrapped_or_plain() -> None:
    payload = RECORD.model_dump(mode="json")
    assert find_record({RECORD_METADATA: dg.MetadataValue.json(payload)}) == RECORD
    assert record_of({RECORD_METADATA: payload, "rows": 3}) == RECORD


def test_missing_record_is_none_or_refused() -> None:
    assert find_record({"rows": 3}) is None
    with pytest.raises(RecordError, match=r"it has no provenance record\. Next: declare it with a factory"):
        record_of({"rows": 3})


@pytest.mark.parametrize("payload", [{}, [], "{", {"schema_version": SCHEMA_VERSION, "kind": "cake"}])
def test_malformed_record_is_refused(payload: Any) -> None:
    with pytest.raises(RecordError, match=r"its provenance record is malformed: .*Next: materialize it again"):
        find_record({RECORD_METADATA: payload})


def test_record_of_a_later_form_is_refused() -> None:
    with pytest.raises(RecordTooNew, match=rf"has format {SCHEMA_VERSION + 1}.*Next: upgrade ml-assets"):
        find_record({RECORD_METADATA: {"schema_version": SCHEMA_VERSION + 1}})
