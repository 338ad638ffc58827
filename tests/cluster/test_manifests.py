"""The manifests in a dry run on the API server of a real cluster; nothing is created."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.cluster.deployment import kubectl
from tests.containers.ground import Ground
from tests.test_manifests import FOLDER, manifests


@pytest.fixture
def namespace(cluster: Ground) -> Iterator[str]:
    name = f"ml-assets-tests-{uuid4().hex[:12]}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


def test_buildkitd_is_admitted(namespace: str) -> None:
    """The namespace exists, because a server checks that first; fields too new for the test cluster are removed."""
    for manifest in manifests(FOLDER / "buildkitd.yaml"):
        name = {} if manifest["kind"] == "Namespace" else {"namespace": namespace}
        given = {**manifest, "metadata": {**manifest["metadata"], **name}}
        if manifest["kind"] == "Deployment":
            _without_profile(given)
        answer = kubectl("apply", "--dry-run=server", "--output=json", "--filename=-", given=json.dumps(given))
        assert json.loads(answer)["kind"] == manifest["kind"]


def _without_profile(deployment: dict[str, Any]) -> None:
    """Remove AppArmor's profile: servers older than 1.30 accept it only as an annotation."""
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    del container["securityContext"]["appArmorProfile"]
