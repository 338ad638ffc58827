"""`ml-assets reproduce` on a real cluster, with definitions that have changed since the image was built."""

from collections.abc import Callable

from tests.containers.fixtures import OpenKubernetes
from tests.contracts.reproduction import MODULE, NOW, require_reproduction


def test_past_image_gives_the_same_data_and_nothing_is_published(
    open_kubernetes: OpenKubernetes, image_with: Callable[..., str]
) -> None:
    past, today = image_with(MODULE), image_with(MODULE, [NOW])
    with open_kubernetes(MODULE, image=today, variables={"ML_ASSETS__CONTAINERS__IMAGE": past}) as deployment:
        require_reproduction(deployment, past, ["numbers"])
