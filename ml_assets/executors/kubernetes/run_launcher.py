"""Dagster's Kubernetes run launcher with a stricter health check.

Only ``dagster.yaml`` names it. No other module imports it, because importing dagster_k8s takes seconds.
"""

from typing import Any

from dagster import DagsterRun, DagsterRunStatus

from ml_assets.dagster_internals import CheckRunHealthResult, WorkerStatus
from ml_assets.resources.errors import SettingsError
from ml_assets.resources.extras import require

require("dagster_k8s", "kubernetes")
from dagster_k8s import K8sRunLauncher  # noqa: E402  # Dagster would otherwise hide what is missing
from kubernetes.config import ConfigException  # noqa: E402

__all__ = ["KubernetesRunLauncher"]


class KubernetesRunLauncher(K8sRunLauncher):
    """Run workers as Jobs, with the config of dagster_k8s's ``K8sRunLauncher``.

    If the pod of a run worker is deleted, older clusters create another pod. That pod ends at once because the run has
    already started. The Job has then succeeded although the run has not ended. Dagster's own check considers this
    healthy and waits forever.

    An instance that resumes runs creates its run launcher wherever it is opened, for example for lineage queries.
    Outside the cluster the launcher uses the same configuration as ``kubectl``.
    """

    def __init__(self, *, load_incluster_config: bool = True, **options: Any) -> None:
        """Initialize as Dagster's launcher does.

        Raises:
            SettingsError: this process runs outside the cluster, and no kubeconfig is found.
        """
        try:
            super().__init__(load_incluster_config=load_incluster_config, **options)
        except ConfigException:
            if not load_incluster_config:
                raise
            try:
                super().__init__(load_incluster_config=False, **options)
            except ConfigException as error:
                raise SettingsError(
                    f"the instance launches runs in a Kubernetes cluster, but no connection is configured: {error}",
                    next_step="set KUBECONFIG, or run the command inside the cluster",
                ) from error

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Return Dagster's result, but report a Job that succeeded while its run continues as a failed run worker."""
        health: CheckRunHealthResult = super().check_run_worker_health(run)
        if health.status is WorkerStatus.SUCCESS and run.status is DagsterRunStatus.STARTED:
            return CheckRunHealthResult(WorkerStatus.FAILED, "its Job has ended, but the run has not")
        return health
