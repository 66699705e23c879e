"""Small files with the headers of exposures, for the tests of the planner."""

import math

import numpy as np
from astropy.io import fits

BASE = {
    "INSTRUME": "MIRI",
    "DETECTOR": "MIRIMAGE",
    "EXP_TYPE": "MIR_IMAGE",
    "FILTER": "F770W",
    "SUBSTRT1": 1,
    "SUBSTRT2": 1,
    "SUBSIZE1": 4,
    "SUBSIZE2": 3,
    "READPATT": "FASTR1",
    "PROGRAM": "01234",
    "OBSERVTN": "001",
    "VISIT": "001",
    "VISITGRP": "02",
    "SEQ_ID": "1",
    "ACT_ID": "01",
    "TARGPROP": "STAR",
    "BKGDTARG": False,
    "DATAMODL": "ImageModel",
}


def expose(folder, number=1, *, kind="rate", name=None, at=(0.0, 0.0), shape=(3, 4), **keywords):
    """Write an exposure that points `at` an offset (arcsec), and return its path."""
    header = {**BASE, "EXPOSURE": str(number), "EXPSTART": 60000 + number / 100, **keywords}
    stem = f"jw{header['PROGRAM']}{header['OBSERVTN']}{header['VISIT']}_02101_{number:05d}"
    path = folder / (name or f"{stem}_{header['DETECTOR'].lower()}_{kind}.fits")
    path.parent.mkdir(parents=True, exist_ok=True)
    primary = fits.PrimaryHDU()
    primary.header.update({word: value for word, value in header.items() if value is not None})
    image = fits.ImageHDU(np.zeros(shape, np.float32), name="SCI")
    image.header["BUNIT"] = header.get("BUNIT", "DN/s")
    if at is not None:
        image.header["RA_V1"] = 10 + at[0] / 3600 / math.cos(math.radians(20))
        image.header["DEC_V1"] = 20 + at[1] / 3600
    fits.HDUList([primary, image]).writeto(path)
    return path


def who(plan):
    """Return what is subtracted from what: background names by target."""
    return {member.target: member.backgrounds for group in plan.groups for member in group.members}


def reasons(plan):
    return {one.file: one.reason for one in plan.left_out}
