"""The options of an asset and of its step that the factories set, complete or refuse."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ml_assets.artifacts.inputs import windowed_ins
from ml_assets.artifacts.io_manager import KIND_METADATA
from ml_assets.artifacts.record import source_file
from ml_assets.automation import ignoring_images, on_new_data
from ml_assets.code_version.coverage import Coverage
from ml_assets.code_version.version import Code, code_of, coverage
from ml_assets.containers import ContainerSpec, ImageAsset, image_key
from ml_assets.resources.errors import DefinitionError
from ml_assets.resources.git.reached import content_ids
from ml_assets.resources.provenance import ArtifactKind

__all__ = [
    "container_spec",
    "function_name",
    "given_code",
    "loaded_files",
    "output_options",
    "refuse_ranges",
    "step_options",
]

_BY_DEFAULT = object()


def container_spec(image: ImageAsset | None, pool: str | None) -> ContainerSpec:
    """Return the container spec of a step.

    Raises:
        DefinitionError: the given image is not an image asset.
    """
    return ContainerSpec(image_key(image).to_user_string() if image is not None else None, pool)


def given_code(function: Callable[..., Any], given: str | None) -> Code:
    """Return the code version that the author gives; without one, the version of the function's code.

    Raises:
        DefinitionError: as for `code_of`.
    """
    return Code(given, {}) if given else code_of(function)


def loaded_files(function: Callable[..., Any], covered: Coverage | None = None) -> Mapping[Path, str]:
    """Return the content of the first-party files of a function's code, as `content_ids` does.

    A factory calls this when the code is loaded, because files may change before a step runs.

    Args:
        function: the author's function.
        covered: what its code version covers, if that is known.
    """
    try:
        covered = covered or coverage(function)
    except DefinitionError:
        # The author gave the code version, because none can be computed.
        file = source_file(function)
        return content_ids({file} if file.is_file() else set())
    return content_ids({*covered.modules, *covered.files})


def output_options(kind: ArtifactKind, code: Code, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of one asset that the factory sets or completes."""
    condition = options.get("automation_condition", _BY_DEFAULT)
    return {
        # The code version of an image asset is its build key, added later. An op does not allow a replacement.
        "code_version": None if kind is ArtifactKind.IMAGE else code.version,
        "automation_condition": on_new_data() if condition is _BY_DEFAULT else condition and ignoring_images(condition),
        "kinds": {kind.value.replace(" ", "_"), *(options.get("kinds") or ())},
        "metadata": {KIND_METADATA: kind.value, **(options.get("metadata") or {})},
    }


def step_options(
    spec: ContainerSpec, image: ImageAsset | None, window: Mapping[str, int] | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the options of the step that the factory sets or completes."""
    return {
        "deps": [*(options.get("deps") or ()), *([image_key(image)] if image is not None else [])],
        "ins": windowed_ins(options.get("ins") or {}, window or {}),
        "op_tags": {**spec.to_tags(), **(options.get("op_tags") or {})},
        "pool": spec.pool,
    }


def function_name(function: Callable[..., Any]) -> str:
    """Return the name of a function, for error messages."""
    return getattr(function, "__name__", repr(function))


def refuse_ranges(function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Refuse a backfill policy with several partitions per run.

    Raises:
        DefinitionError: the policy is one.
    """
    policy = options.get("backfill_policy")
    if policy is not None and policy.max_partitions_per_run != 1:
        raise DefinitionError(
            "backfill_policy allows several partitions per run, which would share one data version",
            next_step="use BackfillPolicy.multi_run(1), or remove backfill_policy",
            asset=function_name(function),
        )
