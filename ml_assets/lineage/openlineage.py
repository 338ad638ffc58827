"""A trace as OpenLineage events, for systems such as Marquez and DataHub. Source: https://openlineage.io/spec/2-0-2.

The client's own event classes and transports do the work. ``OpenLineageClient`` is not used: it adds facts of the
current environment, such as the checked-out commit, to past events.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from ml_assets.lineage.graph import LineageGraph, Node, NodeKind
from ml_assets.resources.atomic_file import replacing
from ml_assets.resources.errors import LineageError
from ml_assets.resources.extras import require
from ml_assets.resources.identity import AssetPartition
from ml_assets.resources.provenance import ProvenanceRecord

if TYPE_CHECKING:
    from openlineage.client.event_v2 import DatasetEvent, InputDataset, Job, OutputDataset, Run, RunEvent
    from openlineage.client.transport import Transport

__all__ = ["openlineage_events", "send_events", "write_events"]

_PASSWORD: Final = re.compile(r"://[^/\s@]*@")
_PRODUCER: Final = "urn:ml-assets:openlineage:1"
_NOT_MADE: Final = frozenset({NodeKind.OBSERVATION, NodeKind.MISSING})


def openlineage_events(
    graph: LineageGraph, records: Mapping[str, ProvenanceRecord], namespace: str
) -> "Iterator[RunEvent | DatasetEvent]":
    """Return the events of a graph, in the order of the log.

    A materialization is a run of the job named after its asset, with a START and a COMPLETE event. Its
    partition is a dataset ``asset@partition`` with the data version as its version. Run ids are derived from the
    namespace and the materialization, so the same graph gives the same events again.

    Args:
        graph: the graph to convert.
        records: the available provenance records by node id.
        namespace: namespace of jobs and datasets.

    Raises:
        LineageError: the client is not installed.
    """
    require("openlineage")
    telling = _Telling(graph, namespace)
    for node_id, node in graph.nodes.items():
        yield from telling.events(node, records.get(node_id))


def write_events(events: "Iterable[RunEvent | DatasetEvent]", file: Path) -> int:
    """Write events to a file, one JSON object per line; return their number.

    Raises:
        LineageError: the file cannot be written.
    """
    from openlineage.client.transport.file import FileConfig, FileTransport

    try:
        with replacing(file) as unfinished:
            unfinished.write_text("")
            count = _emit(events, FileTransport(FileConfig(log_file_path=str(unfinished.absolute()), append=True)))
    except (OSError, RuntimeError) as error:
        cause = error.strerror if isinstance(error, OSError) else error
        raise LineageError(f"cannot write {file}: {cause}", next_step="choose another file") from error
    return count


def send_events(events: "Iterable[RunEvent | DatasetEvent]", url: str, api_key: str | None = None) -> int:
    """Send events to a server; return their number. Sending is idempotent.

    Args:
        events: the events to send.
        url: address of the server, which accepts events at ``api/v1/lineage`` below it.
        api_key: API key, sent as bearer token.

    Raises:
        LineageError: the server does not answer, or rejects an event.
    """
    import requests
    from openlineage.client.transport.http import HttpConfig, HttpTransport

    auth = {"auth": {"type": "api_key", "apiKey": api_key}} if api_key else {}
    try:
        return _emit(events, HttpTransport(HttpConfig.from_dict({"url": url, **auth})))
    except (requests.RequestException, ValueError) as error:
        cause = _PASSWORD.sub("://", str(error).splitlines()[0])
        raise LineageError(
            f"{_PASSWORD.sub('://', url)} did not accept an OpenLineage event: {cause}",
            next_step="check the address and the key (lineage.openlineage_api_key), then run the command again",
        ) from error


def _emit(events: "Iterable[RunEvent | DatasetEvent]", transport: "Transport") -> int:
    count = 0
    try:
        for event in events:
            transport.emit(event)
            count += 1
    finally:
        transport.close()
    return count


class _Telling:
    """Converts one graph to events."""

    def __init__(self, graph: LineageGraph, namespace: str) -> None:
        self._graph, self._namespace = graph, namespace

    def events(self, node: Node, record: ProvenanceRecord | None) -> "Iterator[RunEvent | DatasetEvent]":
        from openlineage.client.event_v2 import DatasetEvent, RunEvent, RunState, StaticDataset

        if node.timestamp is None:
            return
        ended = _moment(node.timestamp)
        if node.kind in _NOT_MADE:
            dataset = StaticDataset(self._namespace, _name(node), facets=_about(node))
            yield DatasetEvent(eventTime=ended, producer=_PRODUCER, dataset=dataset)
            return
        run, job = self._run(node, node.timestamp, record), self._job(node, record)
        inputs = [self._input(parent) for parent in self._graph.parents(node.id)]
        started = _moment(record.started_at) if record else ended
        told: dict[str, Any] = {"run": run, "job": job, "producer": _PRODUCER, "inputs": inputs}
        yield RunEvent(eventTime=started, eventType=RunState.START, **told)
        yield RunEvent(eventTime=ended, eventType=RunState.COMPLETE, outputs=[self._output(node)], **told)

    def _input(self, node: Node) -> "InputDataset":
        from openlineage.client.event_v2 import InputDataset

        return InputDataset(self._namespace, _name(node), facets=_about(node))

    def _output(self, node: Node) -> "OutputDataset":
        from openlineage.client.event_v2 import OutputDataset

        return OutputDataset(self._namespace, _name(node), facets=_about(node))

    def _run(self, node: Node, moment: datetime, record: ProvenanceRecord | None) -> "Run":
        from openlineage.client.event_v2 import Run
        from openlineage.client.facet_v2 import execution_parameters_run, parent_run, processing_engine_run, tags_run
        from openlineage.client.uuid import generate_static_uuid

        facets: dict[str, Any] = {
            "tags": tags_run.TagsRunFacet(
                [tags_run.TagsRunFacetFields(name, value, "ML-ASSETS") for name, value in _tags(node).items()],
                producer=_PRODUCER,
            )
        }
        if record is not None:
            facets["processing_engine"] = processing_engine_run.ProcessingEngineRunFacet(
                record.environment.dagster, "Dagster", producer=_PRODUCER
            )
            if _is_uuid(record.dagster_run):
                run, job = parent_run.Run(record.dagster_run), parent_run.Job(self._namespace, record.job)
                facets["parent"] = parent_run.ParentRunFacet(run, job, producer=_PRODUCER)
            facets["executionParameters"] = execution_parameters_run.ExecutionParametersRunFacet(
                [
                    execution_parameters_run.ExecutionParameter(key=name, value=str(value))
                    for name, value in record.parameters.items()
                ],
                producer=_PRODUCER,
            )
        return Run(str(generate_static_uuid(moment, f"{self._namespace} {node.id}".encode())), facets)

    def _job(self, node: Node, record: ProvenanceRecord | None) -> "Job":
        from openlineage.client.event_v2 import Job
        from openlineage.client.facet_v2 import job_type_job, source_code_location_job

        facets: dict[str, Any] = {
            "jobType": job_type_job.JobTypeJobFacet("BATCH", "DAGSTER", "ASSET", producer=_PRODUCER)
        }
        page = record.source.repository_page if record else None
        if page and node.commit:
            facets["sourceCodeLocation"] = source_code_location_job.SourceCodeLocationJobFacet(
                "git", f"{page}/tree/{node.commit}", repoUrl=page, version=node.commit, producer=_PRODUCER
            )
        return Job(self._namespace, node.asset, facets)


def _is_uuid(run_id: str) -> bool:
    """Return True if a text is a valid OpenLineage run id. Dagster accepts any text as a run id."""
    try:
        UUID(run_id)
    except ValueError:
        return False
    return True


def _name(node: Node) -> str:
    return str(AssetPartition(node.asset, node.partition))


def _about(node: Node) -> dict[str, Any]:
    from openlineage.client.facet_v2 import dataset_type_dataset, dataset_version_dataset

    kind = node.kind.value.upper().replace(" ", "_")
    facets: dict[str, Any] = {"datasetType": dataset_type_dataset.DatasetTypeDatasetFacet(kind, producer=_PRODUCER)}
    if node.data_version:
        facets["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(node.data_version, producer=_PRODUCER)
    return facets


def _tags(node: Node) -> dict[str, str]:
    told = {
        "materialization": node.id,
        "image": node.image,
        "environment": node.environment,
        "commit": node.commit,
        "dirty": None if node.dirty is None else str(node.dirty).lower(),
        "code_version": node.code_version,
        "mlflow_run": node.mlflow_run,
        "model_version": node.model_version,
    }
    return {name: value for name, value in told.items() if value}


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
