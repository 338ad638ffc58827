"""The executor definition for Dagster, with the config that the launchpad shows."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets.dagster_internals import RetryMode, get_retries_config, get_tag_concurrency_limits_config
from ml_assets.executors.launch import ContainerExecutor
from ml_assets.executors.placement import EVERY_STEP, PlacementRules, parse_overrides
from ml_assets.placement import Placement
from ml_assets.resources.sections import ContainerSettings

if TYPE_CHECKING:
    from ml_assets.executors.engine import ContainerEngine
    from ml_assets.resources.registry.client import RegistryClient

__all__ = ["container_engine", "container_executor"]

_OVERRIDE = {
    "image": dg.Field(str, is_required=False, description="Image asset, or image reference by digest."),
    "pool": dg.Field(str, is_required=False, description="Name of the pool to run on."),
    "cpus": dg.Field(float, is_required=False, description="Number of CPU cores."),
    "memory": dg.Field(str, is_required=False, description="Amount of memory, such as 8Gi."),
    "accelerators": dg.Field(int, is_required=False, description="Number of accelerators."),
}


def container_executor(
    rules: PlacementRules,
    *,
    target: str,
    pass_variables: Mapping[str, str],
    registry: "Callable[[], RegistryClient]",
) -> dg.ExecutorDefinition:
    """Return the executor of a target whose settings choose ``docker`` or ``kubernetes``.

    Args:
        rules: placement rules of the settings.
        target: name of the target, passed to every step.
        pass_variables: variables that steps inherit from the run worker (Docker only).
        registry: creates the registry client, which determines the digests that belong to one image.
    """

    @dg.executor(
        name=rules.containers.executor,
        config_schema={
            "overrides": dg.Field(
                dg.Map(str, _OVERRIDE, key_label_name="asset"),  # type: ignore[no-untyped-call]
                default_value={},
                description=f"Placement overrides for this run, by asset key, check, op or {EVERY_STEP} for all.",
            ),
            "retries": get_retries_config(),  # type: ignore[no-untyped-call]
            "max_concurrent": dg.Field(
                dg.Noneable(int), default_value=None, description="Maximum number of concurrent steps of this run."
            ),
            "tag_concurrency_limits": get_tag_concurrency_limits_config(),  # type: ignore[no-untyped-call]
        },
        requirements=dg.multiple_process_executor_requirements(),
    )
    def containers(context: dg.InitExecutorContext) -> ContainerExecutor:
        from ml_assets.executors.image_check import image_check

        config: Mapping[str, Any] = context.executor_config
        return ContainerExecutor(
            container_engine(rules.containers, pass_variables),
            rules,
            image_ran=_lazily(lambda: image_check(registry())),
            variables={"ML_ASSETS_TARGET": target, **rules.containers.variables},
            retries=RetryMode.from_config(config["retries"]) or RetryMode.ENABLED,
            overrides=parse_overrides(config["overrides"]),
            max_concurrent=config.get("max_concurrent"),
            tag_concurrency_limits=config.get("tag_concurrency_limits") or (),
        )

    return containers


def container_engine(settings: ContainerSettings, pass_variables: Mapping[str, str]) -> "ContainerEngine":
    """Return the engine that the settings choose.

    Raises:
        EngineUnreachable: the engine does not answer.
        EngineRefused: no connection to the engine is configured.
    """
    if settings.executor == "docker":
        from ml_assets.executors.docker import DockerEngine

        return DockerEngine(settings, pass_variables)
    from ml_assets.executors.kubernetes.engine import KubernetesEngine

    return KubernetesEngine(settings)


def _lazily(make: Callable[[], Callable[[str, Placement], bool | None]]) -> Callable[[str, Placement], bool | None]:
    """Return a check that is created on first use, because its imports would delay the first launch."""
    made: list[Callable[[str, Placement], bool | None]] = []

    def check(image_id: str, placement: Placement) -> bool | None:
        if not made:
            made.append(make())
        return made[0](image_id, placement)

    return check
