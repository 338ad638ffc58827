"""Dagster's own Kubernetes run launcher, which also notices a run worker whose place was taken by an idle one.

Named in ``dagster.yaml``; nothing else imports it, since dagster_k8s takes seconds.
"""

from dagster import DagsterRun, DagsterRunStatus
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster_k8s import K8sRunLauncher

__all__ = ["KubernetesRunLauncher"]


class KubernetesRunLauncher(K8sRunLauncher):
    """Run workers as Jobs, with the config of dagster_k8s's ``K8sRunLauncher``.

    When the pod of a run worker is deleted, older clusters make another, which ends at once because the run has begun.
    The Job has then succeeded and the run has not ended; Dagster takes that for health, and would wait for ever.
    """

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """As Dagster's, but a Job that has succeeded while its run goes on is a failed run worker."""
        health: CheckRunHealthResult = super().check_run_worker_health(run)
        if health.status is WorkerStatus.SUCCESS and run.status is DagsterRunStatus.STARTED:
            return CheckRunHealthResult(WorkerStatus.FAILED, "its Job has ended, and the run has not")
        return health
