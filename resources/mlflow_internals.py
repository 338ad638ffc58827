"""The only module that uses MLflow's private state; each function says why the public API is not enough.

MLflow is imported where it is used, because its import takes seconds. ``tests/resources/test_mlflow_internals.py`` has
a contract test for each function.
"""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["active_run_ids", "create_tables", "fluent_state_kept", "forget_run", "no_map_of_all_packages"]


def active_run_ids() -> set[str]:
    """Return the ids of the active runs of all threads; ``mlflow.active_run`` knows one of one thread."""
    from mlflow.tracking import fluent

    stacks = fluent._active_run_stack.get_all_thread_values().values()
    return {run.info.run_id for stack in stacks for run in stack}


def forget_run(run_id: str) -> None:
    """Make a run inactive in all threads, without a request; ``mlflow.end_run`` ends it in whatever store is set."""
    from mlflow.tracking import fluent

    for stack in fluent._active_run_stack.get_all_thread_values().values():
        stack[:] = [run for run in stack if run.info.run_id != run_id]
    if monitor := fluent.run_id_to_system_metrics_monitor.pop(run_id, None):
        monitor.finish()


@contextmanager
def fluent_state_kept() -> Iterator[None]:
    """Restore all settings of MLflow's own functions when the block ends.

    These are the addresses of store and registry, the experiment, the active runs and model, autologging and MLflow's
    environment variables. Most of them can be set by public functions, but not unset.
    """
    from mlflow import environment_variables
    from mlflow.tracking import fluent
    from mlflow.tracking._model_registry import utils as registry
    from mlflow.tracking._tracking_service import utils as service
    from mlflow.utils import autologging_utils, import_hooks

    known = [
        v for v in vars(environment_variables).values() if isinstance(v, environment_variables._EnvironmentVariable)
    ]
    variables = [(variable, variable.get_raw()) for variable in known]
    stack, model = fluent._active_run_stack.get(), fluent._ACTIVE_MODEL_CONTEXT.get()
    runs, experiment = list(stack), fluent._active_experiment_id
    store, models = service._tracking_uri, registry._registry_uri
    # Without its entry, a library's autologging is off, although the library stays patched.
    tables = [
        (table, dict(table)) for table in (autologging_utils.AUTOLOGGING_INTEGRATIONS, import_hooks._post_import_hooks)
    ]
    try:
        yield
    finally:
        service.set_tracking_uri(store)
        registry._registry_uri = models
        fluent._active_experiment_id = experiment
        stack[:] = runs
        fluent._ACTIVE_MODEL_CONTEXT.set(model)
        for table, before in tables:
            table.clear()
            table.update(before)
        for variable, value in variables:
            variable.unset() if value is None else variable.set(value)


def create_tables(uri: str, artifacts: str) -> None:
    """Create or migrate the tables of a tracking database, then close it; a store has no public method to close it."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(uri, artifacts)._dispose_engine()


@contextmanager
def no_map_of_all_packages() -> Iterator[None]:
    """Keep MLflow from reading every installed package's metadata when it logs a model.

    MLflow compares requirements with the installed packages; ours are installed. It caches the metadata in this
    variable, and reads nothing if the variable is set.
    """
    from mlflow.utils import requirements_utils

    known = requirements_utils._MODULES_TO_PACKAGES
    requirements_utils._MODULES_TO_PACKAGES = known or {}
    try:
        yield
    finally:
        requirements_utils._MODULES_TO_PACKAGES = known
