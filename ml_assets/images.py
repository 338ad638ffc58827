"""The image factory, and operations on all image assets of a code location."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import uuid4

import dagster as dg

from ml_assets.artifacts.factory import define_artifact
from ml_assets.artifacts.io_manager import KIND_METADATA
from ml_assets.artifacts.metadata import NOT_CONTAINERIZED
from ml_assets.artifacts.writer import Stored, WriteContext
from ml_assets.code_version.version import STORAGE_FORMAT
from ml_assets.containers import IMAGES_GROUP
from ml_assets.resources.errors import ImageError, SchemaError, UnknownReference
from ml_assets.resources.identity import Digest
from ml_assets.resources.image_builders.interface import ImageBuilder, ImageSpec
from ml_assets.resources.provenance import ArtifactKind, ProvenanceRecord, record_of

__all__ = ["container_image", "image_specs", "make_images", "with_build_keys"]

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def container_image(
    name: str,
    *,
    dockerfile: str,
    sources: Sequence[str],
    bases: Mapping[str, str] | None = None,
    arguments: Mapping[str, str] | None = None,
    target: str | None = "code",
    **options: Any,
) -> dg.AssetsDefinition:
    """Declare an image that other assets run in.

    Its key is ``images/<name>``, and its data version is the environment digest. If the target has no container engine,
    materializing it records the interpreter's environment and reports that no image was built.

    Args:
        name: name of the image, and last part of its repository.
        dockerfile: path of the Dockerfile, relative to the project's folder.
        sources: first-party files and folders that the Dockerfile copies.
        bases: build argument → name of the base image in the lock of base images.
        arguments: other build arguments; never a secret.
        target: stage of the Dockerfile to build; None for the last one.
        options: every keyword of `dagster.asset` except name and group.

    Raises:
        DefinitionError: a path is outside the project's folder, or an option is not accepted.
    """
    spec = ImageSpec(
        name=name,
        dockerfile=dockerfile,
        sources=tuple(sources),
        bases=bases or {"BASE_IMAGE": "python"},
        arguments=arguments or {},
        target=target,
    )

    def image() -> ImageSpec:
        return spec

    image.__doc__ = f"The image {name}, built from {dockerfile}: an environment that other assets run in."
    return define_artifact(
        image,
        kind=ArtifactKind.IMAGE,
        write=_write_image,
        **{
            "name": name,
            "key_prefix": [IMAGES_GROUP],
            "group_name": IMAGES_GROUP,
            "code_version": Digest.of_bytes(f"{STORAGE_FORMAT} {spec!r}".encode()).value,
            **options,
        },
    )


def image_specs(definitions: dg.Definitions | dg.RepositoryDefinition) -> dict[dg.AssetKey, ImageSpec]:
    """Return the image spec of each image asset of the definitions."""
    found: dict[dg.AssetKey, ImageSpec] = {}
    assets = definitions.assets if isinstance(definitions, dg.Definitions) else definitions.assets_defs_by_key.values()
    for asset in assets or ():
        if not isinstance(asset, dg.AssetsDefinition) or not asset.is_executable:
            continue
        if any(metadata.get(KIND_METADATA) == ArtifactKind.IMAGE for metadata in asset.metadata_by_key.values()):
            found[asset.key] = asset.op.compute_fn.decorated_fn()  # type: ignore[union-attr]
    return found


def with_build_keys(definitions: dg.Definitions, builder: ImageBuilder) -> dg.Definitions:
    """Return the definitions, with the build key of each image asset as its code version.

    Dagster then shows an image as out of date as soon as its sources change. Its data version, the environment digest,
    changes only with its dependencies. If the sources are not available, as inside most images, the build key is
    unknown and the image has no code version. In this case Dagster does not show the image as out of date, and the
    builder image, which has the sources, does not reject the step that makes it.

    Args:
        definitions: any assets, including image assets.
        builder: the target's builder of images.
    """
    keys: dict[dg.AssetKey, str] = {}
    for asset, spec in image_specs(definitions).items():
        try:
            keys[asset] = builder.build_key(spec).value
        except ImageError:  # materializing the image here would report the missing files
            continue

    def keyed(spec: dg.AssetSpec) -> dg.AssetSpec:
        return spec.replace_attributes(code_version=keys[spec.key]) if spec.key in keys else spec

    return definitions.permissive_map_resolved_asset_specs(keyed, selection=None)


def make_images(
    code_locations: Sequence[dg.RepositoryDefinition],
    instance: dg.DagsterInstance,
    names: Sequence[str],
    say: Callable[[str], None],
) -> list[ProvenanceRecord]:
    """Materialize image assets in this process, as one run of the instance for each code location that has some.

    Args:
        code_locations: all definitions.
        instance: the instance that records the run.
        names: names of images, such as ``train``; all images if empty.
        say: called with each line of the builds' logs.

    Raises:
        UnknownReference: an image of this name does not exist.
        ImageError: a build failed. The images before it are recorded.
    """
    images = [{key.path[-1]: key for key in image_specs(location)} for location in code_locations]
    known = {name for own in images for name in own}
    unknown = sorted({*names} - known)
    if unknown:
        raise UnknownReference(
            f"no image asset has the name {', '.join(unknown)}",
            next_step=f"choose from: {', '.join(sorted(known)) or '(none exists)'}",
        )

    def report(entry: dg.EventLogEntry) -> None:
        if entry.dagster_event is None:
            say(entry.user_message)

    materializations: list[dg.AssetMaterialization] = []
    for location, own in zip(code_locations, images, strict=True):
        selection = [own[name] for name in names or own if name in own]
        if not selection:
            continue
        run_id = str(uuid4())
        instance.add_event_listener(run_id, report)
        result = location.get_implicit_global_asset_job_def().execute_in_process(
            run_config=_QUIET, instance=instance, asset_selection=selection, run_id=run_id
        )
        materializations += [event.materialization for event in result.get_asset_materialization_events()]
    return [record_of(each.metadata) for each in materializations]


def _write_image(value: Any, context: WriteContext) -> Stored:
    if not isinstance(value, ImageSpec):
        raise SchemaError(
            f"an image asset must return an ImageSpec, got {value!r}",
            next_step="declare the image with ml_assets.container_image",
        )
    built = context.storage.image_builder.build(value, context.log)
    metadata = {
        "image": dg.MetadataValue.text(str(built.image) if built.image else NOT_CONTAINERIZED),
        **({"index digest": dg.MetadataValue.text(str(built.index_digest))} if built.index_digest else {}),
        "build key": dg.MetadataValue.text(str(built.build_key)),
        "built": dg.MetadataValue.bool(built.built),
        "explanation": dg.MetadataValue.text(built.explanation),
    }
    return Stored(
        built.environment_digest,
        metadata=metadata,
        image=str(built.image) if built.image else None,
        index_digest=str(built.index_digest) if built.index_digest else None,
    )
