"""The rules that place a step. Settings override its definition, and the run's overrides override settings."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import ValidationError

from ml_assets.containers import IMAGES_GROUP, ContainerSpec, placed_image
from ml_assets.executors.run_images import image_record
from ml_assets.placement import Placement, pool_resources
from ml_assets.resources.errors import PlacementError
from ml_assets.resources.identity import ImageReference
from ml_assets.resources.pools import Override, Pool
from ml_assets.resources.provenance import OVERRIDES_TAG
from ml_assets.resources.sections import ContainerSettings
from ml_assets.resources.suggestion import suggestion

if TYPE_CHECKING:
    from ml_assets.dagster_internals import ExecutionPlan, ExecutionStep, IExecutionStep

__all__ = [
    "EVERY_STEP",
    "PlacementRules",
    "RunPlacements",
    "parse_overrides",
    "step_names",
]

EVERY_STEP = "*"
"""Key of an override that applies to all steps of the run."""


@dataclass(frozen=True)
class PlacementRules:
    """The placement rules of the settings."""

    containers: ContainerSettings
    pools: Mapping[str, Pool]
    overrides: Mapping[str, Override] = field(default_factory=dict)
    registries: Collection[str] = ()
    """Registries from which a run's own overrides may take images by reference."""

    def pool(self, name: str, asset: str | None = None) -> Pool:
        """Return the pool with a name.

        Raises:
            PlacementError: it does not exist.
        """
        if name not in self.pools:
            known = ", ".join(sorted(self.pools)) or "none"
            raise PlacementError(
                f"pool {name!r} does not exist", next_step=f"name a pool of settings.toml: {known}", asset=asset
            )
        return self.pools[name]


class RunPlacements:
    """The placements of one run's steps.

    Args:
        rules: placement rules of the settings.
        job: the run's job, as the code location defines it.
        instance: holds the records of the images that were made.
        run: its tags may carry overrides.
        overrides: the overrides of the executor's config, which take precedence over those of the tags.

    Raises:
        PlacementError: the overrides in the run's tag are malformed.
    """

    def __init__(
        self,
        rules: PlacementRules,
        job: dg.JobDefinition,
        instance: dg.DagsterInstance,
        run: dg.DagsterRun,
        overrides: Mapping[str, Override],
    ) -> None:
        self.rules, self._job, self._instance, self._run = rules, job, instance, run
        self._layers = (rules.overrides, _overrides_of_tag(run.tags.get(OVERRIDES_TAG, "{}")), overrides)

    def place(self, step: "ExecutionStep") -> Placement:
        """Return the placement of a step's first launch.

        Raises:
            PlacementError: the step has no image or no pool, the pool does not exist, the image was never built, or the
                run takes it from a registry that the settings do not allow.
        """
        subject = _Subject.of(step, self._job)
        over = self._override(subject)
        pool_name = over.pool or subject.pool(self.rules.containers)
        if pool_name is None:
            raise PlacementError(
                "the step has no pool",
                next_step="pass pool= to its definition, or set pool in [containers] of settings.toml",
                asset=subject.name,
            )
        pool = self.rules.pool(pool_name, subject.name)
        image = self._image(over.image or subject.image(self.rules.containers), subject.name)
        return Placement(
            step=step.key,
            pool=pool_name,
            builds=subject.is_image,
            code_versions=subject.code_versions if "image_asset" in image else {},
            **image,
            run_seconds=self.rules.containers.check_seconds if subject.is_check else pool.run_seconds,
            override=over,
            **pool_resources(pool, over),
        )

    def unmatched(self, plan: "ExecutionPlan") -> dict[str, str]:
        """Return the run's own overrides that match no step, each with a `suggestion`."""
        names = {name for step in plan.steps for name in _names_of(step) if "[" not in name}
        said = {key: key.partition("[")[0] for layer in self._layers[1:] for key in layer if key != EVERY_STEP}
        return {key: suggestion(key, names) for key, name in said.items() if name not in names}

    def _override(self, subject: "_Subject") -> Override:
        said: dict[str, Any] = {}
        for layer in self._layers:
            for key in (EVERY_STEP, *subject.names):
                if key in layer:
                    said |= layer[key].model_dump(exclude_none=True)
                    if layer is not self.rules.overrides:
                        self._check_registry(layer[key].image, subject.name)
        return Override(**said)

    def _check_registry(self, image: str | None, asset: str) -> None:
        """Refuse an image of a foreign registry: its code would run with the credentials of the target's steps."""
        if image is None or "@" not in image:
            return
        registry = _reference(image, asset).registry
        if registry not in self.rules.registries:
            allowed = ", ".join(sorted(self.rules.registries)) or "none"
            raise PlacementError(
                f"the run takes its image from the registry {registry}, which the settings do not allow ({allowed})",
                next_step="name an image of an allowed registry, or add the registry to override_registries in "
                "[containers] of settings.toml",
                asset=asset,
            )

    def _image(self, said: str | None, asset: str) -> dict[str, Any]:
        if said is None:
            raise PlacementError(
                "the step has no image",
                next_step="pass image= to its definition, or set image in [containers] of settings.toml",
                asset=asset,
            )
        if "@" in said:
            return {"image": str(_reference(said, asset))}
        record = image_record(self._instance, self._run, said)
        if record is None or record.made_image is None:
            happened = "was materialized without a container engine" if record else "has never been materialized"
            raise PlacementError(
                f"the image {said} {happened}",
                next_step=f"materialize {said}, or run ml-assets images bootstrap {said.rsplit('/', 1)[-1]}",
                asset=asset,
            )
        return {
            "image": record.made_image,
            "image_asset": said,
            "index_digest": record.made_index_digest,
            "environment_digest": record.data_version,
        }


