"""The pictures of a subtraction, each drawn into an Axes: ``draw_...(axes, ...)``.

They take what `webbkg.report.snapshot` and the results hold, and nothing else: pages, notebooks and
papers draw the same. Ink (text, frames, lines at zero) is that of the Axes' own style; only data
have colours here, which people with any colour vision tell apart (Okabe & Ito 2008,
https://jfly.uni-koeln.de/color/). Text from files is never taken for mathematics.

Matplotlib (extra ``report``) is needed where a function is called, not to import this module; and
never pyplot, which keeps what it makes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from webbkg.errors import MissingExtraError
from webbkg.report.snapshot import Histogram, Picture, Profile, Sides, Times

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
"""Of data: what is, what stands out, what is chosen, what is masked."""

GRADES = {"good": (BLUE, "o"), "look": (ORANGE, "s"), "bad": (PURPLE, "X")}
"""Colour and mark of each grade."""

IMAGES, RESIDUALS = "cividis", "PuOr_r"
"""Colour maps of images and of what is left around zero."""

SHADES = 48
"""Of a colour map: hardly fewer than one sees, and noise takes half the bytes."""

MOST_NAMES = 12
"""So many exposures are called by their names beside their levels."""


def new_axes(size: tuple[float, float] | None = None) -> Axes:
    """Make a figure of a `size` (inches) with one Axes; it is freed with its last user.

    Raises
    ------
    MissingExtraError
        Without Matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("pictures need Matplotlib: pip install 'webbkg[report]'") from error
    return Figure(figsize=size, layout="compressed").add_subplot()


def draw_image(
    axes: Axes,
    picture: Picture,
    stretch: tuple[float, float],
    *,
    unit: str = "",
    colors: str = IMAGES,
) -> Any:
    """Draw a plane; the same `stretch` makes pictures comparable. Returns Matplotlib's image.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where to draw.
    picture : Picture
        What to draw; pixels that are unknown stay empty.
    stretch : tuple of float
        Values of the darkest and the brightest colour.
    unit : str
        Of the colour bar.
    colors : str
        Name of a colour map of Matplotlib's.
    """
    from matplotlib import colormaps

    image = axes.imshow(
        picture.pixels,
        cmap=colormaps[colors].resampled(SHADES),
        vmin=stretch[0],
        vmax=stretch[1],
        origin="lower",
        extent=picture.extent,
        aspect="equal" if _is_squarish(picture) else "auto",
        interpolation="none",
    )
    figure = axes.get_figure()
    if figure is not None:
        bar = figure.colorbar(image, ax=axes, pad=0.02, fraction=0.05, aspect=30)
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=2)
        _label(bar.ax.set_ylabel, unit)
    _few_ticks(axes)
    return image


def draw_mask(axes: Axes, picture: Picture, sky: Picture, stretch: tuple[float, float]) -> Any:
    """Draw a grism exposure, and over it what its mask does not take for sky."""
    from matplotlib.colors import ListedColormap

    image = draw_image(axes, picture, stretch)
    axes.imshow(
        np.where(sky.pixels < 0.5, np.float32(1), np.float32(np.nan)),
        cmap=ListedColormap([ORANGE]),
        alpha=0.55,
        origin="lower",
        extent=sky.extent,
        aspect=axes.get_aspect(),
        interpolation="none",
    )
    return image


def draw_profile(axes: Axes, profile: Profile, along: str, *, unit: str = "") -> None:
    """Draw what is left along rows or columns (`along`), one standard error to both sides."""
    value, error = profile.value, profile.error
    _zero(axes)
    axes.fill_between(
        profile.place, value - error, value + error, color=BLUE, alpha=0.3, lw=0, step="mid"
    )
    axes.plot(profile.place, value, color=BLUE, drawstyle="steps-mid")
    reach = 1.15 * float(np.max(np.abs(value) + error, initial=0)) or 1.0
    axes.set_ylim(-reach, reach)
    axes.set_xlabel(along)
    _label(axes.set_ylabel, unit)


