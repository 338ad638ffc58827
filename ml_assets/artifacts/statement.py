"""Provenance of an artifact as an in-toto statement with a SLSA provenance predicate. Pure functions.

Sources: https://in-toto.io/Statement/v1, its field types ``ResourceDescriptor`` and ``DigestSet``, and
https://slsa.dev/provenance/v1. The statement is not signed. Digests without a name in the specification are
``dvcDirectoryMd5`` (DVC's hash of a directory: MD5 of its listing) and ``dataVersion`` (any other data version).
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from ml_assets.resources.identity import AssetPartition, Digest, ImageReference
from ml_assets.resources.provenance import ProvenanceRecord, RunEnvironment, Source

__all__ = ["artifact_descriptor", "filled", "image_descriptor", "provenance_statement"]

_STATEMENT: Final = "https://in-toto.io/Statement/v1"
_PREDICATE: Final = "https://slsa.dev/provenance/v1"
_BUILD: Final = "urn:ml-assets:materialization:1"
"""Build type, which defines the meaning of `externalParameters` and `internalParameters`."""
_BUILDER: Final = "urn:ml-assets:target:"


def provenance_statement(record: ProvenanceRecord, indirect: Iterable[dict[str, Any]] = ()) -> dict[str, Any]:
    """Return the provenance statement of an artifact; its subject is the artifact's digest.

    Args:
        record: the artifact's provenance record.
        indirect: resource descriptors of the artifact's indirect dependencies. Without them the statement names only
        the direct dependencies.
    """
    dependencies = [*_read(record), *_ran_in(record.environment), *_source(record.source), *indirect]
    return {
        "_type": _STATEMENT,
        "subject": [_subject(record)],
        "predicateType": _PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": _BUILD,
                "externalParameters": filled(
                    asset=record.asset, partition=record.partition, parameters=record.parameters
                ),
                "internalParameters": filled(
                    codeVersion=record.code_version,
                    environmentDigest=record.environment.environment_digest,
                    pool=record.environment.pool,
                    seeds=record.seeds,
                    threads=record.threads.model_dump(mode="json"),
                    hardware=record.hardware.model_dump(mode="json"),
                    job=record.job,
                    launch=record.launch.described(),
                ),
                "resolvedDependencies": dependencies,
            },
            "runDetails": {
                "builder": {
                    "id": f"{_BUILDER}{quote(record.environment.target, safe='')}",
                    "version": {"dagster": record.environment.dagster, "python": record.environment.python},
                },
                "metadata": {
                    "invocationId": f"{record.dagster_run}/{record.dagster_step}/{record.attempt}",
                    "startedOn": _moment(record.started_at),
                    "finishedOn": _moment(record.ended_at),
                },
                "byproducts": list(_byproducts(record)),
            },
        },
    }


def _subject(record: ProvenanceRecord) -> dict[str, Any]:
    name = str(AssetPartition(record.asset, record.partition))
    if record.made_image:
        return {**image_descriptor(record.made_image), "name": name}
    registered = record.mlflow.registered_version if record.mlflow else None
    return filled(name=name, uri=registered, digest=_digests(record.data_version))


def _read(record: ProvenanceRecord) -> Iterator[dict[str, Any]]:
    for each in record.inputs:
        noted = filled(direct=True, loaded=each.loaded, dagsterRun=each.run_id, event=each.storage_id)
        yield artifact_descriptor(each.asset, each.partition, each.data_version, noted)


def artifact_descriptor(asset: str, partition: str | None, version: str, annotations: dict[str, Any]) -> dict[str, Any]:
    """Return the resource descriptor of one version of an artifact."""
    name = str(AssetPartition(asset, partition))
    return {"name": name, "digest": _digests(version), "annotations": annotations}


def _ran_in(environment: RunEnvironment) -> Iterator[dict[str, Any]]:
    if environment.image:
        noted = filled(indexDigest=environment.index_digest, imageAsset=environment.image_asset)
        yield {**image_descriptor(environment.image), **({"annotations": noted} if noted else {})}
    else:
        yield {"name": "environment (not containerized)", "digest": _digests(environment.environment_digest)}


def image_descriptor(text: str) -> dict[str, Any]:
    """Return the resource descriptor of an image, whose URI is a package URL (type ``oci``)."""
    image = ImageReference.parse(text)
    repository = f"{image.registry}/{image.repository}"
    name, digest = image.repository.rpartition("/")[2], quote(str(image.digest), safe="")
    return {
        "name": text,
        "uri": f"pkg:oci/{name}@{digest}?repository_url={quote(repository, safe='/')}",
        "digest": {"sha256": image.digest.value},
    }


def _source(source: Source) -> Iterator[dict[str, Any]]:
    if source.commit is None:
        return
    page = source.repository_page
    noted = filled(dirty=source.dirty, diffDigest=source.diff_digest)
    yield filled(
        name="source",
        uri=f"git+{page}@{source.commit}" if page else None,
        digest={"gitCommit": source.commit},
        annotations=noted,
    )


def _byproducts(record: ProvenanceRecord) -> Iterator[dict[str, Any]]:
    if record.mlflow:
        run = record.mlflow
        yield {"name": "MLflow run", "uri": run.url or f"runs:/{run.run_id}", "annotations": {"runId": run.run_id}}


def _digests(version: str) -> dict[str, str]:
    try:
        digest = Digest.parse(version)
    except ValueError:
        return {"dataVersion": version}
    return {"dvcDirectoryMd5" if digest.is_directory else digest.algorithm: digest.hex}


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def filled(**values: Any) -> dict[str, Any]:
    """Return the fields that are neither None nor empty."""
    return {name: value for name, value in values.items() if value not in (None, {})}
