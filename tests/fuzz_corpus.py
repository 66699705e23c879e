"""Small valid files of every kind, for the fuzzer to damage."""

import gzip
import json

import asdf
import numpy as np
from astropy import coordinates as coord
from astropy import units as u
from astropy.io import fits
from astropy.modeling.models import Identity, Mapping, Scale, Shift
from astropy.table import QTable
from gwcs import WCS
from gwcs import coordinate_frames as frames
from stdatamodels.jwst import datamodels

from factories import GRISM, IMAGING, MIRI, NIRSPEC, SOSS, make_model, ramp, save

SHAPE = (20, 30)


def build(folder):
    """Write the files into a folder."""
    rng = np.random.default_rng(1)
    for name, meta in (("t", IMAGING), ("s", NIRSPEC), ("m", MIRI)):
        save(make_model(ramp(SHAPE), meta=meta), folder / f"{name}_rate.fits")
    save(make_model(ramp(SHAPE)), folder / "z_rate.fits.gz")
    save(make_model(np.stack([ramp(SHAPE)] * 3)), folder / "c_rateints.fits")
    for number in (1, 2):
        noise = rng.normal(size=SHAPE).astype(np.float32)
        save(make_model(noise, at=(3 * number, 0)), folder / f"b{number}_rate.fits")
    own = rng.uniform(size=SHAPE).astype(np.float32)
    save(make_model(own), folder / "own.fits")
    make_model(ramp(SHAPE)).save(folder / "a_rate.asdf")
    (folder / "asn.json").write_text(json.dumps(association("t", "b1", "b2"), indent=1))
    _build_grism(folder, rng)
    _build_soss(folder)
    _build_parameters(folder)


def association(target, *backgrounds, **more):
    members = [{"expname": f"{target}_rate.fits", "exptype": "science"}]
    members += [{"expname": f"{name}_rate.fits", "exptype": "background"} for name in backgrounds]
    members += [{"expname": name, "exptype": kind} for kind, name in more.items()]
    return {"asn_id": "a1", "asn_pool": "p", "products": [{"name": "x", "members": members}]}


def _build_grism(folder, rng):
    target = make_model(1 + 0.01 * rng.normal(size=SHAPE), at=(300, 700), meta=GRISM)
    target.meta.source_catalog = "cat.ecsv"
    target.meta.wcs = grism_wcs()
    save(target, folder / "g_rate.fits")
    template = datamodels.WfssBkgModel()
    template.data = np.ones((40, 50), np.float32) + ramp((40, 50)) / 1e6
    template.err, template.dq = template.data * 0.001, np.zeros((40, 50), np.uint32)
    template.meta.instrument.name, template.meta.instrument.detector = "NIRCAM", "NRCALONG"
    template.meta.subarray.instance.update(xstart=295, ystart=695, xsize=50, ysize=40)
    template.save(folder / "bkg.fits")
    mask = np.ones(SHAPE, np.uint32)
    mask[:, :4] = 0
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(mask, name="MASK")]).writeto(
        folder / "mask.fits"
    )
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(mask.astype("i4"), name="MASK")]).writeto(
        folder / "tiles.fits"
    )
    asdf.AsdfFile({"mask": mask}).write_to(folder / "mask.asdf")
    _catalog().write(folder / "cat.ecsv", format="ascii.ecsv")
    (folder / "cat.ecsv.gz").write_bytes(gzip.compress((folder / "cat.ecsv").read_bytes()))
    (folder / "gasn.json").write_text(
        json.dumps(association("g", sourcecat="cat.ecsv", segmap="seg.fits"))
    )
    ranges = datamodels.WavelengthrangeModel(
        extract_orders=[["F356W", [1, 2]]],
        wrange=[[1, "F356W", 3.1, 4.0], [2, "F356W", 3.1, 4.0]],
        order=[1, 2],
        wrange_selector=["F356W"],
        wunits="um",
    )
    ranges.save(folder / "ranges.asdf")
    np.save(folder / "sky.npy", np.ones(SHAPE))
    fits.PrimaryHDU(np.ones(SHAPE, np.float32)).writeto(folder / "sky.fits")


def _catalog():
    table = QTable({"label": np.arange(1, 6)})
    for corner, dx, dy in (("ll", -1, -1), ("lr", 1, -1), ("ul", -1, 1), ("ur", 1, 1)):
        step = 3e-5
        table[f"sky_bbox_{corner}"] = coord.SkyCoord(
            (53.001 + step * (np.arange(5) + dx)) * u.deg,
            (-27.799 + step * dy + np.zeros(5)) * u.deg,
        )
    table["isophotal_abmag"] = np.linspace(20, 25, 5)
    return table


def grism_wcs():
    """Return a WCS whose inverse leads from ra, dec, wavelength and order to x and y."""
    back = (
        Shift(-53.0) & Shift(27.8) & Identity(2)
        | Scale(1e4) & Scale(1e4) & Identity(2)
        | Mapping((0, 1, 0, 1, 3))
    )
    forward = Mapping((0, 1, 0, 4), n_inputs=5) | Shift(53.0) & Shift(-27.8) & Identity(2)
    forward.inverse = back
    grism = frames.CompositeFrame(
        [
            frames.Frame2D(name="grism", axes_order=(0, 1), unit=(u.pix, u.pix)),
            frames.Frame2D(name="direct", axes_order=(2, 3), unit=(u.pix, u.pix)),
            frames.CoordinateFrame(
                1, "SPATIAL", (4,), unit=(u.one,), axes_names=("order",), name="order"
            ),
        ],
        name="grism_detector",
    )
    sky = frames.CelestialFrame(reference_frame=coord.ICRS(), name="sky", unit=(u.deg, u.deg))
    spectral = frames.SpectralFrame(axes_order=(2,), unit=(u.micron,), name="wavelength")
    order = frames.CoordinateFrame(1, "SPATIAL", (3,), unit=(u.one,), name="order")
    world = frames.CompositeFrame([sky, spectral, order], name="world")
    return WCS([(grism, forward), (world, None)])


def _build_soss(folder):
    shape = (96, 2048)
    sky = np.where(np.arange(2048) < 700, 2.0, 2.1) * np.ones(shape)
    noise = np.random.default_rng(2).normal(size=(2, *shape))
    save(make_model(1.5 * sky + 0.3 * noise, meta=SOSS), folder / "o_rateints.fits")
    library = datamodels.SossBkgModel(np.stack([sky, 1.1 * sky]).astype(np.float32))
    library.meta.instrument.name, library.meta.instrument.detector = "NIRISS", "NIS"
    library.save(folder / "sossbkg.fits")


def _build_parameters(folder):
    (folder / "p.cfg").write_text(
        'name = "BackgroundStep"\nclass = "webbkg.step.BackgroundStep"\nsigma = 2.5\nmaxiters = 4\n'
    )
    from webbkg import BackgroundStep

    step = BackgroundStep()
    step.export_config(str(folder / "p.asdf"))
