"""Small exposures for the tests: models and files, with window keywords."""

import hashlib

import numpy as np
from astropy.io import fits
from stdatamodels.jwst import datamodels

DO_NOT_USE = 1
SATURATED = 2
JUMP = 4

IMAGING = {
    "meta.instrument.name": "NIRISS",
    "meta.instrument.detector": "NIS",
    "meta.instrument.filter": "F200W",
    "meta.instrument.pupil": "CLEAR",
    "meta.exposure.type": "NIS_IMAGE",
}
MIRI = {
    "meta.instrument.name": "MIRI",
    "meta.instrument.detector": "MIRIMAGE",
    "meta.instrument.filter": "F560W",
    "meta.exposure.type": "MIR_IMAGE",
}
NIRSPEC = {
    "meta.instrument.name": "NIRSPEC",
    "meta.instrument.detector": "NRS1",
    "meta.instrument.filter": "F100LP",
    "meta.instrument.grating": "G140H",
    "meta.exposure.type": "NRS_IFU",
    "meta.instrument.gwa_xtilt": 0.3618,
    "meta.instrument.gwa_ytilt": 0.1312,
}


def ramp(shape, x=0, y=0):
    """Return 1000 x row + column of the detector, each pixel its own float32 value."""
    rows, columns = shape
    image = 1000.0 * (y + np.arange(rows)[:, np.newaxis]) + (x + np.arange(columns))
    return image.astype(np.float32)


def make_model(sci, err=None, dq=None, *, at=(0, 0), kind=None, meta=IMAGING, **more):
    """Make a data model whose first pixel is detector column and row `at`, from 0.

    `at` None sets no window keywords. `more` names further metadata, dots as double underscores.
    """
    sci = np.asarray(sci, dtype=np.float32)
    kind = kind or (datamodels.ImageModel if sci.ndim == 2 else datamodels.CubeModel)
    err = np.full(sci.shape, 0.25) if err is None else err
    dq = np.zeros(sci.shape) if dq is None else dq
    model = kind(
        data=sci.copy(),
        err=np.array(err, dtype=np.float32),
        dq=np.array(dq, dtype=np.uint32),
    )
    if at is not None:
        set_window(model, at, sci.shape[-2:])
    for name, value in {**meta, **{k.replace("__", "."): v for k, v in more.items()}}.items():
        model[name] = value
    return model


def set_window(model, at, shape):
    """Set the window keywords: first detector column and row, from 0, and (rows, columns)."""
    model.meta.subarray.xstart, model.meta.subarray.ystart = at[0] + 1, at[1] + 1
    model.meta.subarray.ysize, model.meta.subarray.xsize = shape


def save(model, path):
    """Write a model to `path`, and return the path."""
    model.save(path)
    return path


def write_fits(path, sci, err, dq, *, at=(0, 0), planes=("SCI", "ERR", "DQ"), **keywords):
    """Write arrays as they are, without a data model: any dtype, any plane left out."""
    primary = fits.PrimaryHDU()
    primary.header["INSTRUME"], primary.header["DETECTOR"] = "NIRISS", "NIS"
    if at is not None:
        primary.header["SUBSTRT1"], primary.header["SUBSTRT2"] = at[0] + 1, at[1] + 1
        primary.header["SUBSIZE2"], primary.header["SUBSIZE1"] = np.shape(sci)[-2:]
    primary.header.update(keywords)
    arrays = {"SCI": sci, "ERR": err, "DQ": dq}
    images = [fits.ImageHDU(arrays[name], name=name) for name in planes]
    fits.HDUList([primary, *images]).writeto(path)
    return path


def checksum(path):
    """Digest of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
