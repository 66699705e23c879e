"""How many cores this process may use: those of its affinity, and what a CPU quota allows.

A quota is a container's or a batch system's (Linux control groups, versions 1 and 2): so much
time of a core in each period. More threads than that are stopped again and again.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

GROUPS = Path("/proc/self/cgroup")
MOUNT = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Cores that this process may use, at least 1."""
    return max(1, min(_allotted_cores(), math.ceil(min(_quota(), 2**31))))


def _allotted_cores() -> int:
    """Cores by affinity where the system has that (macOS does not), else all there are."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota() -> float:
    """Cores that the quotas of this process's control groups allow; infinite without one."""
    return min((_read_quota(folder) for folder in _group_folders()), default=math.inf)


def _group_folders() -> Iterator[Path]:
    """Folders of the process's groups and of those above them, whose quotas hold as well."""
    try:
        groups = [line.split(":", 2) for line in GROUPS.read_text().splitlines()]
    except (OSError, ValueError):
        return
    for _, controllers, path in (group for group in groups if len(group) == 3):
        if controllers and "cpu" not in controllers.split(","):
            continue
        # In a container the path may be the host's; then only the topmost folder is there.
        folder = MOUNT / controllers
        yield folder
        for name in path.split("/"):
            folder /= name
            yield folder


def _read_quota(folder: Path) -> float:
    try:
        if (folder / "cpu.max").exists():  # version 2: "max 100000" or "150000 100000"
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()  # -1 for none
            period = (folder / "cpu.cfs_period_us").read_text()
        cores = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
    return cores if cores > 0 else math.inf
