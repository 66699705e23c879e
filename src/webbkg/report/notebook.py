"""What a notebook shows of results: tables with a small picture, and plots.

`webbkg.results` opens this room by its name when somebody looks.
"""

from __future__ import annotations

import base64
import copy
import html
import io
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from webbkg import record
from webbkg.errors import InputError, MissingExtraError
from webbkg.files.models import is_model, open_model, read_meta
from webbkg.report import figures
from webbkg.report.limits import LIMITS, toward_limit
from webbkg.report.snapshot import shrink, sky_range
from webbkg.report.tables import Rows, in_words, leaves
from webbkg.results import (
    Background,
    Frozen,
    Metrics,
    Outcome,
    ScaleFit,
    Shown,
    TemplateFit,
)
from webbkg.subtraction import Subtraction

if TYPE_CHECKING:
    from matplotlib.axes import Axes

THUMBNAIL = (4.0, 2.8)
"""Size of the picture beside a table (inches)."""


def plot(result: Shown, axes: Any = None) -> Axes:
    """Draw a result into an Axes, by default a new figure's; see `webbkg.results.Shown.plot`."""
    drawn: Axes = axes if axes is not None else figures.new_axes()
    draw, _ = _shown(result)
    draw(drawn, result)
    return drawn


def as_html(result: Shown) -> str:
    """Write a result as a table, with a small picture where Matplotlib is installed."""
    name, picture = html.escape(type(result).__name__), _thumbnail(result)
    return (
        '<div style="display: flex; flex-wrap: wrap; gap: 1.5em; align-items: flex-start">'
        f"{_table(name, _shown(result)[1](result))}{picture}</div>"
    )


def _table(title: str, rows: Rows) -> str:
    lines = "".join(
        f'<tr><th scope="row" style="text-align: left; white-space: nowrap; font-weight: normal; opacity: 0.7">'
        f'{html.escape(label)}</th><td style="text-align: left; max-width: 36em">{html.escape(value)}</td></tr>'
        for label, value in rows
    )
    return (
        f'<table><caption style="text-align: left"><strong>{title}</strong></caption>'
        f"<tbody>{lines}</tbody></table>"
    )


def _thumbnail(result: Shown) -> str:
    """Draw what is small enough for a table; nothing where there is nothing to draw, or nobody."""
    try:
        axes = plot(result, figures.new_axes(THUMBNAIL))
    except (MissingExtraError, InputError):
        return ""
    image = io.BytesIO()
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.savefig(image, format="png", dpi=96)
    encoded = base64.b64encode(image.getvalue()).decode("ascii")
    return f'<img alt="" src="data:image/png;base64,{encoded}" style="max-width: 100%">'


class Description(Mapping[str, Any]):
    """What a product says of its subtraction: a mapping that prints as a table."""

    def __init__(self, tree: Mapping[str, Any]) -> None:
        self._tree = tree

    def __getitem__(self, name: str) -> Any:
        return self._tree[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tree)

    def __len__(self) -> int:
        return len(self._tree)

    def __repr__(self) -> str:
        rows = list(leaves(self._tree))
        width = max((len(label) for label, _ in rows), default=0)
        return "\n".join(f"{label:<{width}}  {told}" for label, told in rows)

    def _repr_html_(self) -> str:
        return _table("meta.background.webbkg", leaves(self._tree))


def describe(product: Any) -> Description:
    """Read what a product says of its subtraction (its tree's ``meta.background.webbkg``).

    Parameters
    ----------
    product : path or data model
        That webbkg has made.

    Returns
    -------
    Description
        A mapping that prints as a table, and that a notebook shows as one.

    Raises
    ------
    InputError
        If it is none of webbkg's, or cannot be read.
    """
    if not is_model(product):
        with open_model(Path(product)) as model:
            return describe(model)
    tree = read_meta(product, "meta.background.webbkg")
    if not isinstance(tree, Mapping):
        name = read_meta(product, "meta.filename") or type(product).__name__
        raise InputError(
            f"{name}: says nothing of a subtraction by webbkg; give one of its products"
        )
    return Description(copy.deepcopy(dict(tree)))


# What each kind of result draws and tells.


