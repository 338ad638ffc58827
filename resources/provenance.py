"""The provenance record: written by each materialization and read by lineage.

This module is the only source of the types and of every tag, metadata and variable name that the writer (the factories)
and the readers (lineage, the CLI, the sensors) share.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ml_assets.resources.errors import RecordError, RecordTooNew
from ml_assets.resources.identity import ModelUri
from ml_assets.resources.usage import Usage

__all__ = [
    "CONTAINER_TAG",
    "ENVIRONMENT_METADATA",
    "INPUTS_METADATA",
    "LAUNCH_EVENT_TAG",
    "LAUNCH_TIMES_METADATA",
    "OVERRIDES_TAG",
    "PLACEMENT_METADATA",
    "RECORD_METADATA",
    "REPRODUCTION_METADATA",
    "REPRODUCTION_VERSION",
    "SCHEMA_VERSION",
    "SOURCE_METADATA",
    "TRACKED_METADATA",
    "ArtifactKind",
    "Content",
    "Hardware",
    "ImageLabels",
    "InputVersion",
    "Launch",
    "LaunchKind",
    "MlflowRun",
    "Observed",
    "ProvenanceRecord",
    "RunEnvironment",
    "Source",
    "Threads",
    "Uncovered",
    "UncoveredKind",
    "find_record",
    "record_of",
]

SCHEMA_VERSION = 1
"""Version of the record's format. Increased when a field changes its meaning; readers reject later versions."""

REPRODUCTION_VERSION = 2
"""Format version of a reproduction request and its verdict. Readers reject every other version."""

RECORD_METADATA = "ml_assets/provenance"
"""Metadata entry of a materialization: the record, as JSON."""

INPUTS_METADATA = "ml_assets/inputs"
"""Metadata entry of a materialization by any asset that read one of ours: the list of `InputVersion`, as JSON."""

ENVIRONMENT_METADATA = "ml_assets/environment"
"""Metadata entry beside `INPUTS_METADATA`: the `RunEnvironment`, as JSON."""

SOURCE_METADATA = "ml_assets/source"
"""Metadata entry beside `INPUTS_METADATA`: the `Source`, as JSON."""

CONTAINER_TAG = "ml_assets/container"
"""Op tag: the container spec of an asset, as JSON."""

PLACEMENT_METADATA = "ml_assets/placement"
"""Metadata entry of the event for a step's container request: the container's placement, as JSON."""

LAUNCH_TIMES_METADATA = "ml_assets/launch_times"
"""Metadata entry of the event for a step's container start: its `LaunchTimes`, as JSON."""

PROCESS_TAG = "ml_assets/process"
"""Run tag: the process that executes the run, as a `ProcessIdentity`; only where steps are plain processes."""

OVERRIDES_TAG = "ml_assets/overrides"
"""Run tag: placement overrides for this run, by asset key, as JSON."""

LAUNCH_EVENT_TAG = "ml_assets/launch"
"""Logging tag of every event that a step's container writes: the launch of the step that it belongs to."""

REPRODUCTION_METADATA = "ml_assets/reproduction"
"""Metadata entry of an observation: the result of a reproduction of a materialization, as JSON."""

TRACKED_METADATA = "ml_assets/tracked"
"""Metadata entry of an observation: the location of a dataset tracked with DVC in git, as JSON."""

_SSH = re.compile(r"(?:ssh://)?[^@/]+@(?P<host>[^:/]+)(?::\d+/|[:/])(?P<path>.+)")


class ImageLabels:
    """Labels of our images in addition to the OCI labels (``org.opencontainers.image.…``)."""

    ENVIRONMENT = "ml_assets.environment"
    LOCK = "ml_assets.lock"
    BUILD_KEY = "ml_assets.build_key"
    REPRODUCES = "ml_assets.reproduces"
    """Latest format of a reproduction request that the code in the image can read."""


class ArtifactKind(StrEnum):
    """The four kinds of artifact; each has one asset factory."""

    DATASET = "dataset"
    FEATURE_SET = "feature set"
    MODEL = "model"
    IMAGE = "image"


