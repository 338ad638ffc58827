"""Order of the files that need an engine or a cluster: the slowest first, so that workers finish at the same time.

`make test-containers` gives each file to the next free worker. To update the order, add up the output of
``--durations=0`` by file; an unlisted file is assumed to be fast.
"""

from collections.abc import Sequence

import pytest

__all__ = ["pytest_collection_modifyitems"]

_FOLDERS = ("tests/cluster/", "tests/containers/")
_LONGEST = (
    "tests/cluster/test_backfill.py",
    "tests/cluster/test_kustomize.py",
    "tests/containers/test_compose.py",
    "tests/cluster/test_kubernetes_executor.py",
    "tests/containers/test_docker_executor.py",
    "tests/cluster/test_images_at_run_time.py",
    "tests/cluster/test_reference_pipeline.py",
    "tests/containers/test_reference_pipeline.py",
    "tests/cluster/test_kubernetes_failures.py",
    "tests/cluster/test_lost_run_workers.py",
    "tests/containers/test_buildkit.py",
    "tests/containers/test_remote_buildkit.py",
    "tests/containers/test_project_images.py",
    "tests/cluster/test_image_assets.py",
    "tests/containers/test_reproduction.py",
    "tests/cluster/test_reproduction.py",
    "tests/containers/test_serve_image.py",
    "tests/containers/test_build_failures.py",
    "tests/cluster/test_deployment.py",
)
_PLACES = {name: place for place, name in enumerate(_LONGEST)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the files of a run that contains no other tests."""
    names = [item.nodeid.partition("::")[0] for item in items]
    if all(name.startswith(_FOLDERS) for name in names):
        items[:] = _sorted(items)


def _sorted(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    # The sort is stable: the order within a file and among unlisted files does not change.
    return sorted(items, key=lambda item: _PLACES.get(item.nodeid.partition("::")[0], len(_PLACES)))
