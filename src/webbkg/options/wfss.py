"""Grism skies: their parameters and thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from webbkg.errors import OptionError
from webbkg.options.checks import PERCENTAGE, Check
from webbkg.options.table import Options, declare

MINIMUM_SKY_PERCENT = 5.0
"""Share of all pixels that must be usable sky, exclusive, for a WFSS fit outside a catalogue's
boxes (percent); the same as that of the ``jwst`` package."""

FAINTEST = 999.0
"""Magnitude limit where none is given: every source with a real magnitude is brighter."""

WFSS_METHODS: Check = (("standard", "robust").__contains__, "standard or robust")
WFSS_MASKS: Check = (
    ("boxes", "traces", "image", "auto").__contains__,
    "boxes, traces, image or auto",
)
SKY_MODELS = ("template", "templates", "+offset", "+profile", "auto")
WFSS_MODELS: Check = (SKY_MODELS.__contains__, f"one of {', '.join(SKY_MODELS)}")


@dataclass(frozen=True, kw_only=True)
class WfssOptions(Options):
    """How a reference sky is scaled to a grism exposure.

    Attributes
    ----------
    method : str
        ``standard``, as prescribed, or ``robust``: with the noise of the model, and without the
        strips along dispersion that stand out. The latter has no use for `maxiter`, `rms_stop`
        and `outlier_percent`.
    mask_from : str
        What tells sky from sources. ``boxes``: those of the catalogue, as prescribed. Of the
        method robust also ``traces``: the pixels with the least light that the catalogue
        predicts; ``image``: the image itself. ``auto``: traces where there is a catalogue, else
        the image; of the method standard, boxes. A mask of the user's comes before all of them.
    model : str
        What is fitted: ``template``, scaled. Of the method robust also ``+offset``: and a
        constant; ``+profile``: and a smooth vector along dispersion; ``templates``: several that the call
        gives, none with a scale below 0. ``auto``: the simplest of them that foretells held-out
        blocks of the image as well as the others; of the method standard, template.
    mmag_extract : float or None
        Sources of this AB magnitude and fainter are not masked; None, and NaN, mask all.
    mask : str or None
        File whose MASK extension is not 0 where sky; replaces the catalogue's mask.
    maxiter : int
        Largest number of outlier rejections; none for 0 and less.
    rms_stop : float
        Stop when the RMS improves by less than this (percent); never for 0 and less.
    outlier_percent : float
        Share of the fit pixels rejected at each end in each iteration (percent, 0 to 100; from
        50 on hardly a pixel is left).
    """

    prefix: ClassVar[str] = "wfss_"
    method: str = declare(
        "standard",
        "option('standard', 'robust')",
        "WFSS: how the scale is fitted, standard or robust",
        check=WFSS_METHODS,
    )
    mask_from: str = declare(
        "boxes",
        "option('boxes', 'traces', 'image', 'auto')",
        "WFSS: what tells sky from sources: boxes, traces, image or auto",
        check=WFSS_MASKS,
    )
    model: str = declare(
        "template",
        f"option({', '.join(map(repr, SKY_MODELS))})",
        "WFSS: what is fitted: template, templates, +offset, +profile or auto",
        check=WFSS_MODELS,
    )
    mode: ClassVar[str] = "wfss"
    mmag_extract: float | None = declare(
        None,
        "float",
        "WFSS: sources of this AB magnitude and fainter are not masked; None: all are",
    )
    mask: str | None = declare(
        None, "string", "WFSS: file whose MASK extension is not 0 for sky, and 0 for source"
    )
    maxiter: int = declare(5, "integer", "WFSS: most outlier rejections; 0 for none")
    rms_stop: float = declare(
        0.0,
        "float",
        "WFSS: stop when the RMS improves by less (percent); 0 for never",
    )
    outlier_percent: float = declare(
        1.0,
        "float",
        "WFSS: share of pixels rejected at each end (percent)",
        check=PERCENTAGE,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method == "robust":
            return
        for name, plain in (("mask_from", "boxes"), ("model", "template")):
            given = getattr(self, name)
            if given == "auto":
                object.__setattr__(self, name, plain)
            elif given != plain:
                raise OptionError(
                    f"wfss_{name} {given} needs wfss_method robust (got {self.method!r}); "
                    f"set that, or wfss_{name} to {plain}"
                )
