"""Every parameter, default and threshold of webbkg, once, with its unit and source.

The fields of the frozen options are the one table of parameters: `parameters` reads it, and the
step's specification, the command's options and the tables of the documentation are made of it.
Those that the pipeline's step already has keep its names, types and defaults (JWST pipeline
documentation, "Background Subtraction: Step Arguments").

Each mode has a room of its own; `webbkg.options` has all of their names.
"""

from __future__ import annotations

from webbkg.options.checks import as_names, check_is_text
from webbkg.options.image import BAND_MEMORY, GRATING_TILT_TOLERANCE, ImageOptions
from webbkg.options.limits import (
    DO_NOT_USE,
    MIN_SEPARATION,
    PARAMETER_LOOKUP_SECONDS,
    REFERENCE_FETCH_SECONDS,
    REFERENCE_PIXEL,
)
from webbkg.options.naming import (
    KINDS,
    REFERENCES,
    as_options,
    check_names,
    option_name,
    parameters,
)
from webbkg.options.presets import PRESETS, preset_values
from webbkg.options.run import RunOptions
from webbkg.options.soss import (
    SOSS_COUNTER_MEMORY,
    SOSS_FEW_SAMPLES,
    SOSS_FULL_FRAME_ROWS,
    SOSS_LAST_COLUMN,
    SOSS_SMOOTHING,
    SOSS_STEP_COLUMNS,
    SOSS_SUBSTRIP96_ROWS,
    SossOptions,
)
from webbkg.options.table import Options, Parameter
from webbkg.options.template import TemplateOptions
from webbkg.options.wfss import FAINTEST, MINIMUM_SKY_PERCENT, WfssOptions

__all__ = [
    "BAND_MEMORY",
    "DO_NOT_USE",
    "FAINTEST",
    "GRATING_TILT_TOLERANCE",
    "KINDS",
    "MINIMUM_SKY_PERCENT",
    "MIN_SEPARATION",
    "PARAMETER_LOOKUP_SECONDS",
    "PRESETS",
    "REFERENCES",
    "REFERENCE_FETCH_SECONDS",
    "REFERENCE_PIXEL",
    "SOSS_COUNTER_MEMORY",
    "SOSS_FEW_SAMPLES",
    "SOSS_FULL_FRAME_ROWS",
    "SOSS_LAST_COLUMN",
    "SOSS_SMOOTHING",
    "SOSS_STEP_COLUMNS",
    "SOSS_SUBSTRIP96_ROWS",
    "ImageOptions",
    "Options",
    "Parameter",
    "RunOptions",
    "SossOptions",
    "TemplateOptions",
    "WfssOptions",
    "as_names",
    "as_options",
    "check_is_text",
    "check_names",
    "option_name",
    "parameters",
    "preset_values",
]