def _reference(said: str, asset: str) -> ImageReference:
    try:
        return ImageReference.parse(said)
    except ValueError as error:
        raise PlacementError(
            f"the image reference is malformed: {error}",
            next_step="name an image asset, or write the image as registry/repository@sha256:…",
            asset=asset,
        ) from error


@dataclass(frozen=True)
class _Subject:
    """The assets or checks that a step computes, and the placement in its definition."""

    name: str
    names: Sequence[str]
    """All names that an override may use, the most general first."""
    spec: ContainerSpec
    spec_image: str | None
    is_check: bool
    is_image: bool
    code_versions: dict[str, str]

    def image(self, containers: ContainerSettings) -> str | None:
        return self.spec_image or (containers.builder_image if self.is_image else containers.image)

    def pool(self, containers: ContainerSettings) -> str | None:
        return self.spec.pool or containers.pool

    @classmethod
    def of(cls, step: "ExecutionStep", job: dg.JobDefinition) -> "_Subject":
        properties = [output.properties for output in step.step_outputs]
        keys = [each.asset_key for each in properties if each.asset_key is not None]
        checks = [each.asset_check_key for each in properties if each.asset_check_key is not None]
        spec, image = _spec_of(step, job)
        if not keys and checks and image is None:  # A check runs in its asset's image.
            image = _image_of(checks[0].asset_key, job)
        graph = job.asset_layer.asset_graph
        versions = {key.to_user_string(): graph.get(key).code_version for key in keys}
        _, *things = step_names(step.key, keys, checks)
        return cls(
            name=things[0] if things else step.key,
            names=_names_of(step),
            spec=spec,
            spec_image=image,
            is_check=bool(checks) and not keys,
            is_image=any(graph.get(key).group_name == IMAGES_GROUP for key in keys),
            code_versions={name: version for name, version in versions.items() if version},
        )


def step_names(op: str, assets: Iterable[dg.AssetKey], checks: Iterable[dg.AssetCheckKey]) -> list[str]:
    """Return the names by which overrides may refer to a step, the most general first.

    Args:
        op: its op, with its graphs: ``graph.op``.
        assets: assets that it makes; their keys are names.
        checks: checks that it evaluates; ``asset:check`` is a name.
    """
    made = [key.to_user_string() for key in assets]
    return [op, *made, *(f"{check.asset_key.to_user_string()}:{check.name}" for check in checks)]


def _names_of(step: "IExecutionStep") -> list[str]:
    properties = [output.properties for output in step.step_outputs]
    op, *things = step_names(
        str(step.node_handle),
        [each.asset_key for each in properties if each.asset_key is not None],
        [each.asset_check_key for each in properties if each.asset_check_key is not None],
    )
    # A dynamic output is mapped to several steps; each has its own key: op[key].
    return list(dict.fromkeys([op, step.key, *things]))


def _spec_of(step: "ExecutionStep", job: dg.JobDefinition) -> tuple[ContainerSpec, str | None]:
    spec = ContainerSpec.from_tags(step.tags)
    assets = job.asset_layer.get_assets_def_for_node(step.node_handle)
    if assets is None:
        return spec, spec.image
    key = placed_image(spec, assets)
    return spec, key.to_user_string() if key else None


def _image_of(key: dg.AssetKey, job: dg.JobDefinition) -> str | None:
    graph = job.asset_layer.asset_graph
    if not graph.has(key) or not graph.get(key).is_materializable:
        return None
    assets = graph.assets_def_for_key(key)
    spec = ContainerSpec.from_tags(assets.op.tags)
    image = placed_image(spec, assets)
    return image.to_user_string() if image else None


def parse_overrides(tree: Any) -> dict[str, Override]:
    """Return the overrides of a run from a mapping of asset key, check, op or ``*`` to `Override`.

    Raises:
        PlacementError: the mapping is malformed.
    """
    try:
        return {name: Override.model_validate(said) for name, said in dict(tree).items()}
    except (ValueError, TypeError) as error:
        errors = error.errors() if isinstance(error, ValidationError) else [{"loc": ("overrides",), "msg": str(error)}]
        problems = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in errors)
        raise PlacementError(
            f"the run's overrides are malformed: {problems}",
            next_step='write them as {"delay_model": {"pool": "gpu", "memory": "8Gi"}}',
        ) from error


def _overrides_of_tag(text: str) -> dict[str, Override]:
    try:
        return parse_overrides(json.loads(text))
    except json.JSONDecodeError as error:
        raise PlacementError(
            f"the run's tag {OVERRIDES_TAG} is not JSON: {error}",
            next_step='write it as {"delay_model": {"pool": "gpu", "memory": "8Gi"}}',
        ) from error
