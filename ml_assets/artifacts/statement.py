"""Provenance of an artifact as an in-toto statement with a SLSA provenance predicate. Pure.

Sources: https://in-toto.io/Statement/v1, its field types ``ResourceDescriptor`` and ``DigestSet``, and
https://slsa.dev/provenance/v1. The statement is not signed. Digests that the specification has no name for are
``dvcDirectoryMd5`` (DVC's hash of a directory: MD5 of its listing) and ``dataVersion`` (any other data version).
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from rich.console import RenderableType
from rich.text import Text
from rich.tree import Tree

from ml_assets.artifacts.metadata import repository_page
from ml_assets.lineage.graph import Node, NodeKind
from ml_assets.resources.identity import AssetPartition, Digest, ImageReference
from ml_assets.resources.provenance import ProvenanceRecord, RunEnvironment, Source

__all__ = ["provenance_statement", "render_statement"]

_STATEMENT: Final = "https://in-toto.io/Statement/v1"
_PREDICATE: Final = "https://slsa.dev/provenance/v1"
_BUILD: Final = "urn:ml-assets:materialization:1"
"""What `externalParameters` and `internalParameters` mean."""
_BUILDER: Final = "urn:ml-assets:target:"


def provenance_statement(record: ProvenanceRecord, upstream: Iterable[Node] = ()) -> dict[str, Any]:
    """What made an artifact, of which its digest is the subject.

    Args:
        record: its provenance record.
        upstream: what it came from by way of what it read; without them the statement names what was read alone.
    """
    dependencies = [*_read(record), *_ran_in(record.environment), *_source(record.source), *_indirect(record, upstream)]
    return {
        "_type": _STATEMENT,
        "subject": [_subject(record)],
        "predicateType": _PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": _BUILD,
                "externalParameters": _filled(
                    asset=record.asset, partition=record.partition, parameters=record.parameters
                ),
                "internalParameters": _filled(
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


def render_statement(statement: dict[str, Any]) -> RenderableType:
    """A statement for people: its subject, and what it depends on, what was read or run directly first."""
    (subject,), build = statement["subject"], statement["predicate"]["buildDefinition"]
    tree = Tree(_line(subject).append(f"  {subject['uri']}" if "uri" in subject else ""))
    titles = {True: "made of", False: "which came from"}
    for is_direct, title in titles.items():
        branch = Tree(Text(title, style="cyan"))
        for each in build["resolvedDependencies"]:
            if each.get("annotations", {}).get("direct", True) is is_direct:
                branch.add(_line(each))
        if branch.children:
            tree.add(branch)
    return tree


def _line(resource: dict[str, Any]) -> Text:
    digests = "  ".join(f"{algorithm}:{value}" for algorithm, value in resource["digest"].items())
    return Text(resource["name"], style="bold").append(f"  {digests}", style="not bold")


def _subject(record: ProvenanceRecord) -> dict[str, Any]:
    name = str(AssetPartition(record.asset, record.partition))
    if record.made_image:
        return {**_image(record.made_image), "name": name}
    registered = record.mlflow.registered_version if record.mlflow else None
    return _filled(name=name, uri=registered, digest=_digests(record.data_version))


def _read(record: ProvenanceRecord) -> Iterator[dict[str, Any]]:
    for each in record.inputs:
        noted = _filled(direct=True, loaded=each.loaded, dagsterRun=each.run_id, event=each.storage_id)
        yield _artifact(each.asset, each.partition, each.data_version, noted)


def _indirect(record: ProvenanceRecord, upstream: Iterable[Node]) -> Iterator[dict[str, Any]]:
    """What was not read itself: artifacts, then the images and commits that they were made with."""
    nodes = list(upstream)
    read = {(each.asset, each.partition, each.data_version) for each in record.inputs}
    for node in nodes:
        if (node.asset, node.partition, node.data_version) not in read and node.data_version:
            noted = _filled(direct=False, dagsterRun=node.dagster_run, event=node.storage_id)
            noted |= {"missing": True} if node.kind is NodeKind.MISSING else {}
            yield _artifact(node.asset, node.partition, node.data_version, noted)
    for image in dict.fromkeys(node.image for node in nodes if node.image and node.image != record.environment.image):
        yield {**_image(image), "annotations": {"direct": False}}
    own = (record.source.commit, record.source.dirty)
    for commit, dirty in dict.fromkeys((node.commit, node.dirty) for node in nodes):
        if commit and (commit, dirty) != own:
            noted = _filled(direct=False, dirty=dirty)
            yield {"name": "source", "digest": {"gitCommit": commit}, "annotations": noted}


def _artifact(asset: str, partition: str | None, version: str, annotations: dict[str, Any]) -> dict[str, Any]:
    name = str(AssetPartition(asset, partition))
    return {"name": name, "digest": _digests(version), "annotations": annotations}


def _ran_in(environment: RunEnvironment) -> Iterator[dict[str, Any]]:
    if environment.image:
        noted = _filled(indexDigest=environment.index_digest, imageAsset=environment.image_asset)
        yield {**_image(environment.image), **({"annotations": noted} if noted else {})}
    else:
        yield {"name": "environment (not containerized)", "digest": _digests(environment.environment_digest)}


def _image(text: str) -> dict[str, Any]:
    """An image, by its package URL (type ``oci``)."""
    image = ImageReference.parse(text)
    place = f"{image.registry}/{image.repository}"
    name, digest = image.repository.rpartition("/")[2], quote(str(image.digest), safe="")
    return {
        "name": text,
        "uri": f"pkg:oci/{name}@{digest}?repository_url={quote(place, safe='/')}",
        "digest": {"sha256": image.digest.value},
    }


def _source(source: Source) -> Iterator[dict[str, Any]]:
    if source.commit is None:
        return
    page = repository_page(source.repository)
    noted = _filled(dirty=source.dirty, diffDigest=source.diff_digest)
    yield _filled(
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


def _filled(**values: Any) -> dict[str, Any]:
    """Without what is not there."""
    return {name: value for name, value in values.items() if value not in (None, {})}
