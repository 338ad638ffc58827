"""Contract with Dagster: each private name that `ml_assets.dagster_internals` provides, and methods of public classes.

If one of these tests fails with a new version of Dagster, first read what has changed there. The tests of Dagster's
tables, on which lineage relies, are in `lineage/index/test_dagster_contract`.
"""

import ast
import inspect
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.api import create_execution_plan, execute_run_iterator
from dagster._core.execution.retries import RetryState
from dagster._core.origin import RepositoryPythonOrigin
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.storage.event_log.base import EventLogStorage

from ml_assets import dagster_internals as door

OWN = ("STEP_PROCESS_MODULES", "asset_with", "database_of", "forget_outputs", "op_with", "record_with")
"""Names of the door itself; each is tested below."""

CALLS: list[tuple[Callable[..., Any], tuple[str, ...]]] = [
    (door.ActiveExecution, ("execution_plan", "retry_mode")),
    (door.ActiveExecution.get_steps_to_execute, ()),
    (door.ActiveExecution.get_steps_to_skip, ()),
    (door.ActiveExecution.mark_skipped, ("step_key",)),
    (door.ActiveExecution.mark_up_for_retry, ("step_key", "at_time")),
    (door.ActiveExecution.handle_event, ("dagster_event",)),
    (door.ActiveExecution.plan_events_iterator, ("job_context",)),
    (door.ActiveExecution.check_for_interrupts, ()),
    (door.ActiveExecution.mark_interrupted, ()),
    (door.ActiveExecution.get_known_state, ()),
    (door.CachingStaleStatusResolver, ("instance", "asset_graph", "loading_context")),
    (door.CachingStaleStatusResolver.get_status, ("key", "partition_key")),
    (door.CachingStaleStatusResolver.get_stale_causes, ("key", "partition_key")),
    (door.CheckRunHealthResult, ("status", "msg")),
    (door.CloudStorageComputeLogManager.upload_to_cloud_storage, ("log_key", "io_type")),
    (door.CodePointer.from_python_file, ("python_file", "definition", "working_directory")),
    (door.CodePointer.from_module, ("module_name", "definition", "working_directory")),
    (door.CodePointer.load_target, ()),
    (door.EngineEventData, ("metadata",)),
    (door.EventLogCursor.from_storage_id, ("storage_id",)),
    (door.EventLogCursor.to_string, ()),
    (
        door.ExecuteStepArgs,
        (
            "job_origin",
            "run_id",
            "step_keys_to_execute",
            "instance_ref",
            "retry_mode",
            "known_state",
            "should_verify_step",
            "print_serialized_events",
        ),
    ),
    (door.JobPythonOrigin, ("job_name", "repository_origin")),
    (door.KnownExecutionState.get_retry_state, ()),
    (door.LocalComputeLogManager.get_captured_local_path, ("log_key", "extension")),
    (door.PlanOrchestrationContext.for_step, ("step",)),
    (door.RetryMode.for_inner_plan, ()),
    (door.SerializableErrorInfo, ("message", "stack", "cls_name")),
    (door.SqlEventLogStorage.index_connection, ()),
    (door.StepFailureData, ("error", "user_failure_data", "error_source")),
    (door.StepOutputHandle, ("step_key", "output_name")),
    (door.TagConcurrencyLimitsCounter, ("tag_concurrency_limits", "in_progress_tagged_items")),
    (door.TagConcurrencyLimitsCounter.is_blocked, ("item",)),
    (door.TagConcurrencyLimitsCounter.update_counters_with_launched_item, ("item",)),
    (door.UserFailureData, ("label", "description", "metadata")),
    (door.capture_interrupts, ()),
    (door.check_captured_interrupt, ()),
    (door.execute_step, ("args", "instance", "dagster_run")),
    (door.extract_data_version_from_entry, ("entry",)),
    (door.get_expanded_label, ("item", "use_label")),
    (door.get_input_data_version_tag, ("input_key",)),
    (door.get_input_event_pointer_tag, ("input_key",)),
    (door.get_instance_for_cli, ("instance_ref",)),
    (
        door.get_loadable_targets,
        (
            "python_file",
            "module_name",
            "package_name",
            "autoload_defs_module_name",
            "working_directory",
            "attribute",
            "resolve_lazy_defs",
        ),
    ),
    (door.get_retries_config, ()),
    (door.get_tag_concurrency_limits_config, ()),
    (door.get_target_from_toml_data, ("data",)),
    (door.location_origins_from_yaml_paths, ("yaml_paths",)),
    (door.recon_job_from_origin, ("origin",)),
    (door.repository_def_from_target_def, ("target",)),
    (door.stringify_asset_key_to_input_name, ("asset_key",)),
    (EventLogStorage.store_event, ("event",)),
    (EventLogStorage.store_event_batch, ("events",)),
    (EventLogStorage.default_run_scoped_event_tailer_offset, ()),
    (EventLogStorage.claim_concurrency_slot, ("concurrency_key", "run_id", "step_key", "priority")),
    (EventLogStorage.free_concurrency_slot_for_step, ("run_id", "step_key")),
    (EventLogStorage.initialize_concurrency_limit_to_default, ("concurrency_key",)),
    (EventLogStorage.set_concurrency_slots, ("concurrency_key", "num")),
    (EventLogStorage.get_pool_limits, ()),
    (EventLogStorage.get_pool_config, ()),
    (RetryState.get_attempt_count, ("key",)),
    (dg.DagsterEvent.engine_event, ("plan_context", "message", "event_specific_data")),
    (dg.DagsterEvent.step_concurrency_blocked, ("step_context", "concurrency_key", "initial")),
    (dg.DagsterEvent.step_failure_event, ("step_context", "step_failure_data", "message")),
    (dg.DagsterEvent.step_worker_starting, ("step_context", "message", "metadata")),
    (dg.DagsterInstance.get_records_for_run, ("run_id", "cursor", "of_type", "limit")),
    (dg.DagsterInstance.run_will_resume, ("run_id",)),
    (dg.Executor.log_failure_or_retry_event_after_error, ("step_context", "err_info", "known_state")),
    (dg.multiple_process_executor_requirements, ()),
    (execute_run_iterator, ("job", "dagster_run", "instance", "resume_from_failure")),
]

