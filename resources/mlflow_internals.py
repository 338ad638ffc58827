"""The only module that uses MLflow's private state; each function says why the public API is not enough.

MLflow is imported where it is used, because its import takes seconds. ``tests/resources/test_mlflow_internals.py`` has
a contract test for each function.
"""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["active_run_ids", "create_tables", "fluent_state_kept", "no_map_of_all_packages", "registry_at"]


def active_run_ids() -> list[str]:
    """Return the ids of the active runs, outermost first; ``mlflow.active_run`` knows only the innermost."""
    from mlflow.tracking import fluent

    return [run.info.run_id for run in fluent._active_run_stack.get()]


@contextmanager
def fluent_state_kept() -> Iterator[None]:
    """Restore the active runs, the experiment and the tracking URI of MLflow's own functions when the block ends.

    ``mlflow.set_experiment`` and ``set_tracking_uri`` can set them, but not unset them, and ``end_run`` would end runs
    that other code started.
    """
    import mlflow
    from mlflow.tracking import fluent
    from mlflow.tracking._tracking_service import utils as service

    stack, experiment = fluent._active_run_stack.get(), fluent._active_experiment_id
    depth, tracking_uri = len(stack), service._tracking_uri
    try:
        yield
    finally:
        del stack[depth:]
        fluent._active_experiment_id = experiment
        mlflow.set_tracking_uri(tracking_uri)


@contextmanager
def registry_at(uri: str) -> Iterator[None]:
    """Register models elsewhere during the block; ``mlflow.set_registry_uri`` cannot be unset afterwards."""
    from mlflow.environment_variables import MLFLOW_REGISTRY_URI
    from mlflow.tracking._model_registry import utils as registry

    before, variable = registry._registry_uri, MLFLOW_REGISTRY_URI.get_raw()
    registry.set_registry_uri(uri)  # takes precedence over a registry named by a variable
    try:
        yield
    finally:
        registry._registry_uri = before
        MLFLOW_REGISTRY_URI.unset() if variable is None else MLFLOW_REGISTRY_URI.set(variable)


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
