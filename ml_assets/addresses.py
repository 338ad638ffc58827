"""Browser addresses of the Dagster, MLflow and lineage pages."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

from ml_assets.resources.identity import ModelUri

if TYPE_CHECKING:
    from ml_assets.resources.identity import AssetPartition
    from ml_assets.resources.settings import Settings

__all__ = ["Addresses"]


@dataclass(frozen=True)
class Addresses:
    """The addresses of the three UIs. If a UI has no address, its pages are None.

    Attributes:
        dagster: address of the Dagster UI.
        mlflow: address of the MLflow UI.
        lineage: address of the trace pages (``ml-assets lineage serve``).
    """

    dagster: str | None = None
    mlflow: str | None = None
    lineage: str | None = None

    @classmethod
    def of(cls, settings: "Settings") -> Self:
        """Return the addresses in the settings."""
        return cls(settings.ui_url, settings.mlflow.ui_url, settings.lineage.ui_url)

    def run(self, run_id: str) -> str | None:
        """Return the page of a Dagster run."""
        return _page(self.dagster, f"/runs/{quote(run_id, safe='')}")

    def asset(self, artifact: "AssetPartition") -> str | None:
        """Return the page of an asset, or of one of its partitions, in Dagster."""
        partition = artifact.partition
        shown = f"?view=partitions&partition={quote(partition, safe='')}" if partition is not None else ""
        return _page(self.dagster, f"/assets/{quote(artifact.asset)}{shown}")

    def model_version(self, reference: str) -> str | None:
        """Return the page of ``models:/name/version`` in MLflow."""
        model = ModelUri.parse(reference)
        return _page(self.mlflow, f"/#/models/{quote(model.name, safe='')}/versions/{model.version}")

    def trace(self, reference: str) -> str | None:
        """Return the page that shows the inputs and the consumers of a reference."""
        return _page(self.lineage, f"/trace?ref={quote(reference, safe='')}")

    def about(self, artifact: "AssetPartition", dagster_run: str, mlflow_run: str) -> str:
        """Return Markdown links from an MLflow run to its pages in the other UIs; empty if they have no address."""
        pages = {
            "Asset in Dagster": self.asset(artifact),
            "Run in Dagster": self.run(dagster_run),
            "Lineage": self.trace(mlflow_run),
        }
        return " · ".join(f"[{name}]({page})" for name, page in pages.items() if page)


def _page(base: str | None, path: str) -> str | None:
    return f"{base.rstrip('/')}{path}" if base else None
