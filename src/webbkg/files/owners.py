"""Who works on something: process numbers, and the machine on which they count."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path


def machine() -> str:
    """Name where process numbers are ours: the host, and the container that counts its own."""
    host = re.sub(r"\W", "_", platform.node(), flags=re.ASCII)[:64]
    try:
        return f"{host}_{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return host


def is_dead(pid: int) -> bool:
    """Tell whether there is certainly no process of this number on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):  # another user's; no process number at all
        return False
    return False
