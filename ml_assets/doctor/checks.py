"""Selects the checks of a target."""

from functools import partial

from ml_assets.doctor import services
from ml_assets.doctor.runner import Check
from ml_assets.target import Target

__all__ = ["checks_of"]


def checks_of(target: Target) -> list[Check]:
    """Return all checks of a target with valid settings, starting with those that others depend on."""
    settings = target.settings
    is_remote = "://" in settings.dvc.remote
    needed = [
        Check("packages", partial(services.packages, settings)),
        Check("database", partial(services.database, target)),
        Check("content", partial(services.content, target), needs=("dvc.fs",) if is_remote else ()),
        Check("tracking", partial(services.tracking, settings), needs=("mlflow",)),
    ]
    if settings.images.builder == "buildkit":
        needed.append(Check("registry", partial(services.registry, target), needs=("requests",)))
    if settings.containers.executor == "processes":
        needed.append(Check("gpu", partial(services.gpu, settings)))
    elif settings.containers.executor == "docker":
        from ml_assets.doctor.docker import engine

        needed.append(Check("docker", partial(engine, settings), needs=("docker",)))
    else:
        from ml_assets.doctor.cluster import Cluster

        cluster, needs = Cluster(settings), ("kubernetes",)
        needed += [
            Check("cluster", cluster.access, needs),
            Check("rights", cluster.rights, needs),
            Check("references", cluster.references, needs),
            Check("pools", cluster.pools, needs),
        ]
    return needed
