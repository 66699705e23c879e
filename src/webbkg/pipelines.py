"""The jwst package's pipelines that subtract backgrounds, with webbkg as their step.

For ``strun webbkg.pipelines.Spec2Pipeline`` and as ``class`` of a parameter file. The names are
those of the originals: by them stpipe finds a pipeline's parameter reference in CRDS.
"""

from jwst import pipeline as _jwst

from webbkg.integration import use_in

__all__ = ["Image2Pipeline", "Spec2Pipeline"]


class Image2Pipeline(_jwst.Image2Pipeline):  # type: ignore[misc]
    """Calibrate imaging exposures, as calwebb_image2 does, with webbkg's bkg_subtract."""


class Spec2Pipeline(_jwst.Spec2Pipeline):  # type: ignore[misc]
    """Calibrate spectroscopic exposures, as calwebb_spec2 does, with webbkg's bkg_subtract."""


for _pipeline in (Image2Pipeline, Spec2Pipeline):
    use_in(_pipeline)
