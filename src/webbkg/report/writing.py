"""Pages as files: named after the product, whole or not at all, and over nothing but pages."""

from __future__ import annotations

from pathlib import Path

from webbkg.errors import OutputError
from webbkg.files import door
from webbkg.files.disk import settle
from webbkg.files.output import writing_whole
from webbkg.report.page import is_own_page

_BEGINNING = 1024


def report_path(product: Path) -> Path:
    """Name the page of a product.

    Examples
    --------
    >>> report_path(Path("out/jw01_nis_backgroundstep.fits")).as_posix()
    'out/jw01_nis_backgroundstep_report.html'
    """
    return product.with_name(f"{product.stem}_report.html")


def may_be_written(path: Path) -> bool:
    """Tell whether a name is free, or that of a page of ours."""
    if not door.exists(path):
        return True
    if not path.is_file():
        return False
    with door.reading(path), path.open("rb") as stream:
        return is_own_page(stream.read(_BEGINNING))


def write_page(page: str, path: Path) -> None:
    """Write a page under its final name, whole or not at all.

    Raises
    ------
    OutputError
        If it cannot be written, or the name is that of a file that is no page of ours.
    """
    if not may_be_written(path):
        raise OutputError(
            f"{path}: is there already, and is no report of webbkg's; move it, or choose another "
            "output_dir"
        )
    with writing_whole([path]) as (partial,), partial.open("wb") as stream:
        stream.write(page.encode("utf-8"))
        settle(stream)