MEMBERS: Mapping[str, tuple[str, ...]] = {
    "AssetKeyTable": ("c",),
    "BaseAssetGraph": ("get", "has", "asset_nodes", "get_all_asset_keys"),
    "CheckRunHealthResult": ("status",),
    "CloudStorageComputeLogManager": ("local_manager", "build_log_key_for_run"),
    "ComputeIOType": ("STDERR", "STDOUT"),
    "ErrorSource": ("INTERRUPT",),
    "ExecutionPlan": ("steps",),
    "ExecutionStep": ("key", "tags", "pool", "node_handle", "step_outputs"),
    "IExecutionStep": ("node_handle", "step_outputs"),
    "IStepContext": ("step", "op_retry_policy", "retry_mode"),
    "GrpcServerCodeLocationOrigin": ("location_name",),
    "InstanceRef": ("_replace", "settings", "storage_data"),
    "InstigatorState": ("instigator_name", "instigator_origin_id", "selector_id"),
    "InstigatorTick": ("error", "timestamp"),
    "InstigatorType": ("SCHEDULE",),
    "LoadableTargetOrigin": (
        "python_file",
        "module_name",
        "package_name",
        "autoload_defs_module_name",
        "working_directory",
        "attribute",
        "as_dict",
    ),
    "LoadingContext": ("instance", "loaders"),
    "NodeDefinition": ("name",),
    "PlanOrchestrationContext": ("instance", "dagster_run", "job", "plan_data", "resume_from_failure"),
    "PoolGranularity": ("RUN", "OP"),
    "RemoteJobOrigin": ("repository_origin",),
    "RetryMode": ("ENABLED", "disabled", "from_config"),
    "SqlEventLogStorage": ("store_event", "store_asset_event", "store_asset_event_tags", "store_asset_check_event"),
    "SqlRunStorage": ("get_run_records",),
    "StaleStatus": ("FRESH", "STALE", "MISSING"),
    "StepEventStatus": ("FAILURE", "SUCCESS"),
    "TickStatus": ("FAILURE",),
    "WorkerStatus": ("FAILED", "SUCCESS"),
}

