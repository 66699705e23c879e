"""The whole of calwebb_spec2 that real references allow, of the command line: WCS, then sky."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from stdatamodels.jwst import datamodels

from crds_cache import without_crds
from factories import save
from peer import grism

pytest.importorskip("jwst", reason="the jwst package (extra 'compare') is not installed")

pytestmark = grism.MARKS

STRUN = Path(sys.executable).parent / "strun"


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """Write a grism exposure without WCS, its catalogue, template and association; go there."""
    monkeypatch.chdir(tmp_path)
    save(grism.bare_target("NIRCAM", "F356W", "GRISMR"), tmp_path / "exp_rate.fits")
    grism.template_model("NIRCAM").save("bkg.fits")
    (tmp_path / "cat.ecsv").write_text(grism.CATALOG.read_text())
    named = (("exp_rate.fits", "science"), ("cat.ecsv", "sourcecat"))
    members = [{"expname": path, "exptype": kind} for path, kind in named]
    header = {"asn_type": "spec2", "asn_rule": "by hand", "asn_id": "a1", "asn_pool": "none"}
    association = {**header, "program": "1", "products": [{"name": "exp", "members": members}]}
    (tmp_path / "exp_asn.json").write_text(json.dumps(association))
    return {
        **without_crds(),
        "CRDS_PATH": str(grism.DATA / "crds_cache"),
        "CRDS_CONTEXT": "jwst_0676.pmap",
        "CRDS_SERVER_URL": "https://127.0.0.1:9",
        "STPIPE_DISABLE_CRDS_STEPPARS": "true",
    }


def start(pipeline, environment, folder):
    from jwst.pipeline import Spec2Pipeline

    apart = ("assign_wcs", "bkg_subtract")
    options = [f"--steps.{name}.skip=true" for name in Spec2Pipeline.step_defs if name not in apart]
    options += [
        "--steps.assign_wcs.override_chromcorr=N/A",  # a type that this old context lacks
        "--steps.assign_wcs.sip_approx=false",
        "--steps.bkg_subtract.override_bkg=bkg.fits",
        "--steps.bkg_subtract.save_results=true",
        f"--output_dir={folder}",
    ]
    return subprocess.Popen(
        [STRUN, pipeline, "exp_asn.json", *options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_strun_assigns_the_wcs_and_takes_the_sky_off_a_grism_exposure(environment):
    pipelines = {"theirs": "jwst.pipeline.Spec2Pipeline", "ours": "webbkg.pipelines.Spec2Pipeline"}
    runs = [start(pipeline, environment, folder) for folder, pipeline in pipelines.items()]
    for run in runs:
        told, _ = run.communicate(timeout=300)
        assert run.returncode == 0, told[-3000:]
    theirs, ours = (datamodels.open(f"{folder}/exp_bsub.fits") for folder in pipelines)
    assert ours.meta.cal_step.assign_wcs == ours.meta.cal_step.bkg_subtract == "COMPLETE"
    scales = [model.meta.background.scaling_factor for model in (theirs, ours)]
    assert scales[1] == pytest.approx(scales[0], rel=1e-6)
    assert scales[1] == pytest.approx(grism.SCALE, rel=0.01)
    np.testing.assert_array_equal(ours.mask, theirs.mask)
    np.testing.assert_allclose(ours.data, theirs.data, rtol=1e-5, atol=1e-6)
    for kind in ("bkg", "wavelengthrange"):
        used = [getattr(model.meta.ref_file, kind).name for model in (theirs, ours)]
        assert used[0] == used[1]
