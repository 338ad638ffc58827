"""Registered models in MLflow's model registry."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from ml_assets.resources.errors import UnknownReference
from ml_assets.resources.identity import ModelUri
from ml_assets.resources.tracking.store import open_store, tracking_errors

__all__ = ["ModelRegistry", "ModelVersion"]

_PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of a registered model."""

    name: str
    """Written ``models:/name/version``."""
    aliases: tuple[str, ...]
    run: str | None
    """MLflow run of its model; also for a version that was registered by hand or copied to another name."""


@dataclass(frozen=True)
class ModelRegistry:
    """The registry of a tracking server.

    Args:
        uri: of the tracking server, which is the registry too.
        experiment: name of any experiment, used to check that the server answers.
        deployed_alias: alias of the registered model version that is served.
    """

    uri: str
    experiment: str
    deployed_alias: str = "champion"

    def versions(self) -> list[ModelVersion]:
        """Return all registered versions.

        Raises:
            TrackingError: the server does not answer, or refuses.
        """
        client, _ = open_store(self.uri, self.experiment, None)
        with tracking_errors(self.uri):
            # The list of versions does not include their aliases.
            known = {model.name: model.aliases for model in _all(client.search_registered_models)}
            listed = list(_all(client.search_model_versions))
        found = []
        for each in listed:
            aliases = known.get(each.name, {}).items()
            mine = tuple(sorted(alias for alias, number in aliases if str(number) == str(each.version)))
            found.append(ModelVersion(str(ModelUri(each.name, str(each.version))), mine, each.run_id or None))
        return found

    def run_of(self, version: str) -> str | None:
        """Return the MLflow run that logged the model of a version, ``models:/name/version``; None if it is unknown.

        Raises:
            ValueError: the text names no version.
            TrackingError: the server does not answer, or refuses.
        """
        named = ModelUri.parse(version)
        client, _ = open_store(self.uri, self.experiment, None)
        with tracking_errors(self.uri):
            found = _unless_missing(lambda: client.get_model_version(named.name, named.version))
        return found.run_id or None if found is not None else None

    def version(self, name: str, alias: str) -> str:
        """Return the version that has an alias now, as ``models:/name/version``.

        Raises:
            UnknownReference: there is no such model, or it has no such alias.
            TrackingError: the server does not answer, or refuses.
        """
        client, _ = open_store(self.uri, self.experiment, None)
        with tracking_errors(self.uri):
            model = _unless_missing(lambda: client.get_registered_model(name))
        if model is None:
            raise UnknownReference(f"MLflow has no registered model {name!r}", next_step="check its spelling")
        found: dict[str, str] = model.aliases
        if alias not in found:
            known = ", ".join(str(ModelUri(name, alias=other)) for other in sorted(found)) or "it has none"
            raise UnknownReference(
                f"no version of the registered model {name} has the alias {alias!r}",
                next_step=f"use one of its aliases ({known}), or a version: models:/{name}/VERSION",
            )
        return str(ModelUri(name, str(found[alias])))


def _unless_missing(ask: Callable[[], Any]) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        return ask()
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _all(search: Callable[..., Any]) -> Iterator[Any]:
    token = None
    while True:
        page = search(max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
