"""All names that the project uses from Dagster's private modules, and the behavior that it relies on.

Dagster may change these without notice. A name is loaded when it is first imported from here, so importing this module
is cheap, and each caller loads only what it uses. Nothing else imports ``dagster._…`` or ``dagster_shared``
(ruff's TID251); ``tests/ml_assets/test_dagster_internals.py`` has a contract test for each name.
Use a public name (``dagster.X``) if one exists.
"""

import copy
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from dagster import AssetsDefinition, OpDefinition
    from dagster._cli.api import _execute_step_command_body as execute_step
    from dagster._cli.utils import get_instance_for_cli
    from dagster._core.code_pointer import CodePointer, FileCodePointer
    from dagster._core.definitions.assets.definition.assets_definition import stringify_asset_key_to_input_name
    from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
    from dagster._core.definitions.data_version import (
        DATA_VERSION_TAG,
        CachingStaleStatusResolver,
        StaleStatus,
        extract_data_version_from_entry,
        get_input_data_version_tag,
        get_input_event_pointer_tag,
    )
    from dagster._core.definitions.declarative_automation.serialized_objects import get_expanded_label
    from dagster._core.definitions.node_definition import NodeDefinition
    from dagster._core.definitions.reconstruct import repository_def_from_target_def
    from dagster._core.definitions.run_request import InstigatorType
    from dagster._core.event_api import EventLogCursor
    from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS, EngineEventData
    from dagster._core.execution.context.compute import current_execution_context
    from dagster._core.execution.context.system import IStepContext, PlanOrchestrationContext
    from dagster._core.execution.plan.active import ActiveExecution
    from dagster._core.execution.plan.objects import ErrorSource, StepFailureData, UserFailureData
    from dagster._core.execution.plan.outputs import StepOutputHandle
    from dagster._core.execution.plan.plan import ExecutionPlan
    from dagster._core.execution.plan.state import KnownExecutionState
    from dagster._core.execution.plan.step import ExecutionStep, IExecutionStep
    from dagster._core.execution.retries import RetryMode, get_retries_config
    from dagster._core.execution.stats import StepEventStatus
    from dagster._core.execution.tags import get_tag_concurrency_limits_config
    from dagster._core.instance.config import PoolGranularity
    from dagster._core.instance.ref import InstanceRef
    from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
    from dagster._core.loader import LoadingContext
    from dagster._core.origin import JobPythonOrigin
    from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin
    from dagster._core.scheduler.instigation import InstigatorState, InstigatorTick, TickStatus
    from dagster._core.storage.cloud_storage_compute_log_manager import CloudStorageComputeLogManager
    from dagster._core.storage.compute_log_manager import ComputeIOType
    from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
    from dagster._core.storage.event_log import SqlEventLogStorage
    from dagster._core.storage.event_log.schema import AssetKeyTable, SqlEventLogStorageTable
    from dagster._core.storage.local_compute_log_manager import IO_TYPE_EXTENSION, LocalComputeLogManager
    from dagster._core.storage.runs import SqlRunStorage
    from dagster._core.storage.tags import (
        ASSET_EVALUATION_ID_TAG,
        AUTOMATION_CONDITION_TAG,
        BACKFILL_ID_TAG,
        MAX_RETRIES_TAG,
        PARENT_RUN_ID_TAG,
        PRIORITY_TAG,
        REPOSITORY_LABEL_TAG,
        RETRY_NUMBER_TAG,
        SCHEDULE_NAME_TAG,
        SCHEDULED_EXECUTION_TIME_TAG,
        SENSOR_NAME_TAG,
        TICK_ID_TAG,
        USER_TAG,
    )
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
    from dagster._core.workspace.load import location_origins_from_yaml_paths
    from dagster._core.workspace.load_target import get_target_from_toml_data
    from dagster._grpc.types import ExecuteStepArgs
    from dagster._grpc.utils import get_loadable_targets
    from dagster._utils.hosted_user_process import recon_job_from_origin
    from dagster._utils.interrupts import capture_interrupts, check_captured_interrupt
    from dagster._utils.tags import TagConcurrencyLimitsCounter
    from dagster_shared.error import SerializableErrorInfo
    from dagster_shared.serdes.errors import DeserializationError

