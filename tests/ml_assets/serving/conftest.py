"""What the tests of the model server share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ml_assets.serving.servable import Servable, open_servable
from tests.ml_assets.serving.models import write_model


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear model of three columns."""
    directory = tmp_path_factory.mktemp("models") / "linear"
    write_model(directory)
    return directory


@pytest.fixture(scope="session")
def servable(model_directory: Path) -> Servable:
    """The same, loaded."""
    return open_servable(model_directory)


@pytest.fixture(scope="module", autouse=True)
def _no_tracking_address() -> Iterator[None]:
    """MLflow's own functions leave an address behind in the process of other tests, and servers would inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield
