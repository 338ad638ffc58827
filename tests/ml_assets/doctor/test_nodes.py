from typing import Any

import pytest

from ml_assets.doctor.nodes import pool_finding
from ml_assets.doctor.runner import Severity
from ml_assets.resources.pools import Pool, Toleration

GPU = Pool(
    cpus=4,
    memory="16Gi",
    accelerators=1,
    node_selector={"pool": "gpu"},
    tolerations=(Toleration(key="nvidia.com/gpu"),),
)


def node(name: str = "gpu-0", **changes: Any) -> dict[str, Any]:
    """Return a node on which the pool fits."""
    allocatable = {"cpu": "7910m", "memory": "30Gi", "nvidia.com/gpu": "1", **changes.pop("has", {})}
    spec = {"taints": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}], **changes.pop("spec", {})}
    labels = {"pool": "gpu", **changes.pop("labels", {})}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec, "status": {"allocatable": allocatable}}


def test_a_pool_fits_if_one_of_its_nodes_has_all_that_it_asks_for() -> None:
    found = pool_finding("gpu", GPU, [node("small", has={"cpu": "1"}), node()])
    assert (found.severity, found.what) == (Severity.OK, "pool gpu fits on gpu-0")


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"has": {"cpu": "3910m"}}, "it has 3910m of 4 CPUs"),
        ({"has": {"memory": "8000000Ki"}}, "it has 8000000Ki of 16Gi memory"),
        ({"has": {"memory": "0"}}, "it has 0 of 16Gi memory"),
        ({"has": {"nvidia.com/gpu": "0"}}, "it has 0 of 1 nvidia.com/gpu"),
        ({"spec": {"taints": [{"key": "ml/spot", "effect": "NoSchedule"}]}}, "its taint ml/spot is not tolerated"),
        ({"spec": {"unschedulable": True}}, "it is cordoned"),
    ],
)
def test_a_pool_that_fits_nowhere_is_a_fault_that_says_why(wrong: dict[str, Any], why: str) -> None:
    found = pool_finding("gpu", GPU, [node(**wrong)])
    assert found.severity is Severity.FAULT
    assert found.what == f"pool gpu fits on none of its nodes (gpu-0: {why})"


def test_a_taint_that_only_prefers_others_keeps_nobody_away() -> None:
    soft = node(spec={"taints": [{"key": "x", "effect": "PreferNoSchedule"}]})
    assert pool_finding("gpu", GPU, [soft]).severity is Severity.OK


@pytest.mark.parametrize(
    ("toleration", "severity"),
    [
        (Toleration(), Severity.OK),
        (Toleration(key="a", operator="Equal", value="b"), Severity.OK),
        (Toleration(key="a", operator="Equal", value="c"), Severity.FAULT),
        (Toleration(key="a", effect="NoExecute"), Severity.FAULT),
    ],
)
def test_tolerations_are_read_as_kubernetes_does(toleration: Toleration, severity: Severity) -> None:
    tainted = node(spec={"taints": [{"key": "a", "value": "b", "effect": "NoSchedule"}]})
    assert pool_finding("p", Pool(tolerations=(toleration,)), [tainted]).severity is severity


def test_a_pool_whose_nodes_are_not_there_may_be_one_of_an_autoscaler() -> None:
    found = pool_finding("gpu", GPU, [node(labels={"pool": "cpu"})])
    assert (found.severity, found.what) == (Severity.WARNING, "no node has the labels pool=gpu of pool gpu")
