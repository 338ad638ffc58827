"""Checks of the Docker engine that runs steps: it answers, is large enough for the pools, and has promised GPUs."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from ml_assets.doctor.runner import Finding, clock_finding, fault, ok, warning
from ml_assets.executors.docker import connect, reaching
from ml_assets.resources.pools import Pool, parse_memory
from ml_assets.resources.settings import Settings

__all__ = ["engine"]


def engine(settings: Settings) -> Iterator[Finding]:
    """Check that the engine answers, its machine is large enough, and its network exists."""
    with reaching():
        client = connect()
        info = client.info()
        networks = {each["Name"] for each in client.api.networks()}
    yield ok(f"the Docker engine answers (version {info['ServerVersion']})")
    yield clock_finding("the Docker engine", datetime.fromisoformat(info["SystemTime"][:19] + "+00:00"))
    network = settings.containers.network
    if network is not None and network not in networks and network not in ("host", "none", "bridge"):
        yield fault(f"the engine has no network {network}", f"run docker network create {network}")
    for name, pool in sorted(settings.pools.items()):
        yield _of_pool(name, pool, info)


def _of_pool(name: str, pool: Pool, info: Any) -> Finding:
    cpus, memory = int(info["NCPU"]), int(info["MemTotal"])
    if pool.cpus > cpus:
        return fault(f"pool {name} requests {pool.cpus:g} CPUs, but the machine has {cpus}", f"correct [pools.{name}]")
    if parse_memory(pool.memory) > memory:
        has = f"{memory / 2**30:.1f} GiB"
        return fault(f"pool {name} requests {pool.memory} memory, but the machine has {has}", f"correct [pools.{name}]")
    if pool.accelerators and "nvidia" not in info.get("Runtimes", {}) and not info.get("CDISpecDirs"):
        return warning(
            f"pool {name} requests GPUs, but the engine has no NVIDIA runtime",
            "install the NVIDIA Container Toolkit on its machine, or set accelerators = 0",
        )
    together = (pool.concurrency or 1) * parse_memory(pool.memory)
    if together > memory:
        return warning(
            f"{pool.concurrency} concurrent steps of pool {name} need {together / 2**30:.0f} GiB, "
            f"but the machine has {memory / 2**30:.0f} GiB",
            f"lower concurrency or memory in [pools.{name}]",
        )
    return ok(f"pool {name} fits")
