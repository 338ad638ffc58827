"""Datasets that users track with DVC in git, as observed assets."""

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from ml_assets.artifacts.io_manager import STORAGE_KEY
from ml_assets.dagster_internals import DATA_VERSION_TAG
from ml_assets.resources.dvc.git import tracked_version
from ml_assets.resources.errors import DefinitionError, MlAssetsError
from ml_assets.resources.provenance import TRACKED_METADATA

__all__ = ["tracked_dataset", "tracked_dataset_sensor"]

_DEFINITION_METADATA = "ml_assets/tracked"


def tracked_dataset(
    name: str,
    *,
    repository: Path | str,
    dvc_file: str,
    revision: str = "HEAD",
    remote: str | None = None,
    key_prefix: str | Sequence[str] = (),
    **options: Any,
) -> dg.AssetsDefinition:
    """Declare a dataset that a ``.dvc`` file in a git repository tracks.

    An observation reads the file at the revision without a checkout. The data version is the DVC hash in that file.
    Downstream assets load exactly that content from the repository's DVC remote.

    Args:
        name: name of the asset.
        repository: absolute path of the git repository's folder.
        dvc_file: path of the ``.dvc`` file in it.
        revision: branch, tag or commit to follow.
        remote: DVC remote of the repository; by default its default remote.
        key_prefix: prefix of the name in the asset's key; a string is one part.
        options: every keyword of `dagster.AssetSpec` except key and deps.

    Raises:
        DefinitionError: the repository's path is relative, so it would depend on the working directory.
    """
    if not Path(repository).is_absolute():
        raise DefinitionError(
            f"repository must be an absolute path, got {str(repository)!r}",
            next_step="build the path from a known folder, such as Path(__file__).parent",
            asset=name,
        )
    pointer = {"repository": str(repository), "dvc_file": dvc_file, "revision": revision, "remote": remote}
    prefix = [key_prefix] if isinstance(key_prefix, str) else key_prefix
    key = dg.AssetKey([*prefix, name])
    metadata = {_DEFINITION_METADATA: dg.MetadataValue.json(pointer), **(options.pop("metadata", None) or {})}
    kinds = {"dataset", "dvc", *(options.pop("kinds", None) or ())}
    spec = dg.AssetSpec(key, metadata=metadata, kinds=kinds, **options).with_io_manager_key(STORAGE_KEY)

    def observe() -> dg.ObserveResult:
        version, observed = _observe(key, pointer)
        return dg.ObserveResult(asset_key=key, data_version=dg.DataVersion(version), metadata=observed)

    with warnings.catch_warnings():
        # Beta in Dagster 1.13. The alternative observable_source_asset is beta too, and has neither owners nor kinds.
        warnings.simplefilter("ignore", dg.BetaWarning)
        decorate = dg.multi_observable_source_asset(specs=[spec], name=key.to_python_identifier())
        observed: dg.AssetsDefinition = decorate(observe)
    return observed


def tracked_dataset_sensor(
    assets: Sequence[dg.AssetsDefinition], *, name: str = "tracked_datasets", interval_seconds: int = 60
) -> dg.SensorDefinition:
    """Return a sensor that reports an observation when a tracked dataset's ``.dvc`` file changes at its revision.

    If one dataset cannot be observed, changes of the others are still reported. If there are no changes to report, the
    tick fails.

    Args:
        assets: return values of `tracked_dataset`.
        name: name of the sensor.
        interval_seconds: seconds between two checks.
    """
    pointers = {
        key: dict(asset.specs_by_key[key].metadata[_DEFINITION_METADATA].value)
        for asset in assets
        for key in asset.keys
    }

    @dg.sensor(name=name, minimum_interval_seconds=interval_seconds, default_status=dg.DefaultSensorStatus.RUNNING)
    def report_changes(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        seen: dict[str, str] = json.loads(context.cursor or "{}")
        events, failures = [], []
        for key, pointer in pointers.items():
            try:
                version, metadata = _observe(key, pointer)
            except MlAssetsError as error:
                failures.append(error)
                continue
            if seen.get(key.to_user_string()) != version:
                seen[key.to_user_string()] = version
                events.append(dg.AssetObservation(key, metadata=metadata, tags={DATA_VERSION_TAG: version}))
        if failures and not events:
            raise failures[0]
        for failure in failures:
            context.log.error(str(failure))
        return dg.SensorResult(asset_events=events, cursor=json.dumps(seen))

    return report_changes


def _observe(key: dg.AssetKey, pointer: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    try:
        found = tracked_version(Path(pointer["repository"]), pointer["dvc_file"], pointer["revision"])
    except MlAssetsError as error:
        raise error.for_asset(key.to_user_string()) from error.__cause__
    version = str(found.version)
    seen = {**pointer, "version": version, "commit": found.commit, "path": found.path}
    return version, {
        TRACKED_METADATA: dg.MetadataValue.json({**seen, "size": found.size, "files": found.files}),
        "data version": dg.MetadataValue.text(version),
        "commit": dg.MetadataValue.text(found.commit),
        "size in bytes": dg.MetadataValue.int(found.size),
    }
