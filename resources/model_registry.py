"""What MLflow's model registry says of registered models."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from resources.errors import UnknownReference
from resources.tracking_store import open_store, tracking_errors

__all__ = ["ModelRegistry", "model_name"]


@dataclass(frozen=True)
class ModelRegistry:
    """The registry of a tracking server.

    Args:
        uri: of the tracking server, which is the registry too.
        experiment: name of any experiment, by which the server is asked whether it answers.
        deployed_alias: of the version of a registered model that serves.
    """

    uri: str
    experiment: str
    deployed_alias: str = "champion"

    def aliases(self, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Aliases by model version, each written ``models:/name/version``; of those that have any.

        Args:
            names: of registered models; those that the registry does not know are left out.

        Raises:
            TrackingError: the server does not answer, or refuses.
        """
        found = defaultdict[str, list[str]](list)
        for name, versions in self._by_alias(names).items():
            for alias, version in sorted(versions.items()):
                found[f"models:/{name}/{version}"].append(alias)
        return {version: tuple(aliases) for version, aliases in found.items()}

    def version(self, name: str, alias: str) -> str:
        """The version that carries an alias now, as ``models:/name/version``.

        Raises:
            UnknownReference: there is no such model, or it has no such alias.
            TrackingError: the server does not answer, or refuses.
        """
        found = self._by_alias([name]).get(name)
        if found is None:
            raise UnknownReference(f"MLflow knows no registered model {name!r}", next_step="check its spelling")
        if alias not in found:
            known = ", ".join(f"models:/{name}@{other}" for other in sorted(found)) or "it has none"
            raise UnknownReference(
                f"no version of the registered model {name} has the alias {alias!r}",
                next_step=f"take one of its aliases ({known}), or a version: models:/{name}/VERSION",
            )
        return f"models:/{name}/{found[alias]}"

    def versions(self, names: Iterable[str]) -> frozenset[str]:
        """All versions that the registry has of registered models, as ``models:/name/version``; raises as `aliases`."""
        client, _ = open_store(self.uri, self.experiment, None)
        found = set()
        for name in names:
            quoted = name.replace("'", "''")
            token = None
            while True:
                with tracking_errors(self.uri):
                    page = client.search_model_versions(f"name = '{quoted}'", page_token=token)
                found |= {f"models:/{name}/{each.version}" for each in page}
                token = page.token
                if not token:
                    break
        return frozenset(found)

    def _by_alias(self, names: Iterable[str]) -> dict[str, Mapping[str, str]]:
        """Version by alias, of each registered model that there is."""
        from mlflow.exceptions import MlflowException

        client, _ = open_store(self.uri, self.experiment, None)
        found = {}
        for name in names:
            with tracking_errors(self.uri):
                try:
                    found[name] = client.get_registered_model(name).aliases
                except MlflowException as error:
                    if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                        raise
        return found


def model_name(model_version: str) -> str:
    """The name in ``models:/name/version``."""
    return model_version.removeprefix("models:/").rpartition("/")[0]
