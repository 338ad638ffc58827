import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ml_assets.resources.machine.hardware import hardware, threads

GIB = 1 << 30


class Kernel:
    """A folder with a kernel's files, because a test cannot change this machine's limits."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("proc/meminfo", "MemTotal:       67108864 kB\nMemFree:        1 kB\n")

    def write(self, name: str, text: str) -> None:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    return Kernel(tmp_path)


def test_this_machine_is_described() -> None:
    found = hardware()
    assert 1 <= found.cpus <= (os.cpu_count() or 1)
    assert 0 < found.memory_bytes <= psutil.virtual_memory().total
    assert found.architecture
    assert found.processor
    assert found.system


def test_without_limits_the_whole_machine_counts(kernel: Kernel) -> None:
    found = hardware(kernel.root)
    assert (found.cpus, found.memory_bytes, found.accelerators) == (16, 64 * GIB, ())


def test_limits_of_version_2_bound_the_machine(kernel: Kernel) -> None:
    kernel.write("proc/self/cgroup", "0::/\n")
    kernel.write("sys/fs/cgroup/memory.max", f"{4 * GIB}\n")
    kernel.write("sys/fs/cgroup/cpu.max", "250000 100000\n")
    found = hardware(kernel.root)
    assert (found.cpus, found.memory_bytes) == (3, 4 * GIB)


def test_a_group_above_bounds_too(kernel: Kernel) -> None:
    kernel.write("proc/self/cgroup", "0::/kubepods/pod/container\n")
    kernel.write("sys/fs/cgroup/kubepods/pod/container/memory.max", "max\n")
    kernel.write("sys/fs/cgroup/kubepods/pod/container/cpu.max", "max 100000\n")
    kernel.write("sys/fs/cgroup/kubepods/memory.max", f"{8 * GIB}\n")
    kernel.write("sys/fs/cgroup/kubepods/cpu.max", "400000 100000\n")
    found = hardware(kernel.root)
    assert (found.cpus, found.memory_bytes) == (4, 8 * GIB)


def test_limits_of_version_1_bound_the_machine(kernel: Kernel) -> None:
    kernel.write("proc/self/cgroup", "4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n0::/\n")
    kernel.write("sys/fs/cgroup/memory/memory.limit_in_bytes", f"{2 * GIB}\n")
    kernel.write("sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us", "50000\n")
    kernel.write("sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us", "100000\n")
    kernel.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    kernel.write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    found = hardware(kernel.root)
    assert (found.cpus, found.memory_bytes) == (1, 2 * GIB)


def test_no_limit_is_not_a_limit(kernel: Kernel) -> None:
    kernel.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    kernel.write("sys/fs/cgroup/memory.max", "max\n")
    kernel.write("sys/fs/cgroup/cpu.max", "max 100000\n")
    found = hardware(kernel.root)
    assert (found.cpus, found.memory_bytes) == (16, 64 * GIB)


def gpu(kernel: Kernel, bus: str, model: str, minor: int) -> None:
    kernel.write(
        f"proc/driver/nvidia/gpus/{bus}/information",
        f"Model: \t\t {model}\nIRQ:   \t\t 63\nGPU UUID: \t GPU-0\nDevice Minor: \t {minor}\n",
    )


def test_only_gpus_that_a_container_was_given_count(kernel: Kernel) -> None:
    for minor in (0, 1):
        gpu(kernel, f"0000:0{minor}:00.0", f"NVIDIA T{minor}", minor)
    kernel.write("dev/nvidiactl", "")
    assert hardware(kernel.root).accelerators == ()
    kernel.write("dev/nvidia1", "")
    assert hardware(kernel.root).accelerators == ("NVIDIA T1",)


def test_gpus_are_named_by_the_driver(kernel: Kernel) -> None:
    gpu(kernel, "0000:02:00.0", "NVIDIA T4", 1)
    gpu(kernel, "0000:01:00.0", "NVIDIA H100 80GB HBM3", 0)
    for minor in (0, 1):
        kernel.write(f"dev/nvidia{minor}", "")
    kernel.write(
        "proc/driver/nvidia/version",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.124.06  Release Build  (dvs-builder)\n"
        "GCC version:  gcc version 12.3.0\n",
    )
    found = hardware(kernel.root)
    assert found.accelerators == ("NVIDIA H100 80GB HBM3", "NVIDIA T4")
    assert found.driver == "570.124.06"


def _in_a_fresh_process(script: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **variables}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_threads_of_loaded_libraries_are_asked_for() -> None:
    script = (
        "import numpy\nfrom ml_assets.resources.machine.hardware import threads\n"
        "found = threads({'OPENBLAS_NUM_THREADS': '1'})\n"
        "print(found.variables, len(found.libraries), set(found.libraries.values()))"
    )
    assert _in_a_fresh_process(script, OPENBLAS_NUM_THREADS="1") == "{'OPENBLAS_NUM_THREADS': '1'} 1 {1}"


def test_nothing_heavy_is_imported_to_ask() -> None:
    script = (
        "import sys\nfrom ml_assets.resources.machine.hardware import hardware, threads\n"
        "hardware()\nassert not threads({}).libraries\n"
        "print({'numpy', 'threadpoolctl', 'psutil'} & set(sys.modules))"
    )
    assert _in_a_fresh_process(script) == "set()"


def test_variables_are_kept_as_given() -> None:
    assert threads({"OMP_NUM_THREADS": "2"}).variables == {"OMP_NUM_THREADS": "2"}
