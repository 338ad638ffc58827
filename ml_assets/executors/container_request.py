"""The container that an engine is asked to start for one launch of a step."""

import base64
import hashlib
import json
import re
import zlib
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets.dagster_internals import ExecuteStepArgs, InstanceRef
from ml_assets.executors.engine import ContainerRequest, container_labels
from ml_assets.placement import Placement

if TYPE_CHECKING:
    from ml_assets.dagster_internals import ExecutionStep, KnownExecutionState, PlanOrchestrationContext
    from ml_assets.executors.launch import ContainerExecutor

__all__ = ["BUILDS_LABEL", "container_name", "packed", "request_of", "unpacked"]

BUILDS_LABEL = "ml-assets/builds"
"""On containers that make images, and so have to reach BuildKit."""

_LABEL_LENGTH = 63
_MONITORING, _POSTGRES = "run_monitoring", "dagster_postgres"


def container_name(run_id: str, step_key: str, number: int) -> str:
    """Name of the container of one launch: readable, and the same for whoever asks."""
    digest = hashlib.sha256(f"{run_id} {step_key}".encode()).hexdigest()[:12]
    readable = re.sub(r"[^a-z0-9]+", "-", step_key.lower()).strip("-")[:36].rstrip("-")
    return f"step-{readable}-{digest}-{number}"


def request_of(
    executor: "ContainerExecutor",
    context: "PlanOrchestrationContext",
    step: "ExecutionStep",
    placement: Placement,
    known_state: "KnownExecutionState",
    name: str,
) -> ContainerRequest:
    """Return the request for the container of one launch of a step."""
    run = context.dagster_run
    arguments = ExecuteStepArgs(
        job_origin=context.reconstructable_job.get_python_origin(),
        run_id=run.run_id,
        step_keys_to_execute=[step.key],
        instance_ref=_for_steps(context.instance.get_ref()),
        retry_mode=executor.retries.for_inner_plan(),
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
        name=name,
        image=placement.image,
        command=("python", "-m", "ml_assets.executors.step", packed(arguments), placement.model_dump_json()),
        placement=placement,
        pool=executor.rules.pool(placement.pool),
        labels={**container_labels(run.run_id), **{key: _label(value) for key, value in facts.items() if value}},
        annotations={key: value for key, value in facts.items() if value},
        variables=executor.variables,
    )


def _for_steps(instance: InstanceRef) -> InstanceRef:
    """The instance without what takes time and steps have no use for.

    Run monitoring would have every step make a run launcher, seconds of imports; three storages would each look whether
    their tables are there.
    """
    settings = {key: value for key, value in instance.settings.items() if key != _MONITORING}
    storage = instance.storage_data
    if storage is not None and storage.module_name == _POSTGRES:
        config = {**storage.config_dict, "should_autocreate_tables": False}
        storage = storage._replace(config_yaml=json.dumps(config))
    return instance._replace(settings=settings, storage_data=storage)


def packed(arguments: ExecuteStepArgs) -> str:
    """Arguments of a step's process, for its command line."""
    return base64.b64encode(zlib.compress(dg.serialize_value(arguments).encode())).decode()


def unpacked(text: str) -> str:
    """What `packed` was given, serialized."""
    return zlib.decompress(base64.b64decode(text)).decode()


def _assets_of(step: "ExecutionStep") -> list[str]:
    properties: list[Any] = [output.properties for output in step.step_outputs]
    names = [each.asset_key.to_user_string() for each in properties if each.asset_key is not None]
    checks = [each.asset_check_key for each in properties if each.asset_check_key is not None]
    return names or [f"{check.asset_key.to_user_string()}:{check.name}" for check in checks]


def _label(value: str) -> str:
    """A value as Kubernetes takes it for labels: cut, and without the characters that it refuses."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", value)[:_LABEL_LENGTH].strip("_.-")
