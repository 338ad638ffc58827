"""The packages that only an extra of ml-assets installs, and the error for one that is missing."""

import importlib.util
import sys
from typing import Final

from ml_assets.resources.errors import MissingPackage

__all__ = ["EXTRAS", "require"]

EXTRAS: Final = {
    "dagster_aws": "deployment",
    "dagster_docker": "docker",
    "dagster_k8s": "kubernetes",
    "dagster_postgres": "deployment",
    "dvc": "dvc",
    "dvc_s3": "s3",
    "httptools": "serve",
    "kubernetes": "kubernetes",
    "onnxscript": "torch",
    "openlineage": "openlineage",
    "opentelemetry.exporter.otlp.proto.http": "serve",
    "orjson": "serve",
    "polars": "polars",
    "prometheus_client": "monitoring",
    "safetensors": "torch",
    "torch": "torch",
    "uvloop": "serve",
    "xgboost": "xgboost-cpu",
}
"""The extra that installs each optional module. Every other import is a dependency of ml-assets itself."""


def require(*modules: str, extra: str | None = None) -> None:
    """Check that optional modules are installed, without importing them.

    Args:
        modules: names of `EXTRAS`.
        extra: the extra to install if one is missing; by default the module's own.

    Raises:
        MissingPackage: one is not installed.
    """
    for module in modules:
        if not _is_installed(module):
            raise MissingPackage(
                f"{module} is not installed", next_step=f"run pip install 'ml-assets[{extra or EXTRAS[module]}]'"
            )


def _is_installed(module: str) -> bool:
    if module in sys.modules:
        return True
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False
