"""From an outcome to what is told of it: keywords, ASDF tree, HISTORY, log line, summary, JSON.

The one place where results become words.

Each mode has a room of its own; `webbkg.record` has the names that others call.
"""

from __future__ import annotations

from webbkg.record.product import SOFTWARE, Record, members, record
from webbkg.record.soss import time_table
from webbkg.record.telling import as_json, details, lines, log_line, summary, totals

__all__ = [
    "SOFTWARE",
    "Record",
    "as_json",
    "details",
    "lines",
    "log_line",
    "members",
    "record",
    "summary",
    "time_table",
    "totals",
]
