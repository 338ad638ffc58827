"""Placement checks when the code location loads: each declared placement must be possible."""

from collections.abc import Iterator, Mapping

import dagster as dg

from ml_assets.containers import ContainerSpec, placed_image
from ml_assets.dagster_internals import NodeDefinition
from ml_assets.executors.placement import EVERY_STEP, step_names
from ml_assets.resources.errors import SettingsError
from ml_assets.resources.pools import Override, Pool, parse_memory
from ml_assets.resources.settings import Settings
from ml_assets.resources.suggestion import suggestion

__all__ = ["check_placements"]


def check_placements(definitions: dg.Definitions, settings: Settings) -> None:
    """Refuse definitions and settings that name a missing pool, image or step, or impossible resources.

    Nothing is checked if steps are plain processes, which have no pools.

    Raises:
        SettingsError: names the asset and every problem.
    """
    if settings.containers.executor == "processes":
        return
    images = {key.to_user_string() for asset in _assets(definitions) for key in asset.keys}
    problems = [*_of_definitions(definitions, settings, images), *_of_settings(settings, images)]
    problems += _of_keys(definitions, settings)
    if problems:
        raise SettingsError(
            "; ".join(problems), next_step=f"correct the definition, or deployments/{settings.target}/settings.toml"
        )


def _of_definitions(definitions: dg.Definitions, settings: Settings, images: set[str]) -> Iterator[str]:
    for name, spec, image in _specs(definitions):
        if spec.pool is not None and spec.pool not in settings.pools:
            yield f"{name} names pool {spec.pool!r}, which does not exist ({_known(settings.pools)})"
        if image is not None and image not in images:
            yield f"{name} names image asset {image!r}, which does not exist"


def _of_settings(settings: Settings, images: set[str]) -> Iterator[str]:
    containers = settings.containers
    if containers.pool is not None and containers.pool not in settings.pools:
        yield f"containers.pool names pool {containers.pool!r}, which does not exist ({_known(settings.pools)})"
    if containers.image is not None and not _is_known(containers.image, images):
        yield f"containers.image names image asset {containers.image!r}, which does not exist"
    for name, override in settings.placement.items():
        yield from _of_override(name, override, settings, images)


def _of_override(name: str, override: Override, settings: Settings, images: set[str]) -> Iterator[str]:
    where = f"placement.{name}"
    if override.image is not None and not _is_known(override.image, images):
        yield f"{where}.image names image asset {override.image!r}, which does not exist"
    if override.pool is None:
        return
    pool = settings.pools.get(override.pool)
    if pool is None:
        yield f"{where}.pool names pool {override.pool!r}, which does not exist ({_known(settings.pools)})"
        return
    if override.cpus is not None and pool.cpu_limit is not None and override.cpus > pool.cpu_limit:
        yield f"{where}.cpus is {override.cpus:g}, above cpu_limit {pool.cpu_limit:g} of pool {override.pool}"
    memory = parse_memory(override.memory or pool.memory)
    if pool.shared_memory is not None and memory < parse_memory(pool.shared_memory):
        yield f"{where}.memory is {override.memory}, below shared_memory {pool.shared_memory} of {override.pool}"


def _of_keys(definitions: dg.Definitions, settings: Settings) -> Iterator[str]:
    names = {EVERY_STEP, *_step_names(definitions)}
    for key in sorted(settings.placement.keys() - names):
        yield f"placement.{key} names no existing asset, check or op{suggestion(key, names)}"


def _step_names(definitions: dg.Definitions) -> Iterator[str]:
    for asset in _assets(definitions):
        if asset.is_executable:
            for op in _ops(asset.node_def.name, asset.node_def):
                yield from step_names(op, asset.keys, asset.check_keys)
    for job in _jobs(definitions):
        for node in job.nodes:
            yield from _ops(node.name, node.definition)


def _ops(name: str, node: NodeDefinition) -> Iterator[str]:
    if not isinstance(node, dg.GraphDefinition):
        yield name
        return
    for inner in node.nodes:
        yield from _ops(f"{name}.{inner.name}", inner.definition)


def _jobs(definitions: dg.Definitions) -> Iterator[dg.JobDefinition]:
    """Return the op jobs, including those that only a schedule or a sensor targets."""
    targets = [each.target for each in definitions.schedules or () if isinstance(each, dg.ScheduleDefinition)]
    for sensor in definitions.sensors or ():
        targets += sensor.targets
    for job in (*(definitions.jobs or ()), *(target.resolvable_to_job for target in targets)):
        if isinstance(job, dg.JobDefinition):
            yield job


def _specs(definitions: dg.Definitions) -> Iterator[tuple[str, ContainerSpec, str | None]]:
    """Yield each declared placement: name, container spec, and key of the image asset."""
    for asset in _assets(definitions):
        if asset.is_executable:
            spec = ContainerSpec.from_tags(asset.node_def.tags)
            image = placed_image(spec, asset)
            name = ", ".join(sorted(key.to_user_string() for key in asset.keys or asset.check_keys))
            yield name, spec, image.to_user_string() if image else None
    for job in definitions.jobs or ():
        if isinstance(job, dg.JobDefinition):
            for node in job.all_node_defs:
                spec = ContainerSpec.from_tags(node.tags)
                yield f"op {node.name} of job {job.name}", spec, spec.image


def _assets(definitions: dg.Definitions) -> list[dg.AssetsDefinition]:
    given = [*(definitions.assets or ()), *(definitions.asset_checks or ())]
    return [each for each in given if isinstance(each, dg.AssetsDefinition)]


def _is_known(image: str, images: set[str]) -> bool:
    return "@" in image or image in images


def _known(pools: Mapping[str, Pool]) -> str:
    return f"pools: {', '.join(sorted(pools))}" if pools else "no pools are defined"
