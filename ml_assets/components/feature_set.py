"""The component of a feature set."""

from typing import Annotated

import dagster as dg

from ml_assets.components.artifact import FunctionArtifact, asset_options
from ml_assets.features import feature_set

__all__ = ["FeatureSet"]


class FeatureSet(FunctionArtifact):
    """A feature set: a table computed from datasets, with one row per prediction. See `ml_assets.feature_set`.

    ::

        type: ml_assets.FeatureSet
        attributes:
          function: .measures.measures
          asset:
            group_name: flowers
    """

    seed: Annotated[int | None, dg.Resolver.default(description="Seed of the random generators.")] = None
    tracked: Annotated[bool, dg.Resolver.default(description="Log each attempt to MLflow as a run.")] = False

    def declared(self) -> dg.AssetsDefinition:
        """Return the feature set's asset."""
        return feature_set(
            self.function,
            image=self.image,
            pool=self.pool,
            window=self.window,
            seed=self.seed,
            tracked=self.tracked,
            **asset_options(self.asset),
        )
