"""Fixtures shared by the tests of the model server."""

from pathlib import Path

import pytest

from ml_assets.serving.servable import Servable, open_servable
from tests.ml_assets.serving.models import write_model


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a linear model with three columns."""
    directory = tmp_path_factory.mktemp("models") / "linear"
    write_model(directory)
    return directory


@pytest.fixture(scope="session")
def servable(model_directory: Path) -> Servable:
    """The same model, loaded."""
    return open_servable(model_directory)