class LaunchKind(StrEnum):
    """The kind of user or automation that launched a run."""

    USER = "user"
    SCHEDULE = "schedule"
    SENSOR = "sensor"
    AUTOMATION = "automation"
    BACKFILL = "backfill"


class _RecordPart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class InputVersion(_RecordPart):
    """One version of one partition of an upstream asset, as read."""

    asset: str
    partition: str | None = None
    data_version: str
    storage_id: int | None = Field(default=None, ge=0, lt=2**63)
    """Event in Dagster's log that recorded the version; None if the version was pinned without an event."""
    run_id: str | None = None
    """Dagster run that recorded it."""
    loaded: bool = True
    """False for a dependency that only had to exist, such as the image."""


class Content(_RecordPart):
    """The stored content: its format and size."""

    format: str
    """Name of the format of a value, such as ``parquet``; ``file``, ``directory`` or ``model``."""
    version: str
    """DVC hash, as ``md5:…``."""
    size: int
    """Size of all files in bytes."""
    files: int
    rows: int | None = None
    values: str | None = None
    """Digest of a table's values, which is the same whatever version of the Parquet library wrote the file."""


class RunEnvironment(_RecordPart):
    """The environment of the step."""

    target: str
    pool: str | None = None
    image_asset: str | None = None
    image: str | None = None
    """Image reference that ran, by digest; None means "not containerized"."""
    index_digest: str | None = None
    environment_digest: str
    python: str
    dagster: str


class Source(_RecordPart):
    """The commit of the code."""

    commit: str | None = None
    dirty: bool | None = None
    """True if files differed from the commit; None if there is no repository."""
    diff_digest: str | None = None
    """Digest of every difference from the commit, untracked files by name; None when clean."""
    repository: str | None = None
    """Address of the remote."""
    others: tuple["Source", ...] = ()
    """Other repositories that hold files of the code; without a remote, the address is the folder."""
    uncommitted: tuple[str, ...] = ()
    """Files of the code whose content is in no commit, each with the reason."""

    @property
    def repository_page(self) -> str | None:
        """Return the web page of the repository; None if its address does not reveal it."""
        if self.repository is None:
            return None
        ssh = _SSH.fullmatch(self.repository)
        page = f"https://{ssh['host']}/{ssh['path']}" if ssh else self.repository
        return page.removesuffix("/").removesuffix(".git") if page.startswith("https://") else None


class Launch(_RecordPart):
    """The user or automation that launched the run."""

    kind: LaunchKind
    name: str | None = None
    """Name of the schedule or sensor, id of the backfill, or the user."""
    tick: str | None = None
    """The scheduled time of a schedule's tick (ISO 8601), or the id of a sensor's tick."""
    parent_run_id: str | None = None
    """The run that this one re-executes."""

    def described(self) -> str:
        """Return a description in words, such as ``schedule nightly_retraining 2013-05-02T07:15:00+00:00``."""
        again = f"(re-executes {self.parent_run_id})" if self.parent_run_id else None
        return " ".join(part for part in (self.kind.value, self.name, self.tick, again) if part)


class UncoveredKind(StrEnum):
    """Kind of a thing that ran or was read beside what the code version covers."""

    CODE = "code"
    """A function or class, by ``module:symbol``; ``module:*`` is the whole module."""
    FILE = "file"
    """A file, by its path relative to the import folder of the asset's code."""
    FOLDER = "folder"
    """The files directly in a folder, by its path; named instead of many files."""


class Uncovered(_RecordPart):
    """First-party code that ran, or a first-party file that was read, which the code version does not cover."""

    kind: UncoveredKind
    name: str
    digest: str | None
    """Digest of the code or the content; None if it has none, because it is too large or changed meanwhile."""


class Observed(_RecordPart):
    """Observation of the running function: what it used beyond the code that its code version covers."""

    code_version: str | None
    """The code version, joined with the digests of `uncovered`. Only this decides whether the code of two
    materializations is equal. None if something has no digest: then no other materialization has equal code."""
    uncovered: tuple[Uncovered, ...] = ()
    unseen: tuple[str, ...] = ()
    """What could not be observed, such as the code of other processes."""


