"""Which checks a target needs."""

from functools import partial

from ml_assets.doctor import services
from ml_assets.doctor.runner import Check
from ml_assets.resources.settings import Settings

__all__ = ["checks_of"]


def checks_of(chosen: Settings) -> list[Check]:
    """All checks of a target whose settings could be read, the ones that others rest upon first."""
    is_remote = "://" in chosen.dvc.remote
    needed = [
        Check("packages", partial(services.packages, chosen)),
        Check("database", partial(services.database, chosen), needs=("ml_assets.definitions",)),
        Check("content", partial(services.content, chosen), needs=("dvc.fs",) if is_remote else ()),
        Check("tracking", partial(services.tracking, chosen), needs=("mlflow",)),
    ]
    if chosen.images.builder == "buildkit":
        needed.append(Check("registry", partial(services.registry, chosen), needs=("requests",)))
    if chosen.containers.executor == "processes":
        needed.append(Check("gpu", partial(services.gpu, chosen)))
    elif chosen.containers.executor == "docker":
        from ml_assets.doctor.docker import engine

        needed.append(Check("docker", partial(engine, chosen), needs=("docker",)))
    else:
        from ml_assets.doctor.cluster import Cluster

        cluster, needs = Cluster(chosen), ("kubernetes",)
        needed += [
            Check("cluster", cluster.access, needs),
            Check("rights", cluster.rights, needs),
            Check("references", cluster.references, needs),
            Check("pools", cluster.pools, needs),
        ]
    return needed
