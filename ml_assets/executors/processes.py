"""The executor of targets without containers: each step is a process of this machine."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets.dead_runs import fail_dead_runs
from ml_assets.resources.machine.process_identity import ProcessIdentity
from ml_assets.resources.provenance import PROCESS_TAG

if TYPE_CHECKING:
    from ml_assets.dagster_internals import ExecutionPlan, PlanOrchestrationContext, RetryMode

__all__ = ["process_executor"]


def process_executor(preload: Sequence[str]) -> dg.ExecutorDefinition:
    """Return Dagster's multiprocess executor, which also tags each run with its process.

    It forks steps from a process with the imports already loaded.

    Args:
        preload: modules that this process imports.
    """
    theirs: Any = dg.multiprocess_executor

    def create(context: dg.InitExecutorContext) -> dg.Executor:
        return _TaggingExecutor(theirs.executor_creation_fn(context))

    ours = dg.ExecutorDefinition(
        name=theirs.name,
        config_schema=theirs.config_schema,
        requirements=theirs.get_requirements,
        executor_creation_fn=create,
        description=theirs.description,
    )
    return ours.configured({"start_method": {"forkserver": {"preload_modules": list(preload)}}}, name=theirs.name)


class _TaggingExecutor(dg.Executor):
    def __init__(self, theirs: Any) -> None:
        self._theirs = theirs

    @property
    def retries(self) -> "RetryMode":
        mode: RetryMode = self._theirs.retries
        return mode

    @property
    def step_dependency_config(self) -> Any:
        return self._theirs.step_dependency_config

    def execute(
        self, plan_context: "PlanOrchestrationContext", execution_plan: "ExecutionPlan"
    ) -> Iterator[dg.DagsterEvent]:
        """Fail the runs that were killed earlier, tag this one, and run its steps."""
        instance = plan_context.instance
        fail_dead_runs(instance)
        instance.add_run_tags(plan_context.run_id, {PROCESS_TAG: str(ProcessIdentity.current())})
        yield from self._theirs.execute(plan_context, execution_plan)
