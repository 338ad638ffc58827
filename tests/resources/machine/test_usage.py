import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ml_assets.resources.machine.usage import GpuSampler, Used, process_started_at, sampling_gpus, used

MIB = 2**20


def test_memory_and_cpu_of_a_process_are_those_that_it_took() -> None:
    program = (
        "from ml_assets.resources.machine.usage import used\n"
        "before = used(in_container=False)\n"
        f"ballast = bytearray({300 * MIB})\n"
        "ballast[::4096] = b'x' * len(ballast[::4096])\n"
        "del ballast\n"
        "sum(range(5_000_000))\n"
        "after = used(in_container=False)\n"
        "print(after.memory_peak - before.memory_peak, after.cpu_seconds - before.cpu_seconds, after.whole_container)\n"
    )
    memory, cpu, whole = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert 250 * MIB < int(memory) < 400 * MIB
    assert float(cpu) > 0
    assert whole == "False"


def test_children_count() -> None:
    program = (
        "import subprocess, sys\n"
        "from ml_assets.resources.machine.usage import used\n"
        f"subprocess.check_call([sys.executable, '-c', 'b = bytearray({300 * MIB}); b[::4096] = b[::4096]'])\n"
        "print(used(in_container=False).memory_needed)\n"
    )
    assert int(subprocess.check_output([sys.executable, "-c", program], text=True)) > 290 * MIB


def kernel(root: Path, peak: int, cached: int) -> Path:
    """Write a folder with the files of a container's kernel, because this machine's may be of the other version."""
    for name, text in {
        "proc/self/cgroup": "0::/\n",
        "proc/self/status": "VmHWM:\t  102400 kB\n",
        "sys/fs/cgroup/memory.peak": f"{peak}\n",
        "sys/fs/cgroup/memory.stat": f"active_file {cached}\ninactive_file 0\n",
        "sys/fs/cgroup/cpu.stat": "usage_usec 7000000\n",
    }.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def test_of_a_container_all_processes_count_and_the_cache_of_files_is_not_needed(tmp_path: Path) -> None:
    # Runs in its own process: the tests' process had children, and the largest of them would count.
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from ml_assets.resources.machine.usage import used\n"
        "print(used(in_container=True, root=Path(sys.argv[1])))\n"
    )
    root = kernel(tmp_path, 3000 * MIB, 1000 * MIB)
    found = subprocess.check_output([sys.executable, "-c", program, str(root)], text=True).strip()
    assert found == str(Used(3000 * MIB, 2000 * MIB, 7.0, whole_container=True))


def test_a_plain_process_is_not_measured_by_the_groups_that_it_happens_to_be_in(tmp_path: Path) -> None:
    found = used(in_container=False, root=kernel(tmp_path, 2**60, 0))
    assert found.memory_peak < 2**60
    assert not found.whole_container


def test_the_process_began_before_now() -> None:
    assert datetime(2020, 1, 1, tzinfo=UTC) < process_started_at() < datetime.now(UTC)


def test_gpu_samples_add_up_to_means_and_peaks() -> None:
    sampler = GpuSampler()
    lines = ["1, NVIDIA T4, [N/A], 10, 15360", "0, NVIDIA H100, 40, 1000, 81559", "0, NVIDIA H100, 60, 500, 81559", ""]
    sampler.read(iter(lines))
    first, second = sampler.usage
    assert (first.name, first.utilization_mean, first.utilization_max, first.samples) == ("NVIDIA H100", 50.0, 60.0, 2)
    assert (first.memory_peak_bytes, first.memory_bytes) == (1000 * MIB, 81559 * MIB)
    assert (second.utilization_mean, second.memory_peak_bytes) == (0.0, 10 * MIB)


def test_gpus_are_sampled_while_the_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program is a stand-in, because there is no GPU here; it prints the real one's output and never ends."""
    seen = tmp_path / "seen"
    program = tmp_path / "nvidia-smi"
    program.write_text(
        f'#!/bin/sh\necho "0, NVIDIA T4, 30, 100, 15360"\necho $$ > {seen}.new; mv {seen}.new {seen}\nexec sleep 600\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with sampling_gpus(True) as sampler:
        while not (seen.exists() and sampler.usage):
            time.sleep(0.01)
    (gpu,) = sampler.usage
    assert gpu.utilization_mean == 30.0
    with pytest.raises(ProcessLookupError):
        os.kill(int(seen.read_text()), 0)


def test_without_a_gpu_nothing_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = tmp_path / "started"
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ntouch {started}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with sampling_gpus(False) as sampler:
        pass
    assert sampler.usage == ()
    assert not started.exists()


def test_a_driver_without_its_program_hinders_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with sampling_gpus(True) as sampler:
        pass
    assert sampler.usage == ()