__all__ = [
    "ASSET_CHECK_EVENTS",
    "ASSET_EVALUATION_ID_TAG",
    "ASSET_EVENTS",
    "AUTOMATION_CONDITION_TAG",
    "BACKFILL_ID_TAG",
    "DATA_VERSION_TAG",
    "IO_TYPE_EXTENSION",
    "MAX_RETRIES_TAG",
    "NOT_FINISHED_STATUSES",
    "PARENT_RUN_ID_TAG",
    "PRIORITY_TAG",
    "REPOSITORY_LABEL_TAG",
    "RETRY_NUMBER_TAG",
    "SCHEDULED_EXECUTION_TIME_TAG",
    "SCHEDULE_NAME_TAG",
    "SENSOR_NAME_TAG",
    "STEP_PROCESS_MODULES",
    "TICK_ID_TAG",
    "USER_TAG",
    "ActiveExecution",
    "AssetKeyTable",
    "BaseAssetGraph",
    "CachingStaleStatusResolver",
    "CheckRunHealthResult",
    "CloudStorageComputeLogManager",
    "CodePointer",
    "ComputeIOType",
    "DeserializationError",
    "EngineEventData",
    "ErrorSource",
    "EventLogCursor",
    "ExecuteStepArgs",
    "ExecutionPlan",
    "ExecutionStep",
    "FileCodePointer",
    "GrpcServerCodeLocationOrigin",
    "IExecutionStep",
    "IStepContext",
    "InstanceRef",
    "InstigatorState",
    "InstigatorTick",
    "InstigatorType",
    "JobPythonOrigin",
    "KnownExecutionState",
    "LoadableTargetOrigin",
    "LoadingContext",
    "LocalComputeLogManager",
    "NodeDefinition",
    "PlanOrchestrationContext",
    "PoolGranularity",
    "RemoteJobOrigin",
    "RetryMode",
    "SerializableErrorInfo",
    "SqlEventLogStorage",
    "SqlEventLogStorageTable",
    "SqlRunStorage",
    "StaleStatus",
    "StepEventStatus",
    "StepFailureData",
    "StepOutputHandle",
    "TagConcurrencyLimitsCounter",
    "TickStatus",
    "UserFailureData",
    "WorkerStatus",
    "asset_with",
    "capture_interrupts",
    "check_captured_interrupt",
    "current_execution_context",
    "database_of",
    "execute_step",
    "extract_data_version_from_entry",
    "forget_outputs",
    "get_expanded_label",
    "get_input_data_version_tag",
    "get_input_event_pointer_tag",
    "get_instance_for_cli",
    "get_loadable_targets",
    "get_retries_config",
    "get_tag_concurrency_limits_config",
    "get_target_from_toml_data",
    "location_origins_from_yaml_paths",
    "op_with",
    "recon_job_from_origin",
    "record_with",
    "repository_def_from_target_def",
    "stringify_asset_key_to_input_name",
]

_Record = TypeVar("_Record")

_EXECUTION = {
    # State of the executor's loop: steps that are ready, waiting or done. A replayed run adds its finished steps.
    "ActiveExecution": "dagster._core.execution.plan.active",
    # The steps of a run. Overrides that match no step are reported.
    "ExecutionPlan": "dagster._core.execution.plan.plan",
    # A step that can be launched: `key`, `tags`, `pool`, `node_handle`, `step_outputs`.
    "ExecutionStep": "dagster._core.execution.plan.step",
    # Any step of a plan, including one whose mapping is not known yet: `node_handle`, `step_outputs`.
    "IExecutionStep": "dagster._core.execution.plan.step",
    # Context in which the executor writes a step's events: `step`, `op_retry_policy`, `retry_mode`.
    "IStepContext": "dagster._core.execution.context.system",
    # Argument of an executor: `instance`, `dagster_run`, `job`, `plan_data`, `resume_from_failure`, `for_step`.
    "PlanOrchestrationContext": "dagster._core.execution.context.system",
    # Outcomes of earlier steps, sent to a step's container: `get_retry_state`.
    "KnownExecutionState": "dagster._core.execution.plan.state",
    # `retries` in the executor's config: from_config, ENABLED, and the mode that a step gets (for_inner_plan).
    "RetryMode": "dagster._core.execution.retries",
    # Config field `retries`, as Dagster's own executors have it.
    "get_retries_config": "dagster._core.execution.retries",
    # Config field `tag_concurrency_limits`, as Dagster's own executors have it.
    "get_tag_concurrency_limits_config": "dagster._core.execution.tags",
    # Counts running steps against `tag_concurrency_limits`.
    "TagConcurrencyLimitsCounter": "dagster._utils.tags",
    # Converts signals to flags that the loop polls, so that it ends between two rounds.
    "capture_interrupts": "dagster._utils.interrupts",
    # Such a flag, read while waiting for a database.
    "check_captured_interrupt": "dagster._utils.interrupts",
    # Command to run one step, serialized into its container's arguments.
    "ExecuteStepArgs": "dagster._grpc.types",
    # Runs that command, as `dagster api execute_step` does after it has opened the instance.
    "execute_step": "dagster._cli.api:_execute_step_command_body",
    # Opens the instance in a step's process, as Dagster's own commands do.
    "get_instance_for_cli": "dagster._cli.utils",
    # Serialized instance that a container opens: its `settings` and `storage_data` are replaced for steps.
    "InstanceRef": "dagster._core.instance.ref",
    # The running step, for code called by a user's function that takes no context.
    "current_execution_context": "dagster._core.execution.context.compute",
    # Names the output whose I/O manager is requested.
    "StepOutputHandle": "dagster._core.execution.plan.outputs",
    # Tells if a pool limits steps or whole runs.
    "PoolGranularity": "dagster._core.instance.config",
    # Return value of a run launcher's `check_run_worker_health`.
    "CheckRunHealthResult": "dagster._core.launcher.base",
    # A worker that ended with SUCCESS while its run continues is reported as FAILED.
    "WorkerStatus": "dagster._core.launcher.base",
}

