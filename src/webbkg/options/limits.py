"""What every mode goes by and nobody sets, with its unit and source."""

from __future__ import annotations

DO_NOT_USE = 1
"""The data-quality bit of a pixel that must not be used (JWST data-quality flags)."""

REFERENCE_PIXEL = 1 << 31
"""The data-quality bit of a pixel that sees no light (JWST data-quality flags)."""

MIN_SEPARATION = 0.5
"""Arcsec. A nod of NIRSpec by one shutter is 0.53 (JWST user documentation, "NIRSpec Micro-Shutter
Assembly": a pitch of 0.53 along the slit), and must pass; a point source fills 0.1 in the near
infrared and up to 0.8 at 25 um (FWHM, 1.03 wavelength / 6.5 m), and must not meet itself."""

PARAMETER_LOOKUP_SECONDS = 10
"""How long CRDS may take to answer for a parameter reference, unless
CRDS_CLIENT_TIMEOUT_SECONDS says otherwise (seconds)."""

REFERENCE_FETCH_SECONDS = 600
"""How long CRDS may take to choose and fetch a reference, unless CRDS_CLIENT_TIMEOUT_SECONDS
says otherwise (seconds)."""
