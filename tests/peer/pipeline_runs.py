"""Run the jwst package's pipelines in a process of their own, and tell what they made.

``python pipeline_runs.py peer|use_in|subclass FOLDER``: with the pipeline's own step, with
webbkg's put into it, or with webbkg's subclasses. One folder for each case; ``told.json`` in it.
"""

import contextlib
import gc
import json
import logging
import os
import sys
import traceback
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from stdatamodels.jwst import datamodels
from stpipe import Step

sys.path.insert(0, str(Path(__file__).parents[1]))

import factories
from crds_cache import Cache, environment
from factories import MIRI, NIRSPEC, make_model, save, soss_library, soss_sky

SHAPE = (24, 32)
WHEN = {"meta.observation.date": "2026-01-01", "meta.observation.time": "00:00:00"}
IMAGING = {
    **WHEN,
    "meta.instrument.name": "NIRCAM",
    "meta.instrument.detector": "NRCBLONG",
    "meta.instrument.filter": "F444W",
    "meta.instrument.pupil": "CLEAR",
    "meta.exposure.type": "NRC_IMAGE",
}
SLITLESS = {
    **MIRI,
    **WHEN,
    "meta.instrument.filter": "P750L",
    "meta.exposure.type": "MIR_LRS-SLITLESS",
}
MRS = {
    **MIRI,
    **WHEN,
    "meta.instrument.detector": "MIRIFUSHORT",
    "meta.instrument.channel": "12",
    "meta.instrument.band": "SHORT",
    "meta.exposure.type": "MIR_MRS",
}
IFU = {**NIRSPEC, **WHEN}
FIXED_SLIT = {**IFU, "meta.exposure.type": "NRS_FIXEDSLIT"}
SOSS = {**WHEN, **factories.SOSS, "meta.subarray.name": "SUBSTRIP256"}


class GivenWcs(Step):
    """Stands in for assign_wcs, whose references there are none of: the target has its WCS."""

    class_alias = "assign_wcs"
    spec = 'output_ext = string(default=".fits")'

    def process(self, target):
        target.meta.cal_step.assign_wcs = "COMPLETE"
        return target


def write_association(name, kind, members):
    listed = [{"expname": expname, "exptype": exptype} for expname, exptype in members]
    header = {"asn_type": kind, "asn_rule": "by hand", "asn_id": "o001", "asn_pool": "none"}
    products = [{"name": name, "members": listed}]
    Path("asn.json").write_text(json.dumps({**header, "program": "1", "products": products}))
    return "asn.json"


def sky_exposures(meta, suffix="rate", shape=SHAPE, number=5):
    """Write a target and backgrounds of a sky with noise and a cosmic ray; return their names."""
    rng = np.random.default_rng(11)
    names = []
    for index in range(number):
        sci = rng.normal(5, 1, shape).astype(np.float32)
        sci[..., 3, 4 + index] = 1000
        dq = np.zeros(shape, np.uint32)
        dq[..., 7, 8] = 4 * (index == 2)
        names.append(f"sky{index}_{suffix}.fits")
        save(make_model(sci, None, dq, at=(100, 200), meta=meta), Path(names[-1]))
    return names


def with_backgrounds(meta, kind, more=(), **exposures):
    target, *backgrounds = sky_exposures(meta, **exposures)
    members = [(target, "science"), *((name, "background") for name in backgrounds), *more]
    return write_association("made", kind, members)


def case_image():
    return with_backgrounds(IMAGING, "image2")


def case_image_alone():
    return write_association("made", "image2", [(sky_exposures(IMAGING)[0], "science")])


def case_slit():
    return with_backgrounds(FIXED_SLIT, "spec2")


def case_time_series():
    return with_backgrounds(SLITLESS, "spec2", suffix="rateints", shape=(4, *SHAPE))


def case_ifu():
    return with_backgrounds(IFU, "spec2")


def case_ifu_open():
    """Let badpix_selfcal run, after which the pipeline hands the backgrounds on as open models."""
    return with_backgrounds(MRS, "spec2", more=[("sky4_rate.fits", "selfcal")])


def case_grism():
    for name in ("cat.ecsv", "target_rate.fits"):
        Path(name).symlink_to(Path("../../prepared") / name)
    for name in ("segm.fits", "direct_i2d.fits"):
        save(make_model(np.ones(SHAPE)), Path(name))
    members = [("target_rate.fits", "science"), ("cat.ecsv", "sourcecat")]
    members += [("segm.fits", "segmap"), ("direct_i2d.fits", "direct_image")]
    return write_association("made", "spec2", members)


def case_soss():
    rng = np.random.default_rng(5)
    cube = 0.9 * soss_sky(0.3) + rng.normal(0, 0.02, (3, 256, 2048))
    cube[:, 120:160] += 50
    save(make_model(cube, meta=SOSS, at=(0, 1792)), Path("soss_rateints.fits"))
    return write_association("made", "spec2", [("soss_rateints.fits", "science")])


def case_skip():
    return case_slit()


def case_hooks():
    """A hook before the step that takes 1 off, one after it that adds 100."""
    return case_slit()


def case_model():
    """An open model instead of an association; it has no backgrounds."""
    return datamodels.open(sky_exposures(FIXED_SLIT)[0])