_EVENTS = {
    # Events that Dagster also stores by asset; they are stored there again after an outage.
    "ASSET_EVENTS": "dagster._core.events",
    # Events that Dagster also stores by check; they are stored there again after an outage.
    "ASSET_CHECK_EVENTS": "dagster._core.events",
    # Metadata and error of an engine event.
    "EngineEventData": "dagster._core.events",
    # INTERRUPT distinguishes a step that was ended from one that failed.
    "ErrorSource": "dagster._core.execution.plan.objects",
    # The error that a failed step shows.
    "StepFailureData": "dagster._core.execution.plan.objects",
    # Label, description and metadata that show a failure's cause and hint.
    "UserFailureData": "dagster._core.execution.plan.objects",
    # Serializable form of an error in events and ticks.
    "SerializableErrorInfo": "dagster_shared.error",
    # Raised if an event of the log cannot be read.
    "DeserializationError": "dagster_shared.serdes.errors",
    # Position in a run's event log, created from a storage id.
    "EventLogCursor": "dagster._core.event_api",
    # FAILURE and SUCCESS: the steps of a run that have ended.
    "StepEventStatus": "dagster._core.execution.stats",
}

_STORAGE = {
    # An event log in a database. Lineage and usage read it with SQL through `index_connection`.
    "SqlEventLogStorage": "dagster._core.storage.event_log",
    # Table of events: the columns that lineage and usage read.
    "SqlEventLogStorageTable": "dagster._core.storage.event_log.schema",
    # Table of assets, which records wipes.
    "AssetKeyTable": "dagster._core.storage.event_log.schema",
    # Run storage in a database; operations wait for it during an outage.
    "SqlRunStorage": "dagster._core.storage.runs",
    # Statuses of runs that may still read or write.
    "NOT_FINISHED_STATUSES": "dagster._core.storage.dagster_run",
    # Log manager that uploads the log of a killed step.
    "CloudStorageComputeLogManager": "dagster._core.storage.cloud_storage_compute_log_manager",
    # STDOUT and STDERR of a step's log.
    "ComputeIOType": "dagster._core.storage.compute_log_manager",
    # File name extension of either.
    "IO_TYPE_EXTENSION": "dagster._core.storage.local_compute_log_manager",
    # Log manager that knows the path of a captured log.
    "LocalComputeLogManager": "dagster._core.storage.local_compute_log_manager",
}

_VERSIONS = {
    # Tag of an event: the data version, that is, the content digest.
    "DATA_VERSION_TAG": "dagster._core.definitions.data_version",
    # Data version of an event of any kind.
    "extract_data_version_from_entry": "dagster._core.definitions.data_version",
    # Tag of a materialization: the version of an input that it read.
    "get_input_data_version_tag": "dagster._core.definitions.data_version",
    # Tag of a materialization: the event of an input that it read.
    "get_input_event_pointer_tag": "dagster._core.definitions.data_version",
    # Computes the stale status of assets and its causes.
    "CachingStaleStatusResolver": "dagster._core.definitions.data_version",
    # FRESH, STALE and MISSING, the values of that status.
    "StaleStatus": "dagster._core.definitions.data_version",
    # Base of the object that owns that computation's caches: `instance`, `loaders`.
    "LoadingContext": "dagster._core.loader",
}

