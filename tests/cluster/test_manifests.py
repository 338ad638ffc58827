"""The manifests, as the API server of a real cluster takes them; nothing of them stays."""

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
    """In a namespace that exists, since a server checks that first; without what the test cluster is too old for."""
    for manifest in manifests(FOLDER / "buildkitd.yaml"):
        name = {} if manifest["kind"] == "Namespace" else {"namespace": namespace}
        given = {**manifest, "metadata": {**manifest["metadata"], **name}}
        if manifest["kind"] == "Deployment":
            _without_profile(given)
        answer = kubectl("apply", "--dry-run=server", "--output=json", "--filename=-", given=json.dumps(given))
        assert json.loads(answer)["kind"] == manifest["kind"]


def _without_profile(deployment: dict[str, Any]) -> None:
    """A server older than 1.30 takes AppArmor's profile as an annotation alone."""
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    del container["securityContext"]["appArmorProfile"]
