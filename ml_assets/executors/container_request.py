"""The request to an engine to start the container of a step's launch."""

import base64
import json
import re
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets.dagster_internals import ExecuteStepArgs, InstanceRef, RetryMode
from ml_assets.executors.engine import ContainerRequest, container_labels
from ml_assets.executors.launches import ContainerLaunch
from ml_assets.executors.placement import PlacementRules

if TYPE_CHECKING:
    from ml_assets.dagster_internals import ExecutionStep, KnownExecutionState, PlanOrchestrationContext

__all__ = ["BUILDS_LABEL", "packed", "request_of", "unpacked"]

BUILDS_LABEL = "ml-assets/builds"
"""Label of containers that build images and need BuildKit."""

_LABEL_LENGTH = 63
_MONITORING, _POSTGRES = "run_monitoring", "dagster_postgres"


def request_of(
    launch: ContainerLaunch,
    known_state: "KnownExecutionState",
    *,
    context: "PlanOrchestrationContext",
    rules: PlacementRules,
    retries: RetryMode,
    variables: Mapping[str, str],
) -> ContainerRequest:
    """Return the request for the container of a launch.

    Args:
        launch: the launch, with its placement.
        known_state: attempts and outputs of the run so far.
        context: the run.
        rules: define the pool.
        retries: whether retry policies apply.
        variables: environment variables of the container.
    """
    step, placement = launch.step, launch.placement
    run = context.dagster_run
    arguments = ExecuteStepArgs(
        job_origin=context.reconstructable_job.get_python_origin(),
        run_id=run.run_id,
        step_keys_to_execute=[step.key],
        instance_ref=_for_steps(context.instance.get_ref()),
        retry_mode=retries.for_inner_plan(),
        known_state=known_state,
        should_verify_step=False,
        print_serialized_events=False,
    )
    facts = {
        "ml-assets/asset": ",".join(_assets_of(step)) or step.key,
        "ml-assets/partition": run.tags.get("dagster/partition", ""),
        "ml-assets/step": step.key,
        "ml-assets/job": run.job_name,
        "ml-assets/pool": placement.pool,
        "ml-assets/launch": str(placement.number),
        "ml-assets/attempt": str(known_state.get_retry_state().get_attempt_count(step.key)),
        BUILDS_LABEL: "true" if placement.builds else "",
    }
    return ContainerRequest(
        name=launch.name,
        image=placement.image,
        command=("python", "-m", "ml_assets.executors.step", packed(arguments), placement.model_dump_json()),
        placement=placement,
        pool=rules.pool(placement.pool),
        labels={**container_labels(run.run_id), **{key: _label(value) for key, value in facts.items() if value}},
        annotations={key: value for key, value in facts.items() if value},
        variables=variables,
    )


def _for_steps(instance: InstanceRef) -> InstanceRef:
    """Return the instance without slow components that steps do not need.

    With run monitoring every step would create a run launcher, which takes seconds of imports. Each of the three
    storages would check that its tables exist.
    """
    settings = {key: value for key, value in instance.settings.items() if key != _MONITORING}
    storage = instance.storage_data
    if storage is not None and storage.module_name == _POSTGRES:
        config = {**storage.config_dict, "should_autocreate_tables": False}
        storage = storage._replace(config_yaml=json.dumps(config))
    return instance._replace(settings=settings, storage_data=storage)


def packed(arguments: ExecuteStepArgs) -> str:
    """Return the arguments of a step's process, for its command line."""
    return base64.b64encode(zlib.compress(dg.serialize_value(arguments).encode())).decode()


def unpacked(text: str) -> str:
    """Return the serialized argument of `packed`."""
    return zlib.decompress(base64.b64decode(text)).decode()


def _assets_of(step: "ExecutionStep") -> list[str]:
    properties: list[Any] = [output.properties for output in step.step_outputs]
    names = [each.asset_key.to_user_string() for each in properties if each.asset_key is not None]
    checks = [each.asset_check_key for each in properties if each.asset_check_key is not None]
    return names or [f"{check.asset_key.to_user_string()}:{check.name}" for check in checks]


def _label(value: str) -> str:
    """Return a value as a valid Kubernetes label: truncated, and without invalid characters."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", value)[:_LABEL_LENGTH].strip("_.-")
