"""Names of products, as stpipe makes them: for who writes one without a step."""

from __future__ import annotations

import os
from pathlib import Path

from webbkg.files.suffixes import strip_suffix

DEFAULT_SUFFIX = "backgroundstep"


def product_path(
    basis: str | os.PathLike[str],
    suffix: str | None = None,
    *,
    output_dir: str | os.PathLike[str] | None = None,
    extension: str = ".fits",
) -> Path:
    """Name a product after something else: a known suffix goes, another one comes.

    Parameters
    ----------
    basis : path
        The target, an association, or the name that the user gives; of a path the last part
        alone counts, so that a product stays in its folder.
    suffix : str, optional
        By default that of the step.
    output_dir : path, optional
        Environment variables and ``~`` are expanded; the current folder by default.
    extension : str
        Of the product, whatever that of `basis` is.

    Examples
    --------
    >>> product_path("data/jw01_nis_rate.fits.gz", output_dir="out").as_posix()
    'out/jw01_nis_backgroundstep.fits'
    >>> product_path("mine.fits", "bsub").name
    'mine_bsub.fits'
    """
    name = os.path.basename(basis)  # noqa: PTH119 - `Path` would drop a dot at the end
    if name.lower().endswith(".gz"):
        name = name[: -len(".gz")]
    stem, separator = strip_suffix(os.path.splitext(name)[0])  # noqa: PTH122
    folder = Path(os.path.expanduser(os.path.expandvars(output_dir or "")))  # noqa: PTH111
    return folder / f"{stem}{separator}{suffix or DEFAULT_SUFFIX}{extension}"


def plain_ascii(text: str) -> str:
    """Escape what a FITS header cannot hold (FITS standard 4.0, section 4.2.1)."""
    return "".join(c if " " <= c <= "~" else ascii(c)[1:-1] for c in text)
