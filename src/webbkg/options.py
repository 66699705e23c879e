"""Every parameter, default and threshold of webbkg, once, with its unit and source.

The fields of the frozen options are the one table of parameters: `parameters` reads it, and the
step's specification, the command's options and the tables of the documentation are made of it.
Those that the pipeline's step already has keep its names, types and defaults (JWST pipeline
documentation, "Background Subtraction: Step Arguments").
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any, ClassVar, TypeVar

from webbkg.errors import OptionError

DO_NOT_USE = 1
"""The data-quality bit of a pixel that must not be used (JWST data-quality flags)."""

REFERENCE_PIXEL = 1 << 31
"""The data-quality bit of a pixel that sees no light (JWST data-quality flags)."""

SOSS_SUBSTRIP96_ROWS = (10, 106)
"""Rows (start, stop) of a 256-row SOSS template that a target of 96 rows, SUBSTRIP96, covers.
From here on the figures for SOSS are those of the JWST pipeline's step."""

SOSS_FULL_FRAME_ROWS = (1792, 2048)
"""Rows (start, stop) of a full frame of 2048 rows in which SUBSTRIP256 lies (JWST user documentation,
"NIRISS Detector Subarrays")."""

SOSS_SMOOTHING = 3.0
"""Standard deviation of the Gaussian that smooths a SOSS template before its jump is looked for
(pixels)."""

SOSS_STEP_COLUMNS = (685, 725)
"""Columns (start, stop) in which the jump of a SOSS template lies."""

SOSS_FEW_SAMPLES = 0.01
"""Share of the samples of a side below which its scale is reported to rest on little."""

SOSS_LAST_COLUMN = 950
"""Last column that enters the SOSS fit, on the right side of the jump."""

SOSS_COUNTER_MEMORY = 96 * 2**20
"""Bytes that the counters of the SOSS fit may occupy, over all threads together."""

GRATING_TILT_TOLERANCE = 1e-8
"""Largest difference, inclusive, of GWA_XTIL or GWA_YTIL between a NIRSpec target and its
backgrounds (degrees, as in the keywords)."""

MIN_SEPARATION = 0.5
"""Arcsec. A nod of NIRSpec by one shutter is 0.53 (JWST user documentation, "NIRSpec Micro-Shutter
Assembly": a pitch of 0.53 along the slit), and must pass; a point source fills 0.1 in the near
infrared and up to 0.8 at 25 um (FWHM, 1.03 wavelength / 6.5 m), and must not meet itself."""

BAND_MEMORY = 24 * 2**20
"""Bytes that the samples of the background stack may occupy, over all threads together."""

MINIMUM_SKY_PERCENT = 5.0
"""Share of all pixels that must be usable sky, exclusive, for a WFSS fit outside a catalogue's
boxes (percent); the same as that of the ``jwst`` package."""

PARAMETER_LOOKUP_SECONDS = 10
"""How long CRDS may take to answer for a parameter reference, unless
CRDS_CLIENT_TIMEOUT_SECONDS says otherwise (seconds)."""

REFERENCE_FETCH_SECONDS = 600
"""How long CRDS may take to choose and fetch a reference, unless CRDS_CLIENT_TIMEOUT_SECONDS
says otherwise (seconds)."""

Check = tuple[Callable[[Any], bool], str]
Chosen = TypeVar("Chosen", bound="Options")

FAINTEST = 999.0
"""Magnitude limit where none is given: every source with a real magnitude is brighter."""

PRESETS: dict[str, dict[str, Any]] = {
    "robust": {
        "propagate_errors": True,
        "dq_threshold": 0.51,  # the majority: of two backgrounds both
        "drop_mismatched": True,
        "clip_noise": "model",
        "match_background": "scale",
        "mask_sources": True,
        "wfss_method": "robust",
        "wfss_mask_from": "auto",
        "soss_method": "robust",
        "soss_model": "auto",
    },
}
"""What each preset sets, by the names of the parameters; a line is all that a new one needs.

A parameter that stands here is None in the step unless the user gives it, so that what is given
wins over the preset; without a preset the default of its field holds.
"""


def _parameter(
    default: Any, kind: str, text: str, *, check: Check | None = None, unset: Any = ...
) -> Any:
    """Declare a parameter: stpipe's type, one sentence of help, and what its value must fulfil.

    `unset` is the step's default where it is not the field's: it stands for the latter.
    """
    unset = default if unset is ... else unset
    return field(default=default, metadata={"parameter": (kind, text, check, unset)})


