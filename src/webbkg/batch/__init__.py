"""Programmes: many exposures, planned, run and taken up again; the public names, lazily."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {"run": "webbkg.batch.runner"}

__all__ = ["run"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'webbkg.batch' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