TAGS = {
    "ASSET_EVALUATION_ID_TAG": "dagster/asset_evaluation_id",
    "AUTOMATION_CONDITION_TAG": "dagster/from_automation_condition",
    "BACKFILL_ID_TAG": "dagster/backfill",
    "DATA_VERSION_TAG": "dagster/data_version",
    "MAX_RETRIES_TAG": "dagster/max_retries",
    "PARENT_RUN_ID_TAG": "dagster/parent_run_id",
    "PRIORITY_TAG": "dagster/priority",
    "REPOSITORY_LABEL_TAG": ".dagster/repository",
    "RETRY_NUMBER_TAG": "dagster/retry_number",
    "SCHEDULED_EXECUTION_TIME_TAG": ".dagster/scheduled_execution_time",
    "SCHEDULE_NAME_TAG": "dagster/schedule_name",
    "SENSOR_NAME_TAG": "dagster/sensor_name",
    "TICK_ID_TAG": "dagster/tick",
    "USER_TAG": "user",
}
"""Stored runs have these tags, so another name would be another contract."""

TESTED_BELOW = {
    "ASSET_CHECK_EVENTS",
    "ASSET_EVENTS",
    "DeserializationError",
    "FileCodePointer",
    "IO_TYPE_EXTENSION",
    "NOT_FINISHED_STATUSES",
    "SqlEventLogStorageTable",
    "current_execution_context",
}


@pytest.mark.parametrize(("call", "names"), CALLS, ids=[call.__qualname__ for call, _ in CALLS])
def test_call_takes_what_it_is_given_and_needs_no_more(call: Callable[..., Any], names: tuple[str, ...]) -> None:
    parameters = {
        name: each for name, each in inspect.signature(call).parameters.items() if name not in ("self", "cls", "_cls")
    }
    variable = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    needed = {
        name
        for name, each in parameters.items()
        if each.default is each.empty and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
    }
    assert variable or set(names) <= set(parameters)
    assert needed <= set(names)


@pytest.mark.parametrize("name", sorted(MEMBERS))
def test_class_has_the_members_that_are_read(name: str) -> None:
    found = getattr(door, name)
    fields = getattr(found, "__annotations__", {})
    assert [member for member in MEMBERS[name] if not hasattr(found, member) and member not in fields] == []


@pytest.mark.parametrize("name", sorted(TAGS))
def test_tag_has_the_name_that_stored_runs_have(name: str) -> None:
    assert getattr(door, name) == TAGS[name]


@pytest.mark.parametrize("name", door.__all__)
def test_name_is_not_public_yet_and_has_a_contract(name: str) -> None:
    """Public names are imported from ``dagster`` and removed from the door."""
    assert not hasattr(dg, name)
    called = {call.__qualname__.partition(".")[0] for call, _ in CALLS} | {
        own for own in door.__all__ if any(call is getattr(door, own) for call, _ in CALLS)
    }
    assert name in called | set(MEMBERS) | set(TAGS) | TESTED_BELOW | set(OWN)


def test_every_name_is_used() -> None:
    folder = Path(str(door.__file__)).parent
    text = "\n".join(file.read_text() for file in folder.rglob("*.py") if str(file) != door.__file__)
    assert [name for name in door.__all__ if not re.search(rf"\b{name}\b", text)] == []


