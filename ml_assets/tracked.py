"""Datasets that people track themselves with DVC in git, as observed assets."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from resources.dvc_tracked import store_of, tracked_version
from resources.identity import Digest
from resources.provenance import TRACKED_METADATA

__all__ = ["fetch_tracked", "tracked_dataset", "tracked_dataset_sensor"]

_DEFINITION_METADATA = "ml_assets/tracked"


def tracked_dataset(
    name: str,
    *,
    repository: Path | str,
    dvc_file: str,
    revision: str = "HEAD",
    remote: str | None = None,
    **options: Any,
) -> dg.AssetsDefinition:
    """Declare a dataset that a ``.dvc`` file in a git repository tracks.

    Observing it reads the file at the revision; nothing is checked out. Its data version is the DVC hash there, and
    assets downstream load just that content, from the repository's own DVC remote.

    Args:
        name: name of the asset.
        repository: the git repository's folder.
        dvc_file: path of the ``.dvc`` file in it.
        revision: branch, tag or commit to follow.
        remote: DVC remote of the repository; its default remote when left out.
        options: every keyword of `dagster.observable_source_asset`.
    """
    place = {"repository": str(repository), "dvc_file": dvc_file, "revision": revision, "remote": remote}
    metadata = {_DEFINITION_METADATA: dg.MetadataValue.json(place), **(options.pop("metadata", None) or {})}

    @dg.observable_source_asset(name=name, metadata=metadata, **options)
    def observe() -> dg.ObserveResult:
        version, observed = _observe(place)
        return dg.ObserveResult(data_version=dg.DataVersion(version), metadata=observed)

    return dg.Definitions(assets=[observe]).get_assets_def(observe.key)


def tracked_dataset_sensor(
    assets: Sequence[dg.AssetsDefinition], *, name: str = "tracked_datasets", interval_seconds: int = 60
) -> dg.SensorDefinition:
    """A sensor that reports an observation when the ``.dvc`` file of a tracked dataset has changed at its revision."""
    places = {
        key: dict(asset.specs_by_key[key].metadata[_DEFINITION_METADATA].value)
        for asset in assets
        for key in asset.keys
    }

    @dg.sensor(name=name, minimum_interval_seconds=interval_seconds, default_status=dg.DefaultSensorStatus.RUNNING)
    def report_changes(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        seen: dict[str, str] = dg.deserialize_value(context.cursor, dict) if context.cursor else {}
        events = []
        for key, place in places.items():
            version, metadata = _observe(place)
            if seen.get(key.to_user_string()) != version:
                seen[key.to_user_string()] = version
                tags = {"dagster/data_version": version, "dagster/data_version_is_user_provided": "true"}
                events.append(dg.AssetObservation(key, metadata=metadata, tags=tags))
        return dg.SensorResult(asset_events=events, cursor=dg.serialize_value(seen))

    return report_changes


def fetch_tracked(place: Mapping[str, Any], cache: str) -> Path:
    """The content that an observation saw, fetched by its version from the repository's remote."""
    store = store_of(Path(place["repository"]), place["remote"], cache)
    return store.fetch(Digest.parse(place["version"]))


def _observe(place: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    found = tracked_version(Path(place["repository"]), place["dvc_file"], place["revision"])
    version = str(found.version)
    seen = {**place, "version": version, "commit": found.commit, "path": found.path}
    return version, {
        TRACKED_METADATA: dg.MetadataValue.json(seen),
        "data version": dg.MetadataValue.text(version),
        "commit": dg.MetadataValue.text(found.commit),
        "size in bytes": dg.MetadataValue.int(found.size),
    }
