"""Background subtraction for JWST exposures.

The public names are imported on first use, so that ``import webbkg`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "BackgroundStep": "webbkg.step",
    "subtract": "webbkg.subtraction",
    "Subtraction": "webbkg.subtraction",
    "subtract_background": "webbkg.run",
    "average_background": "webbkg.image.average",
    "sigma_clip_mask": "webbkg.image.average",
    "fit_scale": "webbkg.wfss.fit",
    "fit_templates": "webbkg.soss.fit",
    "scale_templates": "webbkg.template.fit",
    "describe": "webbkg.report.notebook",
    "make_template": "webbkg.files.templates",
    "ImageOptions": "webbkg.options",
    "WfssOptions": "webbkg.options",
    "SossOptions": "webbkg.options",
    "TemplateOptions": "webbkg.options",
    "Background": "webbkg.results",
    "CombinedBackground": "webbkg.results",
    "ScaleFit": "webbkg.results",
    "TemplateFit": "webbkg.results",
    "Metrics": "webbkg.results",
    "Outcome": "webbkg.results",
    "Status": "webbkg.results",
    "WebbkgError": "webbkg.errors",
    "use_in": "webbkg.integration",
    "use_threads": "webbkg.numerics.parallel",
    "variance_of_sum": "webbkg.apply",
}

__all__ = [
    "Background",
    "BackgroundStep",
    "CombinedBackground",
    "ImageOptions",
    "Metrics",
    "Outcome",
    "ScaleFit",
    "SossOptions",
    "Status",
    "Subtraction",
    "TemplateFit",
    "TemplateOptions",
    "WebbkgError",
    "WfssOptions",
    "__version__",
    "average_background",
    "describe",
    "fit_scale",
    "fit_templates",
    "make_template",
    "scale_templates",
    "sigma_clip_mask",
    "subtract",
    "subtract_background",
    "use_in",
    "use_threads",
    "variance_of_sum",
]

if TYPE_CHECKING:
    from webbkg.apply import variance_of_sum
    from webbkg.errors import WebbkgError
    from webbkg.files.templates import make_template
    from webbkg.image.average import average_background, sigma_clip_mask
    from webbkg.integration import use_in
    from webbkg.numerics.parallel import use_threads
    from webbkg.options import ImageOptions, SossOptions, TemplateOptions, WfssOptions
    from webbkg.report.notebook import describe
    from webbkg.results import (
        Background,
        CombinedBackground,
        Metrics,
        Outcome,
        ScaleFit,
        Status,
        TemplateFit,
    )
    from webbkg.run import subtract_background
    from webbkg.soss.fit import fit_templates
    from webbkg.step import BackgroundStep
    from webbkg.subtraction import Subtraction, subtract
    from webbkg.template.fit import scale_templates
    from webbkg.wfss.fit import fit_scale


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'webbkg' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
