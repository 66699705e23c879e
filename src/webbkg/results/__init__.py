"""Frozen results: what was measured, as data. Nothing here reads, writes or logs.

Each mode has a room of its own; `webbkg.results` has all of their names.
"""

from __future__ import annotations

from webbkg.results.arrays import BoolImage, CountImage, FlagImage, FloatImage
from webbkg.results.background import Background, Drift, Propagated, Variances, relative_error
from webbkg.results.frozen import Frozen, Shown
from webbkg.results.image import (
    CombinedBackground,
    ImageResult,
    SampleCounts,
    SkyLevels,
    UnkeptBackground,
    Verdict,
)
from webbkg.results.metrics import Grade, Metric, Metrics
from webbkg.results.outcome import Outcome, Result
from webbkg.results.soss import (
    SideFit,
    SossMixture,
    SossNoise,
    SossResult,
    SossRobust,
    SossTime,
    TemplateFit,
)
from webbkg.results.status import Status
from webbkg.results.template import TemplateResult, TemplateScale, TemplatesFit
from webbkg.results.wfss import (
    ComponentFit,
    FitIteration,
    ModelTrial,
    RobustFit,
    ScaleFit,
    SkyModel,
    SourceCatalog,
    StopReason,
    WfssResult,
)

__all__ = [
    "Background",
    "BoolImage",
    "CombinedBackground",
    "ComponentFit",
    "CountImage",
    "Drift",
    "FitIteration",
    "FlagImage",
    "FloatImage",
    "Frozen",
    "Grade",
    "ImageResult",
    "Metric",
    "Metrics",
    "ModelTrial",
    "Outcome",
    "Propagated",
    "Result",
    "RobustFit",
    "SampleCounts",
    "ScaleFit",
    "Shown",
    "SideFit",
    "SkyLevels",
    "SkyModel",
    "SossMixture",
    "SossNoise",
    "SossResult",
    "SossRobust",
    "SossTime",
    "SourceCatalog",
    "Status",
    "StopReason",
    "TemplateFit",
    "TemplateResult",
    "TemplateScale",
    "TemplatesFit",
    "UnkeptBackground",
    "Variances",
    "Verdict",
    "WfssResult",
    "relative_error",
]
