"""The suffixes of JWST product names, which a new suffix replaces.

Source: what `remove_suffix` of the steps of jwst 3.0.0 answers to the product types of the JWST
pipeline documentation and to the names of that package's steps; the tests compare the two.
An association's ``_asn`` is none of them: its products keep it.
"""

from __future__ import annotations

import re

_PRODUCTS = """
    uncal ramp rate rateints cal calints bsub bsubints i2d s2d s3d x1d x1dints c1d crf crfints cat
    whtlt phot dark blot median psfstack psfalign psfsub ami ami-oi aminorm aminorm-oi wfscmb
"""
_STEPS = """
    adaptive_trace_model align_refs ami_analyze ami_normalize assign_mtwcs assign_wcs
    clean_flicker_noise combine_1d cube_build dark_current dq_init emicorr extract_1d extract_2d
    firstframe flat_field fringe gain_scale group_scale guider_cds hlsp imprint ipc jump klip
    lastframe linearity master_background outlier_detection pathloss persistence photom
    picture_frame ramp_fit refpix resample resample_spec reset residual_fringe rscd saturation
    skymatch source_catalog spectral_leak stackrefs straylight superbias targ_centroid tweakreg
    white_light
"""
_NAMES_ALONE = "bkg_subtract srctype"
_CLASSES_ALONE = """
    backgroundstep badpixselfcalstep barshadowstep chargemigrationstep masterbackgroundmosstep
    msaflagopenstep pixelreplacestep sourcetypestep tsophotometrystep wavecorrstep wfscombinestep
    wfsscontamstep ami3pipeline coron3pipeline darkpipeline detector1pipeline guiderpipeline
    image2pipeline image3pipeline spec2pipeline spec3pipeline tso3pipeline
"""

KNOWN_SUFFIXES = frozenset(
    [
        *f"{_PRODUCTS} {_STEPS} {_NAMES_ALONE} {_CLASSES_ALONE}".split(),
        *(name.replace("_", "") + "step" for name in _STEPS.split()),
    ]
)

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
