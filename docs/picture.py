"""Make the picture of README and of the documentation's first page, from simulated exposures.

``python docs/picture.py`` writes ``picture.png`` and ``picture-dark.png`` beside itself.
"""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

import webbkg
from webbkg.files.exposures import DetectorWindow
from webbkg.options import DO_NOT_USE
from webbkg.report import figures
from webbkg.report.snapshot import Picture, shrink, sky_range
from webbkg.simulate import imaging, soss, wfss
from webbkg.simulate.detector import nircam_subarray
from webbkg.simulate.grism_scene import GRISM_FIELD, NIRCAM_R

HERE = Path(__file__).parent
SIZE = 512
STYLES = {"picture.png": "default", "picture-dark.png": "dark_background"}

Pair = tuple[Picture, Picture]


def image() -> Pair:
    """Subtract the average of four backgrounds from a NIRCam image with a bright sky."""
    part = nircam_subarray(DetectorWindow(700, 700, SIZE, SIZE))
    scene = imaging.ImagingScene()
    target, others = imaging.simulate_imaging_set(scene, 3, n_backgrounds=4, subarray=part)
    return pair(target.model, [other.model for other in others])


def grism() -> Pair:
    """Subtract a scaled template from a NIRCam grism exposure, with the field's catalogue."""
    window = DetectorWindow(0, 400, 2 * SIZE, SIZE)
    scene = replace(NIRCAM_R, population=replace(GRISM_FIELD, stars=90, galaxies=180))
    field = wfss.draw_field(scene, 8, nircam_subarray(window))
    return pair(
        wfss.observe(field).model,
        override_bkg=wfss.template_model(field.scene, field.seed),
        override_wavelengthrange=wfss.wavelengthrange_model(field.scene),
        catalog=wfss.source_catalog(field),
    )


def series() -> Pair:
    """Subtract the best of a library of templates from a NIRISS SOSS time series."""
    made = soss.draw_series(soss.draw_field(seed=4), 4)
    model = soss.segment_model(made, soss.split_series(made, 1)[0])
    return pair(model, override_bkg=soss.template_model(made.shown.scene, made.shown.seed))


def pair(target: object, backgrounds: object = None, **given: object) -> Pair:
    """Subtract, and show the target before and after."""
    done = webbkg.subtract(target, backgrounds, robust=True, **given)
    assert done.status == "COMPLETE", done.outcome.reason
    return shown(target), shown(done.product)


def shown(model: object) -> Picture:
    """Average SCI, of a cube over its integrations, into few pixels."""
    sci = np.asarray(model.data)
    unusable = ((np.asarray(model.dq) & DO_NOT_USE) != 0) | ~np.isfinite(sci)
    planes = np.ma.array(sci, mask=unusable).reshape(-1, *sci.shape[-2:])
    return shrink(planes.mean(axis=0).filled(np.nan))


def stretch(before: Picture, after: Picture) -> tuple[float, float]:
    """Tell what is darkest and brightest in both: from below what is left to above the sky."""
    low, high = (sky_range([one.pixels]) for one in (after, before))
    return low[0] / 2, high[1]


def draw(column: tuple[Axes, Axes], title: str, made: Pair) -> None:
    """Draw a target before and after, with one stretch."""
    low, high = stretch(*made)
    for axes, picture in zip(column, made, strict=True):
        axes.imshow(
            picture.pixels,
            cmap=figures.IMAGES,
            vmin=low,
            vmax=high,
            origin="lower",
            aspect="auto",
            interpolation="antialiased",
        )
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    column[0].set_title(title, fontsize=10)


def compose(columns: dict[str, Pair]) -> Figure:
    """Draw all modes, a column each."""
    figure = Figure(figsize=(8.4, 4.2), layout="constrained")
    axes = figure.subplots(2, len(columns))
    for column, (title, made) in zip(axes.T, columns.items(), strict=True):
        draw(column, title, made)
    for row, name in zip(axes[:, 0], ("before", "after"), strict=True):
        row.set_ylabel(name, fontsize=10)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Save a figure in few colours: a third of the bytes."""
    drawn = BytesIO()
    figure.savefig(drawn, dpi=110, transparent=True)
    Image.open(drawn).quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    """Simulate, subtract and draw, for light and dark pages."""
    columns = {
        "image from image": image(),
        "WFSS: grism field": grism(),
        "NIRISS SOSS: time series": series(),
    }
    for name, kind in STYLES.items():
        with style.context(kind):
            save(compose(columns), HERE / name)


if __name__ == "__main__":
    main()
