"""Checks that a pool's steps fit on a node, from the cluster's list of nodes. Pure."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ml_assets.doctor.runner import Finding, fault, ok, warning
from ml_assets.resources.pools import Pool, Toleration, parse_memory

__all__ = ["pool_finding"]

_Json = Mapping[str, Any]
_KEEPS_AWAY = ("NoSchedule", "NoExecute")


def pool_finding(name: str, pool: Pool, nodes: Sequence[_Json]) -> Finding:
    """Return a finding on whether some node serves this pool and is large enough when empty.

    Args:
        name: name of the pool.
        pool: the pool, with the resources that its steps request.
        nodes: nodes as the API server lists them.
    """
    labelled = [node for node in nodes if pool.node_selector.items() <= node["metadata"].get("labels", {}).items()]
    if not labelled:
        wanted = ", ".join(f"{key}={value}" for key, value in pool.node_selector.items())
        return warning(
            f"no node has the labels {wanted} of pool {name}",
            "label its nodes, or correct node_selector; ignore this if an autoscaler adds nodes when needed",
        )
    reasons = {node["metadata"]["name"]: _why_not(node, pool) for node in labelled}
    fitting = sorted(node for node, why in reasons.items() if why is None)
    if fitting:
        return ok(f"pool {name} fits on {', '.join(fitting)}")
    said = "; ".join(f"{node}: {why}" for node, why in sorted(reasons.items()))
    return fault(f"pool {name} fits on none of its nodes ({said})", f"correct [pools.{name}], or the nodes")


def _why_not(node: _Json, pool: Pool) -> str | None:
    if node.get("spec", {}).get("unschedulable"):
        return "it is cordoned"
    for taint in node.get("spec", {}).get("taints") or ():
        if taint["effect"] in _KEEPS_AWAY and not any(_tolerates(each, taint) for each in pool.tolerations):
            return f"its taint {taint['key']} is not tolerated"
    has = node.get("status", {}).get("allocatable", {})
    if _cpus(has.get("cpu", "0")) < pool.cpus:
        return f"it has {has.get('cpu')} of {pool.cpus:g} CPUs"
    memory = has.get("memory", "0")
    if _bytes(memory) < parse_memory(pool.memory):
        return f"it has {memory} of {pool.memory} memory"
    if int(has.get(pool.accelerator_resource, 0)) < pool.accelerators:
        return f"it has {has.get(pool.accelerator_resource, 0)} of {pool.accelerators} {pool.accelerator_resource}"
    return None


def _tolerates(toleration: Toleration, taint: _Json) -> bool:
    if toleration.effect not in (None, taint["effect"]):
        return False
    if toleration.key is None:
        return toleration.operator == "Exists"
    if toleration.key != taint["key"]:
        return False
    return toleration.operator == "Exists" or (toleration.value or "") == taint.get("value", "")


def _cpus(text: str) -> float:
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def _bytes(text: str) -> int:
    # A node without allocatable memory reports 0, which is not a valid request of a pool.
    return 0 if re.fullmatch(r"0\D*", text) else parse_memory(text)