@dataclass(frozen=True)
class Parameter:
    """A parameter of the step, the command and a call.

    Attributes
    ----------
    name : str
        As the step has it.
    kind : str
        Its type in stpipe's words, such as ``float`` or ``float_list(min=2, max=2)``.
    default : object
        Of the step.
    stands_for : object
        What holds where it is not given: `default`, or what a default of None stands for.
    text : str
        What it does, in a sentence without its full stop.
    mode : str
        In which it holds: ``image``, ``wfss``, ``soss``, or ``every mode``.
    """

    name: str
    kind: str
    default: Any
    stands_for: Any
    text: str
    mode: str

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that a parameter of the kind ``option`` may have."""
        kind, _, limits = self.kind.rstrip(")").partition("(")
        return tuple(one.strip(" '\"") for one in limits.split(",")) if kind == "option" else ()

    @property
    def presets(self) -> dict[str, Any]:
        """What the presets set it to, by their names."""
        return {name: sets[self.name] for name, sets in PRESETS.items() if self.name in sets}

    @property
    def specification(self) -> str:
        """The line of an stpipe specification."""
        kind, _, limits = self.kind.partition("(")
        arguments = ", ".join([*filter(None, [limits.rstrip(")")]), f"default={self.default}"])
        return f"{self.name} = {kind}({arguments})  # {self.text}"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of the frozen options; `prefix` is what the step's names put before the fields'."""

    prefix: ClassVar[str] = ""
    mode: ClassVar[str] = "every mode"

    def __post_init__(self) -> None:
        for one in fields(self):
            self._judge(one)

    def _judge(self, one: Field[Any]) -> None:
        _, _, check, _ = one.metadata.get("parameter", (None, None, None, None))
        value = getattr(self, one.name)
        if check is not None and not check[0](value):
            name = f"{self.prefix}{one.name}"
            raise OptionError(f"{name} must be {check[1]} (got {value!r})")

    @classmethod
    def parameters(cls) -> dict[str, Parameter]:
        """Tell the parameters, by the names of the fields."""
        return {one.name: cls._told(one) for one in fields(cls) if "parameter" in one.metadata}

    @classmethod
    def _told(cls, one: Field[Any]) -> Parameter:
        kind, text, _, unset = one.metadata["parameter"]
        name = f"{cls.prefix}{one.name}"
        unset = None if any(name in sets for sets in PRESETS.values()) else unset
        return Parameter(name, kind, unset, one.default, text, cls.mode)

    @classmethod
    def of(cls: type[Chosen], given: Mapping[str, Any]) -> Chosen:
        """Take from a step's parameters those that are of this class.

        None: what the preset says that ``preset`` names, if there is one; else its default.

        Raises
        ------
        OptionError
            If one lies outside its range.
        """
        given = {**preset_values(given.get("preset")), **_without_none(given)}
        named = {name: given.get(one.name) for name, one in cls.parameters().items()}
        return cls(**{name: value for name, value in named.items() if value is not None})


def preset_values(name: str | None) -> Mapping[str, Any]:
    """Tell what a preset sets, by the names of the parameters; None sets nothing.

    Raises
    ------
    OptionError
        If there is no such preset.
    """
    if name is not None and name not in PRESETS:
        raise OptionError(f"preset must be one of {', '.join(PRESETS)} (got {name!r})")
    return {} if name is None else PRESETS[name]


