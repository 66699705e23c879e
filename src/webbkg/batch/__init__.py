"""Many exposures: what is subtracted from what, on all cores or a cluster, and taken up again.

The public names are imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "plan": "webbkg.batch.planner",
    "read_plan": "webbkg.batch.planfile",
    "run": "webbkg.batch.runner",
    "write_plan": "webbkg.batch.planfile",
    "write_associations": "webbkg.batch.associations",
    "Group": "webbkg.batch.groups",
    "Kind": "webbkg.batch.groups",
    "LeftOut": "webbkg.batch.groups",
    "Member": "webbkg.batch.groups",
    "Plan": "webbkg.batch.groups",
}

__all__ = [
    "Group",
    "Kind",
    "LeftOut",
    "Member",
    "Plan",
    "plan",
    "read_plan",
    "run",
    "write_associations",
    "write_plan",
]

if TYPE_CHECKING:
    from webbkg.batch.associations import write_associations
    from webbkg.batch.groups import Group, Kind, LeftOut, Member, Plan
    from webbkg.batch.planfile import read_plan, write_plan
    from webbkg.batch.planner import plan
    from webbkg.batch.runner import run


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'webbkg.batch' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