class Hardware(_RecordPart):
    """The hardware of the step's machine."""

    architecture: str
    system: str
    processor: str
    cpus: int
    """CPUs that the process may use."""
    memory_bytes: int
    """Memory that the process may use: the machine's, or the container's limit if that is lower."""
    accelerators: tuple[str, ...] = ()
    driver: str | None = None
    """Version of the accelerators' driver; None without accelerators, or if it is not reported."""
    cuda: str | None = None
    """Newest CUDA that the driver supports."""
    accelerators_checked: bool | None = None
    """True if the devices that the pool promises were found before user code ran; False means "unchecked"."""


class Threads(_RecordPart):
    """Thread limits of numerical libraries, which determine the order of their sums."""

    variables: dict[str, str] = {}
    """Environment variables such as ``OMP_NUM_THREADS``, where set."""
    libraries: dict[str, int] = {}
    """Threads of each loaded numerical library, by its file's stem."""


class MlflowRun(_RecordPart):
    """The MLflow run of the attempt."""

    run_id: str
    experiment_id: str
    tracking_uri: str
    url: str | None = None
    """Page of the run in the MLflow UI; None if no UI is configured."""
    registered_model: str | None = None
    model_version: str | None = None

    @property
    def registered_version(self) -> str | None:
        """Return ``models:/name/version``; None if the model was not registered."""
        if not self.registered_model or not self.model_version:
            return None
        return str(ModelUri(self.registered_model, self.model_version))


class ProvenanceRecord(_RecordPart):
    """All facts about one materialization that cannot be determined later."""

    schema_version: int = SCHEMA_VERSION
    kind: ArtifactKind
    asset: str
    partition: str | None = None
    data_version: str
    content: Content | None = None
    """None for an image, because a registry holds its content."""
    inputs: tuple[InputVersion, ...] = ()
    environment: RunEnvironment
    source: Source
    made_image: str | None = None
    """Image reference that this materialization of an image asset built or found; None if there is none."""
    made_index_digest: str | None = None
    """Digest of the index that contains it, if any."""
    code_version: str
    code: dict[str, str] = {}
    """Parts of the code version: the beginning of each symbol's digest, by ``module:symbol``, or ``:symbol`` in
    the function's own module. Empty where the author gave the code version."""
    observed: Observed | None = None
    """None where the author gave the code version, and in records written before this was observed."""
    dagster_run: str
    dagster_step: str
    attempt: int
    """0 for the first attempt of the step in this run."""
    job: str
    launch: Launch
    parameters: dict[str, Any] = {}
    seeds: dict[str, int] = {}
    threads: Threads = Threads()
    hardware: Hardware
    usage: Usage | None = None
    """None in records written before this was measured."""
    mlflow: MlflowRun | None = None
    computed_in: str | None = None
    """Dagster run of an earlier attempt that computed the content and could not record it; None if this one did."""
    started_at: datetime
    ended_at: datetime
    reproducible: bool
    not_reproducible_because: tuple[str, ...] = ()


def find_record(metadata: Mapping[str, Any]) -> ProvenanceRecord | None:
    """Return the provenance record in a materialization's metadata, or None if there is none.

    Args:
        metadata: by name; each value may be wrapped in a `dagster.MetadataValue`.

    Raises:
        RecordTooNew: the record's format is later than this version reads.
        RecordError: it is malformed.
    """
    entry = metadata.get(RECORD_METADATA)
    if entry is None:
        return None
    payload = getattr(entry, "value", entry)
    version = payload.get("schema_version") if isinstance(payload, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise RecordTooNew(
            f"its provenance record has format {version}, but this version reads formats up to {SCHEMA_VERSION}",
            next_step="upgrade ml-assets to the version that wrote it, or a later one",
        )
    try:
        return ProvenanceRecord.model_validate(payload)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, each['loc'])) or 'value'}: {each['msg']}"
            for each in error.errors(include_url=False)[:3]
        )
        raise RecordError(
            f"its provenance record is malformed: {problems}", next_step="materialize it again"
        ) from error


def record_of(metadata: Mapping[str, Any]) -> ProvenanceRecord:
    """Return the provenance record in a materialization's metadata; raise `RecordError` if there is none."""
    record = find_record(metadata)
    if record is None:
        raise RecordError("it has no provenance record", next_step="declare it with a factory of ml_assets")
    return record
