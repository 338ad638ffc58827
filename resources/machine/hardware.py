"""The machine of a step: its available hardware, and the thread limits of numerical libraries.

It is cheap enough for every step and imports no library: accelerators are read from the driver's own files.
"""

import platform
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from ml_assets.resources.machine.limits import ProcessLimits, read_kernel_file
from ml_assets.resources.provenance import Hardware, Threads

__all__ = ["hardware", "threads"]

_ROOT = Path("/")
_DRIVER_VERSION = re.compile(r"Kernel Module.*?\s(\d+\.\d[\d.]*)\s")


def hardware(root: Path = _ROOT) -> Hardware:
    """Return the machine's hardware, limited by CPU affinity and by a container's control group (version 1 or 2).

    Args:
        root: parent of ``proc``, ``sys`` and ``dev``.
    """
    limits = ProcessLimits(root)
    accelerators = tuple(_nvidia(root))
    driver = _DRIVER_VERSION.search(read_kernel_file(root / "proc/driver/nvidia/version")) if accelerators else None
    return Hardware(
        architecture=platform.machine(),
        system=f"{platform.system()} {platform.release()}",
        processor=_processor(root),
        cpus=limits.cpus(),
        memory_bytes=min(_memory(root), limits.memory()),
        accelerators=accelerators,
        driver=driver[1] if driver else None,
        cuda=_cuda() if accelerators else None,
    )


def threads(variables: Mapping[str, str]) -> Threads:
    """Return the thread limits of numerical libraries.

    Args:
        variables: environment variables such as ``OMP_NUM_THREADS``, where set.

    Returns:
        The variables, and the threads of each BLAS and OpenMP library that this process has loaded, by its file's stem.
        There are none without NumPy, which includes them, or threadpoolctl, which queries them.
    """
    return Threads(variables=dict(variables), libraries=_loaded_libraries())


def _loaded_libraries() -> dict[str, int]:
    if "numpy" not in sys.modules:
        return {}
    try:
        from threadpoolctl import threadpool_info  # type: ignore[import-untyped]  # published without types
    except ImportError:
        return {}
    found = {Path(library["filepath"]).stem: int(library["num_threads"]) for library in threadpool_info()}
    return dict(sorted(found.items()))


def _memory(root: Path) -> int:
    for line in read_kernel_file(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    import psutil

    return int(psutil.virtual_memory().total)


def _processor(root: Path) -> str:
    for line in read_kernel_file(root / "proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Hardware", "cpu model"):
            return value.strip()
    return platform.processor() or platform.machine()


def _nvidia(root: Path) -> Iterator[str]:
    """Return the models of the GPUs that the NVIDIA driver manages (``/proc/driver/nvidia/gpus/<bus>/information``).

    A container sees all of its machine's GPUs there, but has devices only for its own.
    """
    for file in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
        lines = (line.partition(":") for line in read_kernel_file(file).splitlines())
        told = {name.strip(): value.strip() for name, _, value in lines}
        if "Model" in told and (root / f"dev/nvidia{told.get('Device Minor', '')}").exists():
            yield told["Model"]


def _cuda() -> str | None:
    """Return the newest CUDA that the driver supports (``cuDriverGetVersion``, which needs no initialization)."""
    import ctypes

    version = ctypes.c_int()
    try:
        if ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version)):
            return None
    except (OSError, AttributeError):
        return None
    return f"{version.value // 1000}.{version.value % 1000 // 10}"