def test_type_checkers_see_the_names_that_are_loaded() -> None:
    tree = ast.parse(Path(str(door.__file__)).read_text())
    (typed,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    seen = {
        alias.asname or alias.name: f"{each.module}:{alias.name}" if alias.asname else each.module
        for each in typed.body
        if isinstance(each, ast.ImportFrom) and each.module != "dagster"
        for alias in each.names
    }
    assert seen == door._PLACES
    assert {*seen, *OWN} == set(door.__all__)


def test_step_processes_import_these_modules_at_their_start(tmp_path: Path) -> None:
    code = (
        f"import sys, dagster as dg; dg.DagsterInstance.local_temp({str(tmp_path)!r}).run_storage\n"
        f"print([name for name in {door.STEP_PROCESS_MODULES} if name not in sys.modules])\n"
        "import dagster.__main__"
    )
    done = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "['dagster._cli']"
    program = Path(str(dg.__file__)).with_name("__main__.py").read_text()
    assert program.startswith("from dagster._cli import main")


def test_nothing_is_loaded_before_it_is_asked_for() -> None:
    code = (
        "import sys, ml_assets.dagster_internals as door;"
        "print([name for name in sys.modules if name.startswith('dagster')]);"
        "door.PRIORITY_TAG; print('dagster._grpc' in sys.modules, 'sqlalchemy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "False False"]
    with pytest.raises(AttributeError, match="no_such_name"):
        door.no_such_name  # type: ignore[attr-defined]  # noqa: B018


def test_events_have_the_types_and_fields_that_are_read() -> None:
    for name in ("STEP_WORKER_STARTING", "STEP_WORKER_STARTED", "STEP_UP_FOR_RETRY", "RESOURCE_INIT_FAILURE"):
        assert name in dg.DagsterEventType.__members__
    assert "INTERRUPT" in door.ErrorSource.__members__
    assert {"RUN", "OP"} <= set(door.PoolGranularity.__members__)
    for name in (
        "is_step_skipped",
        "is_step_success",
        "is_step_failure",
        "is_step_up_for_retry",
        "is_resource_init_failure",
        "is_successful_output",
        "step_retry_data",
        "step_failure_data",
        "engine_event_data",
    ):
        assert isinstance(getattr(dg.DagsterEvent, name), property)
    assert {"logging_tags", "step_key", "event_specific_data"} <= set(dg.DagsterEvent._fields)


def test_storage_calls_the_functions_that_a_step_puts_in_their_place() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        storage, stored = instance.event_log_storage, []
        vars(storage).update(store_event=stored.append, store_event_batch=stored.extend)
        event = dg.DagsterEvent(dg.DagsterEventType.STEP_START.value, "job", step_key="step")
        instance.report_dagster_event(event, "run")
        assert [entry.dagster_event for entry in stored] == [event]
        assert stored[0]._replace(dagster_event=event._replace(logging_tags={"a": "b"}))


def test_events_that_are_kept_elsewhere_too_are_those_of_assets_and_checks() -> None:
    assert {dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_OBSERVATION} <= door.ASSET_EVENTS
    assert dg.DagsterEventType.ASSET_CHECK_EVALUATION in door.ASSET_CHECK_EVENTS


def test_event_that_cannot_be_read_raises_the_error_that_is_caught() -> None:
    with pytest.raises(door.DeserializationError):
        dg.deserialize_value('{"__class__": "NoSuchClass"}', dg.EventLogEntry)


def test_runs_that_may_still_read_or_write_have_the_other_statuses() -> None:
    status = dg.DagsterRunStatus
    others = {status.SUCCESS, status.FAILURE, status.CANCELED, status.MANAGED}
    assert set(door.NOT_FINISHED_STATUSES) == set(status) - others


def test_event_log_has_the_columns_that_are_read() -> None:
    columns = {"id", "run_id", "event", "dagster_event_type", "timestamp", "step_key", "asset_key"}
    assert columns <= set(door.SqlEventLogStorageTable.c.keys())


def test_both_parts_of_a_log_have_an_ending() -> None:
    assert set(door.IO_TYPE_EXTENSION) == {door.ComputeIOType.STDOUT, door.ComputeIOType.STDERR}


def test_code_from_a_file_knows_its_place(tmp_path: Path) -> None:
    file = tmp_path / "code.py"
    file.write_text("import dagster as dg\ndefs = dg.Definitions()\n")
    pointer = door.CodePointer.from_python_file(str(file), "defs", str(tmp_path))
    assert isinstance(pointer, door.FileCodePointer)
    assert (pointer.python_file, pointer.fn_name, pointer.working_directory) == (str(file), "defs", str(tmp_path))
    assert isinstance(door.repository_def_from_target_def(pointer.load_target()), dg.RepositoryDefinition)


def test_running_step_is_found_from_a_function_without_a_context() -> None:
    seen = []

    @dg.asset
    def looks() -> None:
        context = door.current_execution_context.get()
        step = context.op_execution_context.get_step_execution_context() if context else None
        seen.append(step and (step.step.key, step.dagster_run.run_id == context.run.run_id))

    assert door.current_execution_context.get() is None
    dg.materialize([looks])
    assert seen == [("looks", True)]


def test_origins_are_made_of_a_repository_and_a_name() -> None:
    code = RepositoryPythonOrigin(sys.executable, door.CodePointer.from_module("module", "defs", None))
    place = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("location"), "repository")
    assert door.JobPythonOrigin("job", code).repository_origin == code
    location = door.RemoteJobOrigin(place, "job")
    assert (location.repository_origin, location.job_name) == (place, "job")


def test_captured_interrupt_does_not_end_what_runs_and_is_told_when_asked_for() -> None:
    with door.capture_interrupts():
        assert not door.check_captured_interrupt()
        os.kill(os.getpid(), signal.SIGINT)
        assert door.check_captured_interrupt()


def test_asset_keeps_all_but_what_is_replaced() -> None:
    @dg.asset(group_name="made")
    def table() -> None: ...

    spec = next(iter(table.specs)).replace_attributes(deps=["other"])
    changed = door.asset_with(
        table,
        {
            "specs": [spec],
            "keys_by_input_name": {"other": dg.AssetKey("other")},
            "node_def": table.op.with_replaced_properties(table.op.name, ins={"other": dg.In(dg.Nothing)}),
        },
    )
    assert (changed.key, changed.group_names_by_key) == (table.key, table.group_names_by_key)
    assert (set(changed.dependency_keys), set(table.dependency_keys)) == ({dg.AssetKey("other")}, set())


def test_op_is_given_tags_and_a_pool_and_the_first_stays_as_it_was() -> None:
    @dg.op(tags={"a": "1"})
    def work() -> None: ...

    placed = door.op_with(work, {"b": "2"}, "gpu")
    assert (dict(placed.tags), placed.pool, placed.name) == ({"a": "1", "b": "2"}, "gpu", "work")
    assert (dict(work.tags), work.pool) == ({"a": "1"}, None)
    assert door.op_with(placed, {}, None).pool == "gpu"


def test_record_is_copied_with_a_field_replaced() -> None:
    condition = dg.AutomationCondition.missing().newly_true()
    changed = door.record_with(condition, operand=dg.AutomationCondition.in_progress())
    assert type(changed) is type(condition)
    assert (changed.operand, condition.operand) == (
        dg.AutomationCondition.in_progress(),
        dg.AutomationCondition.missing(),
    )


def test_storage_on_a_server_keeps_its_engine_in_the_attribute_that_is_read() -> None:
    from dagster_postgres.event_log import PostgresEventLogStorage
    from dagster_postgres.run_storage import PostgresRunStorage

    for storage in (PostgresEventLogStorage, PostgresRunStorage):
        assert issubclass(storage, door.SqlEventLogStorage | door.SqlRunStorage)
        assert "self._engine = " in inspect.getsource(storage.__init__)
    assert door.database_of(object()) is None


def test_step_that_yielded_already_may_yield_again() -> None:
    @dg.op(out={"first": dg.Out(is_required=False), "second": dg.Out(is_required=False)})
    def yields() -> tuple[int, int]: ...

    @dg.job
    def job() -> None:
        yields()

    with pytest.raises(dg.DagsterExecutionInterruptedError):
        _forget_one_of_two_outputs(create_execution_plan(job))


def _forget_one_of_two_outputs(plan: door.ExecutionPlan) -> None:
    with door.ActiveExecution(plan, door.RetryMode.DISABLED) as active:
        (step,) = active.get_steps_to_execute()
        forgotten, kept = door.StepOutputHandle(step.key, "first"), door.StepOutputHandle("other", "first")
        active._step_outputs |= {forgotten, kept}
        door.forget_outputs(active, step)
        assert active._step_outputs == {kept}
        active.mark_interrupted()  # otherwise it would complain that the step has not ended
