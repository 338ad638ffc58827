import dagster as dg
import pandas as pd
import pytest

from ml_assets.containers import IMAGES_GROUP, ContainerSpec, image_key
from ml_assets.datasets import dataset
from ml_assets.images import container_image
from resources.errors import DefinitionError
from resources.provenance import CONTAINER_TAG

train_image = container_image("train", dockerfile="Dockerfile.train", sources=["ml_assets"])


@pytest.mark.parametrize(
    "spec",
    [ContainerSpec(), ContainerSpec("images/train"), ContainerSpec(pool="gpu"), ContainerSpec("images/train", "gpu")],
)
def test_spec_comes_back_from_its_tags(spec: ContainerSpec) -> None:
    assert ContainerSpec.from_tags(spec.to_tags()) == spec


def test_empty_spec_leaves_no_tag() -> None:
    assert ContainerSpec().to_tags() == {}


def test_spec_is_an_op_tag_of_the_asset_beside_its_own() -> None:
    @dataset(image=train_image, pool="gpu", op_tags={"queue": "slow"})
    def flights() -> pd.DataFrame:
        return pd.DataFrame()

    assert ContainerSpec.from_tags(flights.op.tags) == ContainerSpec("images/train", "gpu")
    assert flights.op.tags["queue"] == "slow"
    assert CONTAINER_TAG in flights.op.tags
    assert flights.op.pool == "gpu"


def test_image_is_named_by_asset_key_or_text() -> None:
    key = dg.AssetKey(["images", "train"])
    assert image_key(train_image) == image_key(key) == image_key("images/train") == key
    assert train_image.group_names_by_key[key] == IMAGES_GROUP


def test_asset_that_makes_no_image_is_refused() -> None:
    @dg.asset
    def plain() -> None: ...

    with pytest.raises(DefinitionError, match=r"image=plain is not an image asset\. Next: pass what"):
        dataset(image=plain)(lambda: pd.DataFrame())