def _without_none(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not math.isnan(value)


def _is_threshold(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _is_percentage(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 100


def _are_percentages(values: Any) -> bool:
    return isinstance(values, Sequence) and len(values) == 2 and all(map(_is_percentage, values))


def as_names(given: Any, parameter: str) -> tuple[str, ...] | None:
    """Take names one by one, or with commas between them; None for none."""
    listed = list(given or ()) if isinstance(given, list | tuple | None) else [given]
    if not all(isinstance(one, str | os.PathLike) for one in listed):
        raise OptionError(f"{parameter} must be a list of texts (got {given!r})")
    names = [name.strip() for one in listed for name in os.fspath(one).split(",")]
    return tuple(filter(None, names)) or None


THRESHOLD: Check = (_is_threshold, "a number of at least 0")
PERCENTAGE: Check = (_is_percentage, "a number from 0 to 100")
WFSS_METHODS: Check = (("standard", "robust").__contains__, "standard or robust")
WFSS_MASKS: Check = (
    ("boxes", "traces", "image", "auto").__contains__,
    "boxes, traces, image or auto",
)
SKY_MODELS = ("template", "templates", "+offset", "+profile", "auto")
WFSS_MODELS: Check = (SKY_MODELS.__contains__, f"one of {', '.join(SKY_MODELS)}")
LEVEL_MATCHES = ("none", "offset", "scale")
MATCH: Check = (LEVEL_MATCHES.__contains__, f"one of {', '.join(LEVEL_MATCHES)}")
CLIP_NOISE: Check = (("sample", "model").__contains__, "sample or model")
FRACTION: Check = (lambda value: _is_threshold(value) and value <= 1, "a number from 0 to 1")
SOSS_MODEL: Check = (("one", "mixture", "auto").__contains__, "one, mixture or auto")
SOSS_METHOD: Check = (("percentile", "robust").__contains__, "percentile or robust")
TEMPLATE_SKIES = ("none", "level", "plane", "curved")
TEMPLATE_SKY: Check = (TEMPLATE_SKIES.__contains__, f"one of {', '.join(TEMPLATE_SKIES)}")
LENGTH: Check = (
    lambda value: _is_number(value) and 0 < value < math.inf,
    "a number of pixels above 0",
)
SOSS_TIME: Check = (("constant", "smooth").__contains__, "constant or smooth")
PERCENTAGES: Check = (_are_percentages, "two numbers from 0 to 100")


@dataclass(frozen=True, kw_only=True)
class RunOptions(Options):
    """What holds in every mode."""

    preset: str | None = _parameter(
        None,
        f"option({', '.join(map(repr, PRESETS))})",
        "Switch on what the figures recommend; what you give yourself wins over it",
    )
    bkg_list: Any = _parameter(
        None,
        "force_list",
        "Background exposures; an association's members and a second argument win over it",
    )
    save_combined_background: bool = _parameter(
        False, "boolean", "Save the averaged background exposures"
    )
    allow_repeat: bool = _parameter(
        False, "boolean", "Subtract again from what is already subtracted"
    )
    save_background: bool = _parameter(
        False, "boolean", "Save what was subtracted, with its uncertainty"
    )
    propagate_errors: bool = _parameter(
        False, "boolean", "Add the background's variance to the target's ERR and variances"
    )
    save_report: bool = _parameter(
        False, "boolean", "Write a page with pictures and numbers of each subtraction"
    )
    skip_metrics: bool = _parameter(
        False, "boolean", "Do not measure how good each subtraction is: good, look or bad"
    )
    metric_limits: Any = _parameter(
        None,
        "force_list",
        "Limits of metrics that differ from the table's, such as sky_level=0.2:1",
    )


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
    sigma: float = _parameter(
        3.0, "float", "Clip threshold, in standard deviations", check=THRESHOLD
    )
    maxiters: int | None = _parameter(
        None, "integer", "Most clip iterations; None or 0: until stable"
    )
    match_background: str = _parameter(
        "none",
        'option("none", "offset", "scale")',
        "Match the sky of the backgrounds to each other, and then to the target's own",
        check=MATCH,
    )
    mask_sources: bool = _parameter(
        False, "boolean", "Leave sources in the backgrounds out of their average"
    )
    source_mask: tuple[str, ...] | None = _parameter(
        None,
        "force_list",
        "One file for each background or for all; MASK extension not 0 for sky, 0 for source",
    )
    clip_noise: str = _parameter(
        "sample",
        "option('sample', 'model')",
        "Clip by the samples' own scatter (sample), or by what their ERR expects (model)",
        check=CLIP_NOISE,
    )
    dq_threshold: float = _parameter(
        0.0,
        "float",
        "Fraction of the backgrounds that must carry a DQ flag to pass it on; 0 for any",
        check=FRACTION,
    )
    drop_mismatched: bool = _parameter(
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


@dataclass(frozen=True, kw_only=True)
class SossOptions(Options):
    """How a sky template is chosen and scaled for NIRISS SOSS.

    Attributes
    ----------
    method : {"percentile", "robust"}
        By percentiles of the ratios, as is established, or by generalised least squares on the
        deep frame, with the star's wings and the 1/f noise in the model.
    time : {"constant", "smooth"}
        One scale for all integrations, or one that may change smoothly from integration to
        integration, as far as the likelihood pays for it; the latter of the method robust alone.
    model : {"one", "mixture", "auto"}
        The sky of the robust method: one template of the library, a sum of all of them with
        weights that are not negative, or that of the two which held-out columns pay for.
    source_percentile : float
        Values at or above this percentile of all usable values are source; 0 to 100.
    bkg_percentile : tuple of float
        Ratios strictly between these two percentiles set the scale; 0 to 100.
    """

    prefix: ClassVar[str] = "soss_"
    mode: ClassVar[str] = "soss"
    method: str = _parameter(
        "percentile",
        "option('percentile', 'robust')",
        "SOSS: percentile, as is established, or robust, a fit of sky, star's wings and 1/f noise",
        check=SOSS_METHOD,
    )
    time: str = _parameter(
        "constant",
        "option('constant', 'smooth')",
        "SOSS: constant, one scale for all integrations, or smooth, where it drifts; needs robust",
        check=SOSS_TIME,
    )
    model: str = _parameter(
        "one",
        "option('one', 'mixture', 'auto')",
        "SOSS, robust: sky of one template, a mixture, or auto: what held-out columns pay for",
        check=SOSS_MODEL,
    )
    source_percentile: float = _parameter(
        35.0, "float", "SOSS: pixels at or above this percentile are source", check=PERCENTAGE
    )
    bkg_percentile: tuple[float, float] = _parameter(
        (25.0, 50.0),
        "float_list(min=2, max=2)",
        "SOSS: percentiles between which ratios set the scale; None: 25, 50",
        check=PERCENTAGES,
        unset=None,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "bkg_percentile", tuple(self.bkg_percentile))
        if self.time != "constant" and self.method != "robust":
            raise OptionError(
                f"soss_time {self.time} needs soss_method robust (got {self.method!r}); set that, "
                "or soss_time to constant"
            )
        if self.method != "robust" and self.model != "one":
            raise OptionError(
                f"soss_model={self.model} needs soss_method=robust (got {self.method}), or leave "
                "it out: the percentile method takes one template"
            )

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> SossOptions:
        """Take those of this class; a preset's model is none of a method that was chosen over it."""
        chosen = given.get("soss_method")
        if chosen not in (None, "robust") and given.get("soss_model") is None:
            given = {**given, "soss_model": "one"}
        return super().of(given)


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
    method: str = _parameter(
        "standard",
        "option('standard', 'robust')",
        "WFSS: how the scale is fitted, standard or robust",
        check=WFSS_METHODS,
    )
    mask_from: str = _parameter(
        "boxes",
        "option('boxes', 'traces', 'image', 'auto')",
        "WFSS: what tells sky from sources: boxes, traces, image or auto",
        check=WFSS_MASKS,
    )
    model: str = _parameter(
        "template",
        f"option({', '.join(map(repr, SKY_MODELS))})",
        "WFSS: what is fitted: template, templates, +offset, +profile or auto",
        check=WFSS_MODELS,
    )
    mode: ClassVar[str] = "wfss"
    mmag_extract: float | None = _parameter(
        None,
        "float",
        "WFSS: sources of this AB magnitude and fainter are not masked; None: all are",
    )
    mask: str | None = _parameter(
        None, "string", "WFSS: file whose MASK extension is not 0 for sky, and 0 for source"
    )
    maxiter: int = _parameter(5, "integer", "WFSS: most outlier rejections; 0 for none")
    rms_stop: float = _parameter(
        0.0,
        "float",
        "WFSS: stop when the RMS improves by less (percent); 0 for never",
    )
    outlier_percent: float = _parameter(
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


@dataclass(frozen=True, kw_only=True)
class TemplateOptions(Options):
    """Templates of the user's own, scaled and subtracted where nothing else tells the background.

    Attributes
    ----------
    template : tuple of str, or None
        Files with sky images: reference backgrounds, or bare images (FITS, NumPy); a
        comma-separated string too. Several are fitted together, none with a negative scale.
    template_region : tuple of int, or None
        Where they are fitted: first and last column and row, x1, x2, y1, y2, pixels of the detector
        from 1, all included, as SUBSTRT1 counts; a comma-separated string too. They are subtracted
        everywhere.
    template_sky : str
        The even sky that is fitted beside them: ``none``, ``level``, ``plane`` (that and its slopes)
        or ``curved`` (that and its curvature).
    template_subtract_sky : bool
        Whether it is subtracted too; else it stays.
    flat_error : float
        Standard deviation of what the flat field errs by, as a fraction of the light.
    flat_length : float
        Distance at which the correlation of these errors falls to 1/e (pixels).
    """

    mode: ClassVar[str] = "template"
    template: tuple[str, ...] | None = _parameter(
        None,
        "force_list",
        "Sky images to scale and subtract, such as wisps; several are fitted together",
    )
    template_region: tuple[int, int, int, int] | None = _parameter(
        None,
        "int_list(min=4, max=4)",
        "Fit them in x1, x2, y1, y2 alone (detector pixels from 1), and subtract everywhere",
    )
    template_sky: str = _parameter(
        "curved",
        "option('none', 'level', 'plane', 'curved')",
        "Even sky that is fitted beside them: none, level, plane or curved",
        check=TEMPLATE_SKY,
    )
    template_subtract_sky: bool = _parameter(
        False, "boolean", "Subtract that sky too; by default it stays"
    )
    flat_error: float = _parameter(
        0.0,
        "float",
        "WFSS too: error of the flat field (a fraction), which enters the errors of scales",
        check=THRESHOLD,
    )
    flat_length: float = _parameter(
        100.0,
        "float",
        "WFSS too: distance at which the flat's errors are no longer alike (pixels)",
        check=LENGTH,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        names = as_names(self.template, "template")
        if names is None and self.template is not None:
            raise OptionError(f"template must name at least one file (got {self.template!r})")
        object.__setattr__(self, "template", names)
        object.__setattr__(self, "template_region", _as_region(self.template_region))


def _as_region(given: Any) -> tuple[int, int, int, int] | None:
    """Take x1, x2, y1, y2 from numbers or from a text with commas."""
    if given is None:
        return None
    parts = given.split(",") if isinstance(given, str) else given
    try:
        x1, x2, y1, y2 = (int(str(part)) for part in parts)
    except (TypeError, ValueError):
        x1, x2, y1, y2 = 0, 0, 0, 0
    if not (1 <= x1 <= x2 and 1 <= y1 <= y2):
        raise OptionError(
            "template_region must be x1,x2,y1,y2: whole numbers from 1, pixels of the detector, the "
            f"first not above the second (got {given!r})"
        )
    return x1, x2, y1, y2


KINDS: tuple[type[Options], ...] = (
    RunOptions,
    ImageOptions,
    SossOptions,
    WfssOptions,
    TemplateOptions,
)


def parameters() -> dict[str, Parameter]:
    """Tell all parameters by their names, those of every mode first."""
    return {one.name: one for kind in KINDS for one in kind.parameters().values()}


def option_name(name: str) -> str:
    """Give a parameter the name that it has on the command line.

    Examples
    --------
    >>> option_name("wfss_maxiter")
    '--wfss-maxiter'
    """
    return f"--{name.replace('_', '-')}"


_COMMAND_ONLY = (
    *("output_dir", "output_file", "override_bkg", "override_wavelengthrange"),
    *("background_target", "min_separation", "memory_limit"),
)
_ENGLISH = (
    *("sigma", "preset", "suffix", "template"),
    *("scheduler", "engine", "shard", "workers"),
)
"""Parameters whose names are words, too: they are meant where a message demands or offers them."""


def as_options(message: str) -> str:
    """Call the parameters in a message by the names that they have on the command line.

    What is part of another name, of a file's, say, stays.

    Examples
    --------
    >>> as_options("sigma must be at least 0; source_mask.fits: choose another suffix")
    '--sigma must be at least 0; source_mask.fits: choose another --suffix'
    >>> as_options("nothing to compare (match_background = scale)")
    'nothing to compare (--match-background scale)'
    """
    named = {*parameters(), *_COMMAND_ONLY} - {*_ENGLISH, "bkg_list"}
    plain = "|".join(sorted(named, key=len, reverse=True))
    words = "|".join(_ENGLISH)
    found = rf"{plain}|(?:^|(?<=another )|(?<=, )|(?<=or ))(?:{words})(?= must|$|[,;]| or | for )"
    pattern = rf"(?<![\w./'\"-])({found})(?![\w/'\"-]|\.\w)(?: = (?=\w))?"
    return re.sub(pattern, lambda met: _renamed(met[0], met[1]), message)


def _renamed(met: str, name: str) -> str:
    return option_name(name) + (" " if met != name else "")