MINUS_ONE = "hooks_for_a_test.minus_one"
PLUS_HUNDRED = "hooks_for_a_test.plus_hundred"
OPTIONS = {
    "skip": {"skip": True},
    "hooks": {"pre_hooks": [MINUS_ONE], "post_hooks": [PLUS_HUNDRED]},
}
CASES = {name[5:]: case for name, case in globals().items() if name.startswith("case_")}


def write_grism(folder, cache):
    """Write a grism exposure with its catalogue; put its references into a CRDS cache."""

    from webbkg.simulate.grism_scene import NIRCAM_R
    from webbkg.simulate.sources import Population
    from webbkg.simulate.wfss import draw_field, observe, write_field

    few = Population(stars=20, galaxies=10, faintest=100.0, brightest=20000.0)
    scene = replace(NIRCAM_R, population=few)
    files = write_field(folder, observe(draw_field(scene, 3)))
    for kind, made in (("bkg", files.template), ("wavelengthrange", files.wavelengthrange)):
        name = f"jwst_nircam_{kind}_0001{made.suffix}"
        made.rename(cache.path("nircam", name))
        cache.add("nircam", kind, {"NRC_WFSS": name, "NRC_IMAGE": "N/A"})


def write_soss_library(cache):
    reference = soss_library(0.0, 0.3, 0.6)
    reference.save(cache.path("niriss", "jwst_niriss_bkg_0001.fits"))
    cache.add("niriss", "bkg", {"NIS_SOSS": "jwst_niriss_bkg_0001.fits"})


def prepare(folder):
    """Write what the cases share, and return the environment of the processes that run them."""
    cache = Cache(folder / "cache")
    write_grism(folder / "prepared", cache)
    write_soss_library(cache)
    cache.add("niriss", "wavelengthrange", {"NIS_SOSS": "N/A"})
    for kind in ("bkg", "wavelengthrange"):
        cache.add("nirspec", kind, dict.fromkeys(("NRS_IFU", "NRS_FIXEDSLIT"), "N/A"))
        cache.add("miri", kind, dict.fromkeys(("MIR_LRS-SLITLESS", "MIR_MRS"), "N/A"))
    (folder / "hooks_for_a_test.py").write_text(
        "def minus_one(target, *others):\n"
        "    target.data -= 1\n\n\n"
        "def plus_hundred(result):\n"
        "    result.data += 100\n"
        "    return result\n"
    )
    return {
        **environment(cache),
        "STPIPE_DISABLE_CRDS_STEPPARS": "true",
        "CRDS_OBSERVATORY": "jwst",
        "PYTHONPATH": str(folder),
    }


def pipelines(which):
    """Return the two pipelines with the step that is asked for."""
    from jwst import pipeline

    import webbkg

    if which == "subclass":
        from webbkg import pipelines as ready

        return {"image2": ready.Image2Pipeline, "spec2": ready.Spec2Pipeline}
    if which == "use_in":
        webbkg.use_in(pipeline.Image2Pipeline)
        webbkg.use_in(pipeline.Spec2Pipeline)
    return {"image2": pipeline.Image2Pipeline, "spec2": pipeline.Spec2Pipeline}


def run_case(name, pipeline):
    """Run one case in the current folder; return what is to be told."""
    given = CASES[name]()
    pipeline.step_defs = {**pipeline.step_defs, "assign_wcs": GivenWcs}
    apart = ("assign_wcs", "bkg_subtract", *(["badpix_selfcal"] if name == "ifu_open" else []))
    steps = {step: {"skip": True} for step in pipeline.step_defs if step not in apart}
    if name == "ifu_open":
        steps["badpix_selfcal"] = {"skip": False}
    wanted = {"save_results": True, "save_combined_background": True, **OPTIONS.get(name, {})}
    steps["bkg_subtract"] = wanted
    before = set(os.listdir("."))  # noqa: PTH208
    results = pipeline.call(given, steps=steps, save_results=True)
    made = sorted(set(os.listdir(".")) - before)  # noqa: PTH208
    result = results[0]
    return {
        "files": made,
        "kind": type(result).__name__,
        "steps": dict(result.meta.cal_step.instance),
        "logs": {key: list(lines) for key, lines in result.cal_logs.instance.items()},
        "members": {
            key: getattr(result.meta, key)
            for key in ("source_catalog", "segmentation_map", "direct_image")
        },
        "references": {
            kind: result.meta.ref_file.instance.get(kind, {}).get("name")
            for kind in ("bkg", "wavelengthrange")
        },
        "scale": result.meta.background.scaling_factor,
    }


def main():
    which, folder = sys.argv[1], Path(sys.argv[2])
    warnings.simplefilter("ignore")
    logging.getLogger("CRDS").setLevel(logging.CRITICAL)
    ready = pipelines(which)
    gc.freeze()
    folder.mkdir()
    for name in sys.argv[3:] or CASES:
        (folder / name).mkdir()
        with contextlib.chdir(folder / name):
            pipeline = ready["image2" if name.startswith("image") else "spec2"]
            try:
                told = run_case(name, pipeline)
            except Exception:
                told = {"error": traceback.format_exc()}
            Path("told.json").write_text(json.dumps(told))
        gc.collect()
        gc.freeze()  # each of a pipeline's steps begins with a search through all that is there


if __name__ == "__main__":
    main()
