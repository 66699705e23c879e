"""A run: a list of records, each opened, measured, applied, recorded and written once.

Whoever subtracts (the step, the command, a batch) makes items, groups them, and walks the groups:
`process`, then `write`. What a run knows of a target is on its item, and nowhere else. The other
rooms of this package are its own.
"""

from __future__ import annotations

from webbkg.run.items import Item, Setting, grouped, items_of
from webbkg.run.products import (
    BACKGROUND_SUFFIX,
    COMBINED_SUFFIX,
    check_products,
    check_report,
    given_files,
    time_path,
)
from webbkg.run.recording import LineFormatter, finish
from webbkg.run.walk import process, subtract_background
from webbkg.run.writing import write, write_backgrounds

__all__ = [
    "BACKGROUND_SUFFIX",
    "COMBINED_SUFFIX",
    "Item",
    "LineFormatter",
    "Setting",
    "check_products",
    "check_report",
    "finish",
    "given_files",
    "grouped",
    "items_of",
    "process",
    "subtract_background",
    "time_path",
    "write",
    "write_backgrounds",
]
