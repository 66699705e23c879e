"""Small exposures for the tests: models and files, with window keywords."""

import gzip
import hashlib
import io
from functools import cache

import numpy as np
from astropy.io import fits
from stdatamodels.jwst import datamodels

from webbkg.files.exposures import ExposureInfo
from webbkg.files.windows import Place

DO_NOT_USE = 1

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

SOSS = {
    "meta.instrument.name": "NIRISS",
    "meta.instrument.detector": "NIS",
    "meta.instrument.filter": "CLEAR",
    "meta.instrument.pupil": "GR700XD",
    "meta.exposure.type": "NIS_SOSS",
}
GRISM = {
    "meta.instrument.name": "NIRCAM",
    "meta.instrument.detector": "NRCALONG",
    "meta.instrument.filter": "F356W",
    "meta.instrument.pupil": "GRISMR",
    "meta.exposure.type": "NRC_WFSS",
    "meta.wcsinfo.dispersion_direction": 1,
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
    sci = np.array(sci, dtype=np.float32)
    kind = kind or (datamodels.ImageModel if sci.ndim == 2 else datamodels.CubeModel)
    names = {**meta, **{name.replace("__", "."): value for name, value in more.items()}}
    model = _bare_model(kind, tuple(names.items())).copy()
    # Straight into the tree: setting an attribute would validate each array for 10 ms.
    model.instance["data"] = sci
    model.instance["err"] = np.full_like(sci, 0.25) if err is None else np.array(err, np.float32)
    model.instance["dq"] = np.zeros(sci.shape, np.uint32) if dq is None else np.array(dq, np.uint32)
    if at is not None:
        set_window(model, at, sci.shape[-2:])
    return model


@cache
def _bare_model(kind, meta):
    model = kind()
    for name, value in meta:
        model[name] = value
    return model


def place(window):
    """Tell of a target on a detector window, as its headers would."""
    info = ExposureInfo(
        subarray_xstart=window.x + 1,
        subarray_ystart=window.y + 1,
        subarray_xsize=window.columns,
        subarray_ysize=window.rows,
    )
    return Place("target", info, window.shape)


def set_window(model, at, shape):
    """Set the window keywords: first detector column and row, from 0, and (rows, columns)."""
    model.instance["meta"]["subarray"] = {
        "xstart": at[0] + 1,
        "ystart": at[1] + 1,
        "xsize": shape[1],
        "ysize": shape[0],
    }


def save(model, path):
    """Write a model to `path`, gzipped if its name says so, and return the path."""
    if path.suffix != ".gz":
        model.save(path)
        return path
    plain = io.BytesIO()
    model.to_fits(plain)
    path.write_bytes(gzip.compress(plain.getvalue(), 1))
    return path


def save_multiples(image, folder, **factors):
    """Save an image times each of the factors as a rate file of its name."""
    for name, factor in factors.items():
        save(make_model(factor * image), folder / f"{name}_rate.fits")


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


def soss_sky(tilt):
    """Return a sky of 256 rows whose level jumps at column 700, by row and column else."""
    rows, columns = np.mgrid[:256, :2048]
    level = np.where(columns < 700, 4.0, 6.0)
    return (level + 1e-4 * columns + tilt * (rows - 128) / 128).astype(np.float32)


def soss_library(*tilts):
    """Make a SOSS reference of a sky for each tilt."""
    reference = datamodels.SossBkgModel(data=np.stack([soss_sky(tilt) for tilt in tilts]))
    reference.meta.instrument.name, reference.meta.instrument.detector = "NIRISS", "NIS"
    return reference


def grism_sky(shape, at):
    """Return a sky that is different in every pixel, by detector position."""
    return 1 + ramp(shape, *at) / 1e5


def grism_template(sky, at=None):
    """Make a grism reference; `at` None sets no window keywords."""
    model = datamodels.WfssBkgModel()
    model.data = sky.astype(np.float32)
    model.err = np.full(sky.shape, 1e-3, np.float32)
    model.dq = np.zeros(sky.shape, np.uint32)
    model.meta.instrument.name, model.meta.instrument.detector = "NIRCAM", "NRCALONG"
    if at is not None:
        set_window(model, at, sky.shape)
    return model


def write_mask(path, mask, name="MASK"):
    """Write a user's mask, non-zero for sky, and return the path."""
    plane = fits.ImageHDU(np.asarray(mask, np.uint32), name=name)
    fits.HDUList([fits.PrimaryHDU(), plane]).writeto(path)
    return path
