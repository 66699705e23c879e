"""The command ``webbkg``: it parses, shows progress and prints a summary; no science here.

Each command has a room of its own, which `webbkg.cli.entry` puts under ``webbkg``.
"""

from __future__ import annotations

from webbkg.cli.entry import app, main

__all__ = ["app", "main"]
