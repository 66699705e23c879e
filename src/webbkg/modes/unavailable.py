"""The modes that this version does not have."""

from __future__ import annotations

from typing import NoReturn

from webbkg import __version__
from webbkg.errors import UnsupportedModeError
from webbkg.modes import Request, Target


def measure(target: Target, request: Request) -> NoReturn:
    """Refuse the target.

    Raises
    ------
    UnsupportedModeError
        Always.
    """
    raise UnsupportedModeError(
        f"{target.name}: exposures of type {target.info.exposure_type} are not in this version "
        f"of webbkg ({__version__}), which subtracts images and spectra; "
        "use the bkg_subtract step of the jwst package for this one"
    )
