"""Background subtraction for JWST exposures.

The public names are imported on first use, so that ``import webbkg`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "BackgroundStep": "webbkg.step",
    "subtract_background": "webbkg.subtract",
    "average_background": "webbkg.methods.average",
    "sigma_clip_mask": "webbkg.methods.average",
    "fit_scale": "webbkg.methods.wfss",
    "fit_templates": "webbkg.methods.soss",
    "make_template": "webbkg.templates",
    "ImageOptions": "webbkg.options",
    "WfssOptions": "webbkg.options",
    "SossOptions": "webbkg.options",
    "Background": "webbkg.results",
    "CombinedBackground": "webbkg.results",
    "ScaleFit": "webbkg.results",
    "TemplateFit": "webbkg.results",
    "Outcome": "webbkg.results",
    "Status": "webbkg.results",
    "WebbkgError": "webbkg.errors",
    "use_in": "webbkg.integration",
    "use_threads": "webbkg.parallel",
}

__all__ = [
    "Background",
    "BackgroundStep",
    "CombinedBackground",
    "ImageOptions",
    "Outcome",
    "ScaleFit",
    "SossOptions",
    "Status",
    "TemplateFit",
    "WebbkgError",
    "WfssOptions",
    "__version__",
    "average_background",
    "fit_scale",
    "fit_templates",
    "make_template",
    "sigma_clip_mask",
    "subtract_background",
    "use_in",
    "use_threads",
]

if TYPE_CHECKING:
    from webbkg.errors import WebbkgError
    from webbkg.integration import use_in
    from webbkg.methods.average import average_background, sigma_clip_mask
    from webbkg.methods.soss import fit_templates
    from webbkg.methods.wfss import fit_scale
    from webbkg.options import ImageOptions, SossOptions, WfssOptions
    from webbkg.parallel import use_threads
    from webbkg.results import (
        Background,
        CombinedBackground,
        Outcome,
        ScaleFit,
        Status,
        TemplateFit,
    )
    from webbkg.step import BackgroundStep
    from webbkg.subtract import subtract_background
    from webbkg.templates import make_template


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'webbkg' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
