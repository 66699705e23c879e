"""How many cores a process may use, on systems made of removed functions and false files."""

from __future__ import annotations

import os

import pytest

from webbkg.numerics import cores
from webbkg.numerics.parallel import available_threads, use_threads


@pytest.fixture(autouse=True)
def _system_of_16_cores(tmp_path, monkeypatch):
    """Without quotas, until a test writes some."""
    monkeypatch.setattr(cores, "GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(cores, "MOUNT", tmp_path / "mount")
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


def write(folder, name, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def test_cores_are_those_of_the_affinity():
    assert cores.usable_cores() == available_threads() == 16
    with use_threads(3):
        assert available_threads() == 3


def test_where_there_is_no_affinity_all_cores_count(monkeypatch):
    """As on macOS."""
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 10)
    assert cores.usable_cores() == 10
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores.usable_cores() == 1


def test_the_interpreters_own_count_comes_first(monkeypatch):
    """From Python 3.13 on."""
    monkeypatch.setattr(os, "process_cpu_count", lambda: 5, raising=False)
    assert cores.usable_cores() == 5


@pytest.mark.parametrize(
    ("quota", "count"),
    [
        ("400000 100000\n", 4),
        ("150000 100000\n", 2),
        ("5000 100000\n", 1),
        ("max 100000\n", 16),
        ("9900000 100000\n", 16),
        ("", 16),
        ("nonsense", 16),
        ("100000 0", 16),
    ],
)
def test_a_quota_of_version_2(quota, count):
    write(cores.MOUNT / "job.slice" / "step", "cpu.max", quota)
    cores.GROUPS.write_text("0::/job.slice/step\n")
    assert cores.usable_cores() == count


def test_the_quotas_above_a_group_hold_as_well():
    write(cores.MOUNT / "job.slice" / "step", "cpu.max", "max 100000")
    write(cores.MOUNT / "job.slice", "cpu.max", "300000 100000")
    cores.GROUPS.write_text("0::/job.slice/step\n")
    assert cores.usable_cores() == 3


@pytest.mark.parametrize(("quota", "count"), [("200000", 2), ("-1", 16), ("50000", 1)])
@pytest.mark.parametrize("path", ["/", "/docker/of/the/host"])
def test_a_quota_of_version_1(quota, count, path):
    """In a container the path is the host's, and the quota lies in the topmost folder."""
    write(cores.MOUNT / "cpu,cpuacct", "cpu.cfs_quota_us", quota)
    write(cores.MOUNT / "cpu,cpuacct", "cpu.cfs_period_us", "100000")
    cores.GROUPS.write_text(f"9:cpuset:/\n4:cpu,cpuacct:{path}\n1:name=systemd:/x:y\n0::/\n")
    assert cores.usable_cores() == count


def test_a_strange_list_of_groups_limits_nothing():
    cores.GROUPS.write_text("no groups here\n")
    assert cores.usable_cores() == 16
