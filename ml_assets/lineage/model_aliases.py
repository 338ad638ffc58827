"""The contents of MLflow's model registry, by version and by run."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from ml_assets.lineage.graph import LineageGraph, Node
from ml_assets.resources.identity import ModelUri
from ml_assets.resources.tracking.model_registry import ModelRegistry

__all__ = ["ModelAliases"]


@dataclass(frozen=True)
class ModelAliases:
    """All versions in a model registry, each written ``models:/name/version``.

    Attributes:
        aliases: aliases of each version.
        by_run: versions by the MLflow run that logged them. A version that was registered manually, or copied to
            another name, has the run of its model.
        deployed_alias: alias of the deployed version of a registered model.
    """

    aliases: Mapping[str, tuple[str, ...]]
    by_run: Mapping[str, tuple[str, ...]]
    deployed_alias: str

    @classmethod
    def read(cls, models: ModelRegistry) -> Self:
        """Return the current contents of a registry.

        Raises:
            TrackingError: the server does not answer, or rejects the request.
        """
        by_run = defaultdict[str, tuple[str, ...]](tuple)
        found = models.versions()
        for version in found:
            if version.run:
                by_run[version.run] += (version.name,)
        aliases = {version.name: version.aliases for version in found}
        return cls(aliases, by_run, models.deployed_alias)

    def versions(self, node: Node) -> tuple[str, ...]:
        """Return the model versions of a node; the version that the node registered itself comes first."""
        own = (node.model_version,) if node.model_version in self.aliases else ()
        others = self.by_run.get(node.mlflow_run or "", ())
        return tuple(dict.fromkeys(version for version in (*own, *sorted(others)) if version))

    def annotate(self, graph: LineageGraph) -> LineageGraph:
        """Return a graph whose nodes have their model versions, aliases, and deployment state."""
        found = {node_id: self.versions(node) for node_id, node in graph.nodes.items()}
        return graph.changed({key: self._annotated(graph.nodes[key], each) for key, each in found.items() if each})

    def _annotated(self, node: Node, versions: Sequence[str]) -> Node:
        first, *others = versions
        models = {version: ModelUri.parse(version).name for version in others}
        elsewhere = [str(ModelUri(models[each], alias=alias)) for each in others for alias in self.aliases[each]]
        is_deployed = any(self.deployed_alias in self.aliases[version] for version in versions)
        aliases = (*self.aliases[first], *elsewhere)
        return replace(node, model_version=first, aliases=aliases, is_deployed=is_deployed)
