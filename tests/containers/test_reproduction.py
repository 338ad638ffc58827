"""`ml-assets reproduce` on a real Docker engine, with definitions that have changed since the image was built."""

import json
from collections.abc import Callable
from functools import partial

from mlflow import MlflowClient

from ml_assets.resources.provenance import OVERRIDES_TAG
from ml_assets.resources.tracking.tags import RunTags
from tests.containers.fixtures import OpenDocker
from tests.contracts.reproduction import MODULE, NOW, require_reproduction


def test_past_image_gives_the_same_model_and_nothing_is_published(
    open_docker: OpenDocker, image_with: Callable[..., str]
) -> None:
    past, today = image_with(MODULE), image_with(MODULE, [NOW])
    with open_docker(MODULE, image=today, variables={"ML_ASSETS__CONTAINERS__IMAGE": past}) as deployment:
        # The newest run, and therefore the next run worker, then uses today's definitions and today's image.
        newer = {OVERRIDES_TAG: json.dumps({"*": {"image": today}})}
        meanwhile = partial(deployment.run, "figures", partition="2026-01-01", tags=newer)
        require_reproduction(deployment, past, ["numbers", "line"], meanwhile)
        client = MlflowClient(deployment.servers.mlflow)
        (run,) = client.search_runs(["0", "1"], f"tags.`{RunTags.REPRODUCTION}` = 'bit-identical'")
        assert run.data.tags[RunTags.IMAGE] == past
