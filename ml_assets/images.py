"""The image factory."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from ml_assets.artifacts import Kept, Step, define_artifact
from ml_assets.code_version import STORAGE_FORMAT
from ml_assets.containers import IMAGES_GROUP
from ml_assets.presentation import NOT_CONTAINERIZED
from resources.errors import SchemaError
from resources.identity import Digest
from resources.image_builders.interface import ImageSpec
from resources.provenance import ArtifactKind

__all__ = ["container_image"]


def container_image(
    name: str,
    *,
    dockerfile: str,
    sources: Sequence[str],
    bases: Mapping[str, str] | None = None,
    arguments: Mapping[str, str] | None = None,
    **options: Any,
) -> dg.AssetsDefinition:
    """Declare an image: what other assets run in.

    Its key is ``images/<name>``, its data version the environment digest. Where the target has no container engine,
    materializing it records the interpreter's environment and says that nothing was built.

    Args:
        name: name of the image, and last part of its repository.
        dockerfile: path of the Dockerfile from the project's folder.
        sources: first-party files and folders that the Dockerfile copies.
        bases: build argument → name of the base image in the lock of base images.
        arguments: other build arguments; never a secret.
        options: every keyword of `dagster.asset` except name and group.

    Raises:
        DefinitionError: a path leaves the project's folder, or an option cannot be kept.
    """
    spec = ImageSpec(
        name=name,
        dockerfile=dockerfile,
        sources=tuple(sources),
        bases=bases or {"BASE_IMAGE": "python"},
        arguments=arguments or {},
    )

    def image() -> ImageSpec:
        return spec

    image.__doc__ = f"The image {name}, built from {dockerfile}: an environment that other assets run in."
    return define_artifact(
        image,
        kind=ArtifactKind.IMAGE,
        keep=_keep_image,
        **{
            "name": name,
            "key_prefix": [IMAGES_GROUP],
            "group_name": IMAGES_GROUP,
            "code_version": Digest.of_bytes(f"{STORAGE_FORMAT} {spec!r}".encode()).value,
            **options,
        },
    )


def _keep_image(value: Any, step: Step) -> Kept:
    if not isinstance(value, ImageSpec):
        raise SchemaError(f"an image is declared by an ImageSpec, not {value!r}", next_step="use container_image")
    built = step.storage.image_builder.build(value, step.log)
    metadata = {
        "image": dg.MetadataValue.text(str(built.image) if built.image else NOT_CONTAINERIZED),
        "build key": dg.MetadataValue.text(str(built.build_key)),
        "built": dg.MetadataValue.bool(built.built),
        "explanation": dg.MetadataValue.text(built.explanation),
    }
    return Kept(built.environment_digest, metadata=metadata, image=str(built.image) if built.image else None)
