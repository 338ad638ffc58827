"""The executor: launches a run's steps as containers of an engine, and enforces the concurrency limits."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets.dagster_internals import ActiveExecution, RetryMode
from ml_assets.executors.container_request import request_of
from ml_assets.executors.database_retry import retry_database_operations
from ml_assets.executors.diagnosis import Diagnostics
from ml_assets.executors.engine import ContainerEngine
from ml_assets.executors.event_handler import EventHandler
from ml_assets.executors.launches import Launches
from ml_assets.executors.loop import RunLoop
from ml_assets.executors.placement import PlacementRules, RunPlacements
from ml_assets.executors.pool_slots import PoolSlots
from ml_assets.executors.scheduling import LaunchScheduler
from ml_assets.placement import Placement
from ml_assets.resources.pools import Override
from ml_assets.run_config import refuse_secrets

if TYPE_CHECKING:
    from ml_assets.dagster_internals import ExecutionPlan, PlanOrchestrationContext

__all__ = ["ContainerExecutor"]


class ContainerExecutor(dg.Executor):
    """Runs each step in its own container.

    Args:
        engine: starts and observes the containers.
        rules: placement rules of the settings.
        image_ran: returns True if an image id reported by the runtime is the placement's image; None if unknown.
        variables: environment variables of every step.
        retries: whether the author's retry policies apply.
        overrides: placement overrides for this run, by asset key, check, op or ``*``.
        max_concurrent: maximum number of concurrent steps of this run.
        tag_concurrency_limits: Dagster's limits on concurrent steps by tag, within the run.
    """

    def __init__(
        self,
        engine: ContainerEngine,
        rules: PlacementRules,
        *,
        image_ran: Callable[[str, Placement], bool | None],
        variables: Mapping[str, str],
        retries: RetryMode = RetryMode.ENABLED,
        overrides: Mapping[str, Override] | None = None,
        max_concurrent: int | None = None,
        tag_concurrency_limits: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.rules, self.variables = rules, variables
        self.diagnostics = Diagnostics(engine, rules, image_ran)
        self._retries = retries
        self.overrides = overrides or {}
        self.max_concurrent = max_concurrent
        self.tag_concurrency_limits = list(tag_concurrency_limits)

    @property
    def retries(self) -> RetryMode:
        """True if the author's retry policies apply."""
        return self._retries

    def execute(
        self, plan_context: "PlanOrchestrationContext", execution_plan: "ExecutionPlan"
    ) -> Iterator[dg.DagsterEvent]:
        """Run the plan's steps and yield their events.

        Raises:
            RunConfigRefused: the run config contains a secret.
        """
        refuse_secrets(plan_context.dagster_run.run_config)
        retry_database_operations(plan_context.instance)
        with ActiveExecution(execution_plan, retry_mode=self._retries) as active:
            instance, run = plan_context.instance, plan_context.dagster_run
            launches, slots = Launches(run.run_id), PoolSlots(instance, run, self.rules.pools)
            job = plan_context.job.get_definition()
            placements = RunPlacements(self.rules, job, instance, run, self.overrides)
            fail_or_retry = self.log_failure_or_retry_event_after_error
            loop = RunLoop(
                plan_context,
                active,
                EventHandler(plan_context, active, launches, slots, fail_or_retry),
                LaunchScheduler(
                    plan_context,
                    launches,
                    placements,
                    slots,
                    max_concurrent=self.max_concurrent,
                    tag_limits=self.tag_concurrency_limits,
                ),
                self.diagnostics,
                partial(
                    request_of,
                    context=plan_context,
                    rules=self.rules,
                    retries=self._retries,
                    variables=self.variables,
                ),
            )
            yield from loop.run(placements.unmatched(plan_context.plan_data.execution_plan))
