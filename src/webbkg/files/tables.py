"""Small tables as ECSV, which astropy and any reader of text can read (APE 6, version 1.0)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

FIRST_LINE = "# %ECSV 1.0"
SOFTWARE = "webbkg"


@dataclass(frozen=True)
class Column:
    """A column of integers or floats, what it is, and its unit; no unit for plain numbers."""

    name: str
    values: Sequence[int | float]
    description: str
    unit: str = ""

    @property
    def _head(self) -> dict[str, str]:
        kind = "int64" if all(isinstance(value, int) for value in self.values) else "float64"
        unit = {"unit": self.unit} if self.unit else {}
        return {"name": self.name, **unit, "datatype": kind, "description": self.description}


@dataclass(frozen=True)
class Table:
    """Columns of one length, and plain values that go with them."""

    columns: Sequence[Column]
    meta: Mapping[str, Any]

    def write(self, stream: IO[bytes]) -> None:
        """Write it to an open, empty file; floats with all their digits.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        # JSON is YAML too, and quotes what needs it.
        heads = [f"# - {json.dumps(column._head)}" for column in self.columns]
        lines = [FIRST_LINE, "# ---", "# datatype:", *heads, f"# meta: {json.dumps(self.meta)}"]
        lines += ["# schema: astropy-2.0", " ".join(column.name for column in self.columns)]
        rows = zip(*(column.values for column in self.columns), strict=True)
        lines += [" ".join(map(repr, row)) for row in rows]
        stream.write(("\n".join(lines) + "\n").encode("ascii"))


def is_own_table(path: Path) -> bool:
    """Tell whether a file is a table that webbkg wrote."""
    with path.open("rb") as stream:
        head = stream.read(1 << 16)
    return head.startswith(FIRST_LINE.encode()) and f'"software": "{SOFTWARE} '.encode() in head
