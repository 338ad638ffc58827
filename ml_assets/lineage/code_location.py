"""The current definitions, for questions that compare them with the record."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dagster as dg

from ml_assets.artifacts.io_manager import KIND_METADATA
from ml_assets.code_version.uncovered import present
from ml_assets.code_version.version import code_of
from ml_assets.dagster_internals import BaseAssetGraph
from ml_assets.project import load_module
from ml_assets.resources.errors import DefinitionError
from ml_assets.resources.provenance import ArtifactKind, Uncovered

__all__ = ["CodeLocation"]


class CodeLocation:
    """The assets of one code location.

    Args:
        definitions: definitions of the code location.
    """

    def __init__(self, definitions: dg.Definitions | dg.RepositoryDefinition) -> None:
        if isinstance(definitions, dg.Definitions):
            definitions = definitions.get_repository_def()
        self._repository: dg.RepositoryDefinition = definitions

    @classmethod
    def of_module(cls, module: str, folder: str | None = None) -> "CodeLocation":
        """Return the code location of a module, found as ``dagster -m`` finds it.

        Args:
            module: dotted name of the module.
            folder: folder to add to the import path.

        Raises:
            SettingsError: the module cannot be imported, or defines no assets.
        """
        return cls(load_module(module, folder))

    @classmethod
    def defining(cls, reference: str, candidates: Sequence[dg.RepositoryDefinition]) -> "CodeLocation":
        """Return the code location that defines an asset.

        Args:
            reference: the asset, as ``key`` or ``key@partition``.
            candidates: at least one. If none defines the asset, the first is returned.
        """
        key = dg.AssetKey.from_user_string(reference.partition("@")[0])
        return cls(next((each for each in candidates if each.asset_graph.has(key)), candidates[0]))

    @property
    def graph(self) -> BaseAssetGraph:  # type: ignore[type-arg]
        """Dagster's graph of the assets."""
        return self._repository.asset_graph

    @property
    def images(self) -> frozenset[str]:
        """The image assets."""
        nodes = self._repository.asset_graph.asset_nodes
        return frozenset(
            node.key.to_user_string() for node in nodes if node.metadata.get(KIND_METADATA) == ArtifactKind.IMAGE
        )

    def code(self, key: dg.AssetKey) -> Mapping[str, str] | None:
        """Return the parts of an asset's code version; None if no factory computed it."""
        function = self._function(key)
        try:
            code = code_of(function) if function else None
        except DefinitionError:
            return None
        # The author may have set another code version.
        return code.parts if code and code.version == self.graph.get(key).code_version else None

    def present(self, key: dg.AssetKey, items: Sequence[Uncovered]) -> tuple[Uncovered, ...]:
        """Return code and files that an asset used beyond its code version, with their digests in this checkout."""
        function = self._function(key)
        return present(function, items) if function and items else ()

    def _function(self, key: dg.AssetKey) -> Callable[..., Any] | None:
        """Return the author's function; None if no factory made the asset."""
        definition = self._repository.assets_defs_by_key.get(key)
        if definition is None or not definition.is_executable or KIND_METADATA not in definition.metadata_by_key[key]:
            return None
        wrapper = getattr(definition.op.compute_fn, "decorated_fn", None)
        return wrapper.__wrapped__ if wrapper else None
