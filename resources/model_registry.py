"""What MLflow's model registry says of registered models."""

from collections.abc import Iterable

from resources.tracking_store import open_store, tracking_errors

__all__ = ["deployed_versions"]


def deployed_versions(uri: str, experiment: str, names: Iterable[str], alias: str) -> frozenset[str]:
    """The versions of registered models that carry an alias, each as ``models:/name/version``.

    Args:
        uri: of the tracking server, which is the registry too.
        experiment: name of any experiment, by which the server is asked whether it answers.
        names: of registered models; those that the registry does not know are left out.
        alias: of the version that serves.

    Raises:
        TrackingError: the server does not answer, or refuses.
    """
    from mlflow.exceptions import MlflowException

    client, _ = open_store(uri, experiment, None)
    found = set()
    for name in names:
        with tracking_errors(uri):
            try:
                aliases = client.get_registered_model(name).aliases
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                continue
        if alias in aliases:
            found.add(f"models:/{name}/{aliases[alias]}")
    return frozenset(found)