_CODE = {
    # Type of a repository's asset graph.
    "BaseAssetGraph": "dagster._core.definitions.assets.graph.base_asset_graph",
    # Op or graph of a job; placements by name are validated against both.
    "NodeDefinition": "dagster._core.definitions.node_definition",
    # Name of the input by which an asset depends on another without reading it.
    "stringify_asset_key_to_input_name": "dagster._core.definitions.assets.definition.assets_definition",
    # Text of an automation condition in an evaluation.
    "get_expanded_label": "dagster._core.definitions.declarative_automation.serialized_objects",
    # Finds definitions in a file or module, as the code server does.
    "get_loadable_targets": "dagster._grpc.utils",
    # Place of definitions: a module, a file or a package, with its working directory.
    "LoadableTargetOrigin": "dagster._core.types.loadable_target_origin",
    # A code location that only a server knows, so that commands cannot load its code.
    "GrpcServerCodeLocationOrigin": "dagster._core.remote_origin",
    # Code locations that workspace.yaml names.
    "location_origins_from_yaml_paths": "dagster._core.workspace.load",
    # Code locations that [tool.dagster] or [tool.dg.project] of pyproject.toml names.
    "get_target_from_toml_data": "dagster._core.workspace.load_target",
    # Repository of the definitions that were found.
    "repository_def_from_target_def": "dagster._core.definitions.reconstruct",
    # Reconstructs the job of a run.
    "recon_job_from_origin": "dagster._utils.hosted_user_process",
    # Location of a job's code: from_python_file, from_module, load_target.
    "CodePointer": "dagster._core.code_pointer",
    # Code that was loaded from a file; reproduction moves its path into another checkout.
    "FileCodePointer": "dagster._core.code_pointer",
    # Code of a job that is launched, and its repository.
    "JobPythonOrigin": "dagster._core.origin",
    # Location of a job that is launched, and its repository.
    "RemoteJobOrigin": "dagster._core.remote_origin",
}

_AUTOMATION = {
    # SCHEDULE: the instigators of alerts and metrics.
    "InstigatorType": "dagster._core.definitions.run_request",
    # A schedule: `instigator_name`, `instigator_origin_id`, `selector_id`.
    "InstigatorState": "dagster._core.scheduler.instigation",
    # A tick: `error`, `timestamp`.
    "InstigatorTick": "dagster._core.scheduler.instigation",
    # FAILURE: the ticks for which alerts are sent.
    "TickStatus": "dagster._core.scheduler.instigation",
}

_TAGS = dict.fromkeys(
    (
        "ASSET_EVALUATION_ID_TAG",  # evaluation of the automation condition that launched a run
        "AUTOMATION_CONDITION_TAG",  # run launched by an automation condition
        "BACKFILL_ID_TAG",  # backfill that launched a run
        "MAX_RETRIES_TAG",  # keeps a reproduction from being retried as a whole
        "PARENT_RUN_ID_TAG",  # run that a run re-executes
        "PRIORITY_TAG",  # order in which steps get slots of a pool
        "REPOSITORY_LABEL_TAG",  # code location of a run, by which queues and the web UI find it
        "RETRY_NUMBER_TAG",  # retry number of a run
        "SCHEDULED_EXECUTION_TIME_TAG",  # time of the tick that launched a scheduled run
        "SCHEDULE_NAME_TAG",  # schedule that launched a run
        "SENSOR_NAME_TAG",  # sensor that launched a run
        "TICK_ID_TAG",  # tick that launched a run
        "USER_TAG",  # person who launched a run
    ),
    "dagster._core.storage.tags",
)

STEP_PROCESS_MODULES = ("dagster._cli", "dagster._core.storage.sqlite_storage")
"""Modules that every process of the multiprocess executor imports: its main program, and the local storage."""

_PLACES: dict[str, str] = _EXECUTION | _EVENTS | _STORAGE | _VERSIONS | _CODE | _AUTOMATION | _TAGS

if not TYPE_CHECKING:  # A type checker uses the imports above, and reports names that are not among them.

    def __getattr__(name: str) -> object:
        """Load a name on first use."""
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, _, own = _PLACES[name].partition(":")
        value = globals()[name] = getattr(import_module(module), own or name)
        return value


def asset_with(definition: "AssetsDefinition", attributes: Mapping[str, Any]) -> "AssetsDefinition":
    """Return the asset with some attributes replaced. No public method can replace its op and its dependencies."""
    return type(definition).dagster_internal_init(**{**definition.get_attributes_dict(), **attributes})


def op_with(op: "OpDefinition", tags: Mapping[str, str], pool: str | None) -> "OpDefinition":
    """Return the op with more tags and another pool, which no public method can set later."""
    changed = copy.copy(op)
    changed._tags = {**op.tags, **tags}
    changed._pool = pool or op.pool
    return changed


def record_with(record: _Record, **changes: Any) -> _Record:
    """Return one of Dagster's records, such as an automation condition, with some fields replaced."""
    from dagster_shared.record import copy as copied

    return copied(record, **changes)


def database_of(storage: object) -> object:
    """Return the SQLAlchemy engine of an event log or a run storage; None if it holds none open."""
    return getattr(storage, "_engine", None)


def forget_outputs(active: "ActiveExecution", step: "ExecutionStep") -> None:
    """Drop the outputs of a launch that was given up, because the next launch yields them again."""
    active._prep_for_dynamic_outputs(step)
    active._step_outputs = {output for output in active._step_outputs if output.step_key != step.key}
