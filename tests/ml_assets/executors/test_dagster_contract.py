"""What the executors rely on of Dagster without its promise: when one of these fails, read what has changed there."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from dagster._cli.api import _execute_step_command_body
from dagster._cli.utils import get_instance_for_cli
from dagster._core.definitions.executor_definition import multiple_process_executor_requirements
from dagster._core.event_api import EventLogCursor
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.execution.api import execute_run_iterator
from dagster._core.execution.plan.active import ActiveExecution
from dagster._core.execution.plan.objects import ErrorSource, StepFailureData, UserFailureData
from dagster._core.execution.retries import RetryMode, RetryState, get_retries_config
from dagster._core.execution.tags import get_tag_concurrency_limits_config
from dagster._core.executor.base import Executor
from dagster._core.instance import DagsterInstance
from dagster._core.instance.config import PoolGranularity
from dagster._core.storage.event_log.base import EventLogStorage
from dagster._grpc.types import ExecuteStepArgs
from dagster._utils.hosted_user_process import recon_job_from_origin
from dagster._utils.interrupts import capture_interrupts
from dagster._utils.tags import TagConcurrencyLimitsCounter

CALLS: list[tuple[Callable[..., Any], tuple[str, ...]]] = [
    (ActiveExecution, ("execution_plan", "retry_mode")),
    (ActiveExecution.get_steps_to_execute, ()),
    (ActiveExecution.get_steps_to_skip, ()),
    (ActiveExecution.mark_skipped, ("step_key",)),
    (ActiveExecution.mark_up_for_retry, ("step_key", "at_time")),
    (ActiveExecution.handle_event, ("dagster_event",)),
    (ActiveExecution.plan_events_iterator, ("job_context",)),
    (ActiveExecution.check_for_interrupts, ()),
    (ActiveExecution.mark_interrupted, ()),
    (ActiveExecution.get_known_state, ()),
    (RetryState.get_attempt_count, ("key",)),
    (RetryMode.for_inner_plan, ()),
    (Executor.log_failure_or_retry_event_after_error, ("step_context", "err_info", "known_state")),
    (
        ExecuteStepArgs.__new__,
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
    (_execute_step_command_body, ("args", "instance", "dagster_run")),
    (get_instance_for_cli, ("instance_ref",)),
    (recon_job_from_origin, ("origin",)),
    (capture_interrupts, ()),
    (execute_run_iterator, ("job", "dagster_run", "instance", "resume_from_failure")),
    (EventLogStorage.store_event, ("event",)),
    (EventLogStorage.store_event_batch, ("events",)),
    (EventLogStorage.default_run_scoped_event_tailer_offset, ()),
    (EventLogStorage.claim_concurrency_slot, ("concurrency_key", "run_id", "step_key", "priority")),
    (EventLogStorage.free_concurrency_slot_for_step, ("run_id", "step_key")),
    (EventLogStorage.initialize_concurrency_limit_to_default, ("concurrency_key",)),
    (EventLogStorage.set_concurrency_slots, ("concurrency_key", "num")),
    (EventLogStorage.get_pool_limits, ()),
    (EventLogStorage.get_pool_config, ()),
    (EventLogCursor.from_storage_id, ("storage_id",)),
    (EventLogCursor.to_string, ()),
    (DagsterInstance.get_records_for_run, ("run_id", "cursor", "of_type", "limit")),
    (DagsterInstance.run_will_resume, ("run_id",)),
    (DagsterEvent.engine_event, ("plan_context", "message", "event_specific_data")),
    (DagsterEvent.step_worker_starting, ("step_context", "message", "metadata")),
    (DagsterEvent.step_failure_event, ("step_context", "step_failure_data", "message")),
    (DagsterEvent.step_concurrency_blocked, ("step_context", "concurrency_key", "initial")),
    (StepFailureData.__new__, ("error", "user_failure_data", "error_source")),
    (UserFailureData.__new__, ("label", "description", "metadata")),
    (TagConcurrencyLimitsCounter, ("tag_concurrency_limits", "in_progress_tagged_items")),
    (TagConcurrencyLimitsCounter.is_blocked, ("item",)),
    (TagConcurrencyLimitsCounter.update_counters_with_launched_item, ("item",)),
    (multiple_process_executor_requirements, ()),
    (get_retries_config, ()),
    (get_tag_concurrency_limits_config, ()),
]


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


def test_events_have_the_types_and_fields_that_are_read() -> None:
    for name in ("STEP_WORKER_STARTING", "STEP_WORKER_STARTED", "STEP_UP_FOR_RETRY", "RESOURCE_INIT_FAILURE"):
        assert name in DagsterEventType.__members__
    assert "INTERRUPT" in ErrorSource.__members__
    assert {"RUN", "OP"} <= set(PoolGranularity.__members__)
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
        assert isinstance(getattr(DagsterEvent, name), property)
    assert {"logging_tags", "step_key", "event_specific_data"} <= set(DagsterEvent._fields)


def test_storage_calls_the_functions_that_a_step_puts_in_their_place() -> None:
    with DagsterInstance.ephemeral() as instance:
        storage, stored = instance.event_log_storage, []
        vars(storage).update(store_event=stored.append, store_event_batch=stored.extend)
        event = DagsterEvent(DagsterEventType.STEP_START.value, "job", step_key="step")
        instance.report_dagster_event(event, "run")
        assert [entry.dagster_event for entry in stored] == [event]
        assert stored[0]._replace(dagster_event=event._replace(logging_tags={"a": "b"}))
