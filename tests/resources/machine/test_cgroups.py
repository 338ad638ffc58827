from pathlib import Path

import pytest

from ml_assets.resources.machine.cgroups import ControlGroups

MIB = 2**20


def groups(root: Path, files: dict[str, str]) -> ControlGroups:
    """Return the control groups of a folder with a kernel's files: no test can run in groups of both versions."""
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return ControlGroups(root)


VERSION_2 = {
    "proc/self/cgroup": "0::/\n",
    "sys/fs/cgroup/memory.peak": f"{900 * MIB}\n",
    "sys/fs/cgroup/memory.stat": f"anon 5\nfile 7\nactive_file {100 * MIB}\ninactive_file {200 * MIB}\n",
    "sys/fs/cgroup/cpu.stat": "usage_usec 2500000\nuser_usec 2000000\n",
}
VERSION_1 = {
    "proc/self/cgroup": "4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n",
    "sys/fs/cgroup/memory/memory.max_usage_in_bytes": f"{900 * MIB}\n",
    "sys/fs/cgroup/memory/memory.stat": (
        f"active_file 1\ninactive_file 1\ntotal_active_file {100 * MIB}\ntotal_inactive_file {200 * MIB}\n"
    ),
    "sys/fs/cgroup/cpuacct/cpuacct.usage": "2500000000\n",
}


@pytest.mark.parametrize("files", [VERSION_2, VERSION_1], ids=["version 2", "version 1"])
def test_what_a_container_used_is_read_in_both_versions(tmp_path: Path, files: dict[str, str]) -> None:
    found = groups(tmp_path, files)
    assert (found.memory_peak(), found.page_cache(), found.cpu_seconds()) == (900 * MIB, 300 * MIB, 2.5)


def test_the_innermost_group_counts_for_what_was_used(tmp_path: Path) -> None:
    found = groups(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pod/container\n",
            "sys/fs/cgroup/pod/memory.peak": "9\n",
            "sys/fs/cgroup/pod/container/memory.peak": "5\n",
        },
    )
    assert found.memory_peak() == 5


def test_where_the_kernel_counts_nothing_nothing_is_known(tmp_path: Path) -> None:
    found = groups(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.stat": "user_usec 1\n"})
    assert (found.memory_peak(), found.page_cache(), found.cpu_seconds()) == (None, 0, None)
