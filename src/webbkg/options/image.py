"""Image from image: its parameters and thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from webbkg.errors import OptionError
from webbkg.options.checks import FRACTION, THRESHOLD, Check, as_names
from webbkg.options.table import Options, declare

GRATING_TILT_TOLERANCE = 1e-8
"""Largest difference, inclusive, of GWA_XTIL or GWA_YTIL between a NIRSpec target and its
backgrounds (degrees, as in the keywords)."""

BAND_MEMORY = 24 * 2**20
"""Bytes that the samples of the background stack may occupy, over all threads together."""

LEVEL_MATCHES = ("none", "offset", "scale")
MATCH: Check = (LEVEL_MATCHES.__contains__, f"one of {', '.join(LEVEL_MATCHES)}")
CLIP_NOISE: Check = (("sample", "model").__contains__, "sample or model")


@dataclass(frozen=True, kw_only=True)
class ImageOptions(Options):
    """How background exposures are averaged.

    Attributes
    ----------
    sigma : float
        Clip threshold in standard deviations of the survivors; at least 0, infinite for no
        clipping.
    maxiters : int or None
        Largest number of clip iterations; None, 0 and -1 mean until stable, and less than that
        one, as astropy has it.
    match_background : str
        How the sky of each background is matched to that of the others, and their average to the
        target's: ``none``, ``offset`` (something is added) or ``scale`` (it is multiplied).
    mask_sources : bool
        Whether sources are looked for in each background, against the others, and left out.
    source_mask : tuple of str, or None
        Files with masks, one for each background or one for all; a comma-separated string too.
    clip_noise : str
        In units of what a sample's distance is judged: ``sample``, the scatter of the samples
        themselves, or ``model``, that which the ERR of the others leads to expect
        (docs/clipping.md), of which one sample is taken out an iteration.
    dq_threshold : float
        A flag reaches the target's pixel where at least this fraction of the backgrounds that
        cover it, and at least one, carry it; of the integrations of a background likewise. 0
        to 1: 0 stands for any, 1 for all.
    drop_mismatched : bool
        An exposure of another instrument, detector, unit or grating tilt, or whose window is
        not known, is left out; else it is an error, and a tilt leaves the target SKIPPED.
    band_memory : int
        Bytes that the samples held at one time may occupy; no parameter of the step.
    """

    mode: ClassVar[str] = "image"
    sigma: float = declare(3.0, "float", "Clip threshold, in standard deviations", check=THRESHOLD)
    maxiters: int | None = declare(None, "integer", "Most clip iterations; None or 0: until stable")
    match_background: str = declare(
        "none",
        'option("none", "offset", "scale")',
        "Match the sky of the backgrounds to each other, and then to the target's own",
        check=MATCH,
    )
    mask_sources: bool = declare(
        False, "boolean", "Leave sources in the backgrounds out of their average"
    )
    source_mask: tuple[str, ...] | None = declare(
        None,
        "force_list",
        "One file for each background or for all; MASK extension not 0 for sky, 0 for source",
    )
    clip_noise: str = declare(
        "sample",
        "option('sample', 'model')",
        "Clip by the samples' own scatter (sample), or by what their ERR expects (model)",
        check=CLIP_NOISE,
    )
    dq_threshold: float = declare(
        0.0,
        "float",
        "Fraction of the backgrounds that must carry a DQ flag to pass it on; 0 for any",
        check=FRACTION,
    )
    drop_mismatched: bool = declare(
        False,
        "boolean",
        "Leave out singly what does not fit: grating tilt, detector, window, unit",
    )
    band_memory: int = BAND_MEMORY

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "source_mask", as_names(self.source_mask, "source_mask"))
        if self.band_memory <= 0:
            raise OptionError(f"band_memory must be above 0 bytes (got {self.band_memory})")
