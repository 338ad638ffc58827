"""Dagster's own Kubernetes run launcher, where it does not look far enough.

Named in ``dagster.yaml``; nothing else imports it, since dagster_k8s takes seconds.
"""

from typing import Any

from dagster import DagsterRun, DagsterRunStatus
from dagster_k8s import K8sRunLauncher
from kubernetes.config import ConfigException

from ml_assets.dagster_internals import CheckRunHealthResult, WorkerStatus
from ml_assets.resources.errors import SettingsError

__all__ = ["KubernetesRunLauncher"]


class KubernetesRunLauncher(K8sRunLauncher):
    """Run workers as Jobs, with the config of dagster_k8s's ``K8sRunLauncher``.

    When the pod of a run worker is deleted, older clusters make another, which ends at once because the run has begun.
    The Job has then succeeded and the run has not ended; Dagster takes that for health, and would wait for ever.

    An instance that resumes runs makes its run launcher wherever it is opened, also where people ask for lineage:
    outside of the cluster it finds its way as ``kubectl`` does.
    """

    def __init__(self, *, load_incluster_config: bool = True, **options: Any) -> None:
        """As Dagster's.

        Raises:
            SettingsError: this is outside of the cluster, and no kubeconfig leads there.
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
                    f"the instance launches runs in a cluster, and there is no way to it: {error}",
                    next_step="set KUBECONFIG, or ask inside the cluster",
                ) from error

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """As Dagster's, but a Job that has succeeded while its run goes on is a failed run worker."""
        health: CheckRunHealthResult = super().check_run_worker_health(run)
        if health.status is WorkerStatus.SUCCESS and run.status is DagsterRunStatus.STARTED:
            return CheckRunHealthResult(WorkerStatus.FAILED, "its Job has ended, and the run has not")
        return health