def draw_histogram(axes: Axes, histogram: Histogram) -> None:
    """Draw how the sky that is left scatters, and what it were if ERR were all (unit normal)."""
    edges, counts = histogram.edges, histogram.counts
    axes.stairs(counts, edges, fill=True, color=BLUE, alpha=0.35)
    axes.stairs(counts, edges, color=BLUE, label="sky pixels")
    x = np.linspace(edges[0], edges[-1], 201)
    normal = np.exp(-0.5 * x**2) / math.sqrt(2 * math.pi)
    axes.plot(
        x,
        normal * histogram.pixels * (edges[1] - edges[0]),
        color=ORANGE,
        ls="--",
        label="unit normal",
    )
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, None)
    axes.set_xlabel("what is left, in ERR")
    axes.set_ylabel("pixels")
    axes.yaxis.set_major_formatter(_thousands)
    axes.legend(loc="upper right", frameon=False)


# Image from image.


def draw_counts(axes: Axes, counts: Picture) -> None:
    """Draw from how many samples each pixel of an averaged background comes."""
    known = counts.pixels[np.isfinite(counts.pixels)]
    most = max(1.0, float(known.max(initial=1)))
    draw_image(axes, counts, (0, most), unit="samples")


def draw_levels(
    axes: Axes, levels: Mapping[str, float], *, combined: float | None = None, unit: str = ""
) -> None:
    """Draw the level of the sky of each background exposure, and that of their combination.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where to draw.
    levels : mapping of str to float
        By the names of the exposures; NaN where none was found.
    combined : float, optional
        The level of what was subtracted.
    unit : str
        Of all of them.
    """
    places = np.arange(len(levels))
    if combined is not None and math.isfinite(combined):
        axes.axvline(combined, color=ORANGE, ls="--", label="subtracted")
        _legend_above(axes)
    axes.plot(list(levels.values()), places, "o", color=BLUE, ms=5)
    axes.set_ylim(len(levels) - 0.4, -0.6)
    if len(levels) <= MOST_NAMES:
        axes.set_yticks(places, [_short(name) for name in levels], parse_math=False)
    else:
        axes.set_ylabel("background exposure")
    axes.margins(x=0.15)
    axes.locator_params(axis="x", nbins=4)
    _label(axes.set_xlabel, f"sky, {unit}" if unit else "sky")


# Grism skies.


def draw_iterations(
    axes: Axes,
    scales: Sequence[float],
    rejected: Sequence[int],
    *,
    error: float = math.nan,
) -> None:
    """Draw the scale of a grism's sky by iteration, and the pixels that each rejected.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where to draw; the pixels get an axis of their own on the right.
    scales : sequence of float
        Of the iterations, that before any rejection first.
    rejected : sequence of int
        Pixels that went before each.
    error : float
        Standard error of the last scale.
    """
    numbers = np.arange(len(scales))
    bars = axes.twinx()
    bars.bar(numbers, rejected, color=ORANGE, alpha=0.35, width=0.6)
    bars.set_ylabel("pixels rejected")
    bars.set_ylim(0, 2.5 * max(max(rejected, default=0), 1))  # below the line
    bars.yaxis.set_major_formatter(_thousands)
    axes.set_zorder(bars.get_zorder() + 1)
    axes.patch.set_visible(False)
    axes.plot(numbers, scales, "o-", color=BLUE, ms=5)
    if math.isfinite(error) and len(scales):
        axes.errorbar(numbers[-1:], scales[-1:], error, color=BLUE, capsize=3)
    axes.set_xticks(numbers if len(numbers) < 12 else numbers[::5])
    axes.set_xlabel("iteration")
    axes.set_ylabel("scale of the template")
    axes.margins(y=0.4)


# SOSS.


def draw_templates(
    axes: Axes, sides: npt.NDArray[np.float64], chosen: int | None, *, label: str = "RMSE"
) -> None:
    """Draw how well each template suits, on the left and the right of the jump.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where to draw.
    sides : (templates, 1 or 2) float64
        RMSE, or log-likelihood; of two columns the left side is the first.
    chosen : int or None
        The one that was taken.
    label : str
        What the numbers are.
    """
    numbers = np.arange(len(sides))
    names = ("left", "right") if sides.shape[1] == 2 else ("",)
    for name, values, color, mark in zip(names, sides.T, (BLUE, ORANGE), "os", strict=False):
        axes.plot(numbers, values, f"{mark}-", color=color, label=name or None, ms=4, lw=1)
    if chosen is not None:
        axes.axvspan(chosen - 0.4, chosen + 0.4, color=GREEN, alpha=0.25, lw=0, label="chosen")
    axes.legend(frameon=False)
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("template")
    axes.set_ylabel(label)


