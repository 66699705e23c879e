"""The suffixes of JWST product names, which a new suffix replaces.

Source: JWST pipeline documentation, "Data Product Types" and "Science products" tables, and the
names of the pipeline's steps.
"""

from __future__ import annotations

import re

_PRODUCTS = """
    uncal ramp rate rateints cal calints bsub bsubints i2d s2d s3d x1d x1dints c1d crf crfints
    cat segm whtlt phot asn pool trapsfilled dark fitopt blot median outlier_i2d outlier_s2d
    psfstack psfalign psfsub ami-oi amimulti-oi aminorm-oi ami-avg ami psf-amiavg gain_scale
    gain_scaleints combinedbackground background
"""
_STEPS = """
    ami_analyze ami_average ami_normalize assign_mtwcs assign_wcs align_refs backgroundstep
    barshadow bkg_subtract badpix_selfcal charge_migration clean_flicker_noise combine_1d
    cube_build cubebuildstep dark_current dq_init emicorr extract_1d extract_2d firstframe
    flat_field fringe gain_scalestep group_scale imprint ipc jump klip lastframe linearity
    master_background master_background_mos msa_flagging nsclean outlier_detection pathloss
    persistence photom picture_frame pixel_replace ramp_fit refpix reset residual_fringe resample
    resample_spec rscd saturation skymatch source_catalog spectral_leak srctype stack_refs
    straylight subtract_images superbias targ_centroid tso_photometry tweakreg wavecorr
    wfss_contam white_light
"""

KNOWN_SUFFIXES = frozenset(
    name
    for step in _STEPS.split()
    for name in (step, step.replace("_", ""), step.replace("_", "") + "step")
) | frozenset(_PRODUCTS.split())

_PATTERN = re.compile(
    rf"^(?P<stem>.+?)(?P<separator>[_-])(?:{'|'.join(sorted(map(re.escape, KNOWN_SUFFIXES)))})$"
)


def strip_suffix(stem: str) -> tuple[str, str]:
    """Split a known suffix off the stem of a file name.

    Returns
    -------
    stem : str
        Without the suffix, and without what separated it.
    separator : str
        That separator, ``_`` where there was no known suffix.

    Examples
    --------
    >>> strip_suffix("jw01093020001_03102_00001_nis_rate")
    ('jw01093020001_03102_00001_nis', '_')
    >>> strip_suffix("my_field")
    ('my_field', '_')
    """
    match = _PATTERN.match(stem)
    if match is None:
        return stem, "_"
    return match["stem"], match["separator"]
