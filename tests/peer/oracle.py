"""The reference implementation, the jwst package, told to live without CRDS."""

import warnings
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

_NO_REFERENCES = {"override_bkg": "N/A", "override_wavelengthrange": "N/A"}


@contextmanager
def _without_crds():
    """Answer for CRDS, and silence what jwst itself warns of."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("STPIPE_DISABLE_CRDS_STEPPARS", "true")
        patch.setattr("stpipe.crds_client.get_context_used", lambda _: "jwst_0000.pmap")
        # Of its averaging: the square of an infinite ERR, the mean of no samples at all.
        warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"jwst\.background")
        # Of NaN and infinite samples, and of an infinite sigma, in the astropy function that it calls.
        warnings.filterwarnings("ignore", message="Input data contains invalid values")
        warnings.filterwarnings("ignore", message="invalid value encountered in _sigma_clip_fast")
        # Of a member of an association whose name has a folder in it.
        warnings.filterwarnings("ignore", message="Input association file contains path")
        yield


def _load():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        pytest.importorskip("jwst", reason="the jwst package (extra 'compare') is not installed")
        from jwst.background import BackgroundStep, background_sub
    return SimpleNamespace(step=BackgroundStep, functions=background_sub)


jwst = _load()


def average(target, backgrounds, sigma=3.0, maxiters=None):
    """Let jwst average backgrounds (open models; it may change them) for a target."""
    with _without_crds():
        return jwst.functions.average_background(target, backgrounds, sigma, maxiters)


def subtract(target, backgrounds, **parameters):
    """Run the jwst step."""
    with _without_crds():
        return jwst.step.call(target, backgrounds, **_NO_REFERENCES, **parameters)


def ask(way_in):
    """Let a function that takes a step class make its own call of the jwst step."""
    with _without_crds():
        return way_in(jwst.step)


def subtract_soss(target, reference, **parameters):
    """Run the jwst step on a SOSS target (both are changed in place) with a template library."""
    with _without_crds(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=RuntimeWarning)
        references = {**_NO_REFERENCES, "override_bkg": reference}
        return jwst.step.call(target, [], **references, **parameters)


def subtract_wfss(target, bkg, wavelengthrange="N/A", **parameters):
    """Run the jwst step on a grism target (it may change it) with these references."""
    with _without_crds(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"jwst|gwcs|numpy")
        references = {"override_bkg": bkg, "override_wavelengthrange": wavelengthrange}
        return jwst.step.call(target, [], **references, **parameters)


def find_jump(template):
    """Let jwst find the step of a SOSS template, row by row."""
    from jwst.background import background_sub_soss

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=RuntimeWarning)
        return background_sub_soss.find_discontinuity(template)[:, 0]