def draw_sides(axes: Axes, sides: Sides, *, unit: str = "") -> None:
    """Draw the sky on both sides of the jump, and the background that was fitted to it."""
    axes.axvspan(*sides.jump, color=GREEN, alpha=0.3, lw=0, label="jump")
    axes.plot(sides.place, sides.before, color=BLUE, label="target, away from the star")
    axes.plot(sides.place, sides.background, color=ORANGE, ls="--", label="background")
    axes.legend(frameon=False)
    axes.set_xlabel("column")
    _label(axes.set_ylabel, unit)


def draw_times(axes: Axes, segments: Mapping[str, Times]) -> None:
    """Draw the scale of the sky in time, of one segment or of several, by their names."""
    start = 0.0
    axes.axhline(1, color=_ink(), lw=0.8)
    for (name, times), color in zip(segments.items(), _colors(len(segments)), strict=True):
        axes.errorbar(
            times.integration + start,
            times.scale,
            times.error,
            fmt="o",
            color=color,
            ms=4,
            capsize=2,
            label=_plain_text(name),
        )
        start += float(times.integration[-1])
    if len(segments) > 1:
        axes.legend(frameon=False)
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("integration")
    axes.set_ylabel("sky over background")


def draw_knots(
    axes: Axes,
    hours: npt.NDArray[np.float64],
    scales: npt.NDArray[np.float64],
    errors: npt.NDArray[np.float64],
) -> None:
    """Draw the knots of the spline by which a robust SOSS fit changes its scales in time.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where to draw.
    hours : (knots,) float64
        Since the first integration.
    scales, errors : (knots, 2) float64
        Left and right of the jump, over the constant scales, and their standard errors.
    """
    axes.axhline(1, color=_ink(), lw=0.8)
    sides = zip(("left", "right"), (BLUE, ORANGE), "os", scales.T, errors.T, strict=True)
    for name, color, mark, values, widths in sides:
        axes.errorbar(
            hours, values, widths, fmt=f"{mark}-", color=color, ms=4, lw=1, capsize=2, label=name
        )
    axes.legend(frameon=False)
    axes.set_xlabel("hours since the first integration")
    axes.set_ylabel("scale over the constant one")


# Of every mode.


def draw_metrics(axes: Axes, metrics: Mapping[str, tuple[float, str]]) -> None:
    """Draw how near each metric of a subtraction comes to what is worth a look.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where to draw.
    metrics : mapping of str to (float, str)
        By their names: the value in units of its first limit, and its grade.
    """
    places = np.arange(len(metrics))
    axes.axvline(1, color=_ink(), lw=0.8)
    for grade, (color, mark) in GRADES.items():
        chosen = [one == grade for _, one in metrics.values()]
        if any(chosen):
            values = np.array([far for far, _ in metrics.values()])
            axes.plot(values[chosen], places[chosen], mark, color=color, ms=6, label=grade)
    axes.set_yticks(places, [name.replace("_", " ") for name in metrics])
    axes.set_ylim(len(metrics) - 0.5, -0.5)
    axes.set_xscale("symlog", linthresh=0.1)
    axes.set_xlim(0, max(10, 2 * max(far for far, _ in metrics.values())))
    axes.set_xlabel("value over its first limit")
    _legend_above(axes)


# What they share.


def _legend_above(axes: Axes) -> None:
    """Put the legend where no data are."""
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, frameon=False, borderaxespad=0.2)


def _is_squarish(picture: Picture) -> bool:
    return 1 / 3 <= picture.shape[0] / picture.shape[1] <= 3


def _colors(number: int) -> list[str]:
    return [(BLUE, ORANGE, GREEN, PURPLE)[one % 4] for one in range(number)]


def _ink() -> str:
    import matplotlib

    return str(matplotlib.rcParams["axes.edgecolor"])


def _zero(axes: Axes) -> None:
    axes.axhline(0, color=_ink(), lw=0.8)


def _few_ticks(axes: Axes) -> None:
    axes.locator_params(nbins=4)
    axes.tick_params(length=2)


def _thousands(value: float, _place: float) -> str:
    return f"{value:,.0f}"


def _label(put: Any, text: str) -> None:
    """Put text that may come from a file: a dollar sign in it is one."""
    put(text, parse_math=False)


def _plain_text(text: str) -> str:
    """Give text of a file to a legend, which would take dollar signs for mathematics."""
    return text.replace("$", r"\$")


def _short(name: str) -> str:
    return name if len(name) <= 22 else f"{name[:9]}…{name[-12:]}"