def _draw_background(axes: Axes, background: Background) -> None:
    picture = shrink(background.sci)
    figures.draw_image(axes, picture, sky_range([picture.pixels]))


def _draw_scale(axes: Axes, fit: ScaleFit) -> None:
    if not fit.iterations:
        raise InputError("no fit was made: there is nothing to draw")
    scales, rejected = zip(*((one.scale, one.rejected) for one in fit.iterations), strict=True)
    figures.draw_iterations(axes, scales, rejected, error=fit.scale_err)


def _draw_templates(axes: Axes, fit: TemplateFit) -> None:
    if fit.template is None:
        raise InputError("no template was chosen: there is nothing to draw")
    if fit.robust is None:
        figures.draw_templates(axes, fit.rmse, fit.template)
        return
    likelihood = fit.robust.log_likelihood.reshape(-1, 1)
    figures.draw_templates(axes, likelihood, fit.template, label="log-likelihood below the best")


def _draw_metrics(axes: Axes, metrics: Metrics) -> None:
    known = [one for one in metrics.values if one.name in LIMITS and math.isfinite(one.value)]
    if not known:
        raise InputError("no metric could be measured: there is nothing to draw")
    figures.draw_metrics(axes, {one.name: toward_limit(one) for one in known})


def _draw_outcome(axes: Axes, outcome: Outcome) -> None:
    fit = getattr(outcome.result, "fit", None)
    first = next((one for one in (outcome.background, fit, outcome.metrics) if one), None)
    if first is None:
        raise InputError(f"the outcome is {outcome.status}: there is nothing to draw")
    plot(first, axes)


def _draw_product(axes: Axes, done: Subtraction) -> None:
    sci = np.asarray(done.product.data)
    picture = shrink(sci if sci.ndim == 2 else sci[0])
    figures.draw_image(axes, picture, sky_range([picture.pixels]), unit=done.outcome.unit)


def _outcome_rows(outcome: Outcome) -> Rows:
    yield "status", str(outcome.status)
    yield from record.lines(outcome)
    yield from (("warning", one) for one in outcome.warnings)


def _subtraction_rows(done: Subtraction) -> Rows:
    yield "target", done.target
    yield from _outcome_rows(done.outcome)
    yield from ((f"reference, {kind}", name) for kind, name in done.references)
    if done.path is not None:
        yield "product", str(done.path)
    if done.report is not None:
        yield "report", str(done.report)


def _metrics_rows(metrics: Metrics) -> Rows:
    yield "verdict", str(metrics.verdict)
    for one in metrics.values:
        error = f" ± {one.error:.2g}" if one.error else ""
        told = f"{one.value:.3g}{error} {one.unit}".rstrip()
        yield one.name.replace("_", " "), f"{told}, {one.grade}"
    yield from (("", reason) for reason in metrics.reasons)


def _fields(result: Frozen) -> Rows:
    """Tell the numbers of a result by their names; of arrays the shape alone."""
    for name, value in vars(result).items():
        if isinstance(value, Frozen):
            yield from ((f"{name}, {label}", told) for label, told in _fields(value))
        elif isinstance(value, np.ndarray):
            yield name.replace("_", " "), f"{value.dtype}, {' x '.join(map(str, value.shape))}"
        elif isinstance(value, tuple):
            if value and not isinstance(value[0], Frozen):
                yield name.replace("_", " "), ", ".join(map(in_words, value))
        elif value is not None and value != "":
            yield name.replace("_", " "), in_words(value)


_SHOWN: dict[type, tuple[Callable[[Any, Any], None], Callable[[Any], Rows]]] = {
    Background: (_draw_background, _fields),
    ScaleFit: (_draw_scale, _fields),
    TemplateFit: (_draw_templates, _fields),
    Metrics: (_draw_metrics, _metrics_rows),
    Outcome: (_draw_outcome, _outcome_rows),
    Subtraction: (_draw_product, _subtraction_rows),
}


def _shown(result: Shown) -> tuple[Callable[[Any, Any], None], Callable[[Any], Rows]]:
    return next(_SHOWN[kind] for kind in type(result).__mro__ if kind in _SHOWN)
