"""Which files are exposures that something can be subtracted from, and why the others are not."""

from __future__ import annotations

from collections.abc import Iterable

from webbkg.batch.headers import Facts
from webbkg.modes import SOSS, find_mode

IMAGING = {
    *("FGS_IMAGE", "MIR_4QPM", "MIR_IMAGE", "MIR_LYOT", "NIS_AMI", "NIS_IMAGE", "NRC_CORON"),
    *("NRC_IMAGE", "NRC_TSIMAGE"),
}
SPECTROSCOPY = {
    *("MIR_LRS-FIXEDSLIT", "MIR_LRS-SLITLESS", "MIR_MRS", "MIR_WFSS", "NIS_SOSS", "NIS_WFSS"),
    *("NRC_TSGRISM", "NRC_WFSS", "NRS_BRIGHTOBJ", "NRS_FIXEDSLIT", "NRS_IFU", "NRS_MSASPEC"),
}
"""EXP_TYPE of science exposures, by the pipeline that reduces them (stage 2, image2 and spec2).

Source: the JWST pipeline's documentation, "Pipeline classes and configuration files". All others
are calibrations, target acquisitions and guide star data.
"""

SERIES = ("rateints", "rate", "calints", "cal")
SINGLE = ("rate", "rateints", "cal", "calints")
"""Products that can be subtracted from, the one that is taken first first."""


def unfit(facts: Facts) -> str | None:
    """Say why nothing can be subtracted from a file; None if something can."""
    info, product = facts.info, facts.product
    reference = facts.text("REFTYPE")
    if reference is not None:
        return f"is a reference file (REFTYPE {reference})"
    if product and product not in SINGLE:
        return f"is a product of the kind {product}; rate, rateints and cal products are planned"
    if facts.axes not in (2, 3):
        told = f"{facts.axes} axes" if facts.axes else "no SCI image"
        return f"has {told}; rate, rateints and cal products have 2 or 3"
    missing = [
        word
        for word, value in (
            ("INSTRUME", info.instrument),
            ("DETECTOR", info.detector),
            ("EXP_TYPE", info.exposure_type),
        )
        if not value
    ]
    if missing:
        return f"its header lacks {', '.join(missing)}; set what is missing"
    if info.exposure_type not in IMAGING | SPECTROSCOPY:
        return f"is no science exposure (EXP_TYPE {info.exposure_type})"
    if facts.values.get("IS_IMPRT") is True:
        return "is an imprint exposure (IS_IMPRT), which no sky has reached"
    if info.bkg_subtract == "COMPLETE":
        return "its background is subtracted already (S_BKDSUB = COMPLETE)"
    if facts.values.get("S_RESAMP") == "COMPLETE":
        return "is resampled (S_RESAMP = COMPLETE); plan the exposures that it is made from"
    return None


def without_doubles(exposures: Iterable[Facts]) -> tuple[list[Facts], list[tuple[Facts, str]]]:
    """Keep one product of each exposure: its rate, or its rateints for a SOSS series.

    All segments of that product are kept.

    Returns
    -------
    kept : list of Facts
        In the order of their names.
    doubles : list of (Facts, str)
        The others, and why.
    """
    first: dict[object, Facts] = {}
    kept: dict[object, Facts] = {}
    doubles = []
    for facts in sorted(exposures, key=_preferred):
        key = exposure_of(facts)
        best = first.setdefault(key, facts)
        segment = key, facts.info.segment
        if facts.product != best.product or segment in kept:
            other = kept.get(segment, best).path.name
            doubles.append((facts, f"is of the same exposure as {other}, which is planned"))
        else:
            kept[segment] = facts
    return sorted(kept.values(), key=by_name), doubles


def exposure_of(facts: Facts) -> object:
    """Return what the products of one exposure have in common; the file, if nothing tells."""
    info = facts.info
    if info.identity is None:
        return facts.path
    return info.exposure, info.exposure_type, info.filter, info.pupil, info.grating


def _preferred(facts: Facts) -> tuple[int, str, str]:
    series = find_mode(facts.info.exposure_type) is SOSS
    order = (*(SERIES if series else SINGLE), "")
    return (order.index(facts.product), *by_name(facts))


def by_name(facts: Facts) -> tuple[str, str]:
    """Return what exposures are sorted by: the name of the file, then its folder."""
    return facts.path.name, str(facts.path)
