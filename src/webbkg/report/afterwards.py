"""Reports of products that are there already, from what they say and from their inputs.

A product says what was done to which target; with the target's file the background is the difference.
What is not known (a file that has moved, a product that was worked on since) is left out, and said.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from webbkg.errors import InputError, WebbkgError
from webbkg.files import door
from webbkg.files.exposures import Exposure, ExposureInfo
from webbkg.files.masks import read_mask
from webbkg.files.models import COUNTS, open_header, open_model, read_meta
from webbkg.files.naming import product_path
from webbkg.files.output import make_folder
from webbkg.numerics.planes import PlaneSource
from webbkg.options import SOSS_STEP_COLUMNS, SossOptions
from webbkg.report.content import Content, Pairs, facts_of
from webbkg.report.index import INDEX_NAME, Row, write_index
from webbkg.report.page import check_extra, render
from webbkg.report.snapshot import BAND_ROWS, Snapshot, take
from webbkg.report.writing import report_path, write_page
from webbkg.results import (
    Background,
    BoolImage,
    CombinedBackground,
    CountImage,
    FloatImage,
    Outcome,
    SampleCounts,
    SossResult,
    Status,
    TemplateFit,
)


@dataclass(kw_only=True)
class Report:
    """What became of the report of a product.

    Attributes
    ----------
    product : Path
        As it was named.
    page : Path or None
        What was written.
    gaps : tuple of str
        What is not on it, and why.
    error : WebbkgError or None
        Why there is none.
    row : Row
        For an index.
    """

    product: Path
    page: Path | None = None
    gaps: tuple[str, ...] = ()
    error: WebbkgError | None = None
    row: Row = field(init=False)


def write_reports(
    products: Sequence[Path], inputs: Sequence[Path] = (), output_dir: Path | None = None
) -> Iterator[Report]:
    """Write a page for each product; one at a time, an error is noted on its report.

    Parameters
    ----------
    products : sequence of Path
        That webbkg has made.
    inputs : sequence of Path
        Targets and background exposures, or folders with them, where they are not beside the
        products or in the current folder.
    output_dir : Path, optional
        Of the pages; by default each goes beside its product.

    Raises
    ------
    MissingExtraError
        Without Matplotlib and Jinja2.
    OutputError
        If the folder cannot be made.
    """
    check_extra()
    folder = None if output_dir is None else make_folder(output_dir)
    for product in products:
        done = Report(product=product)
        page = report_path(product if folder is None else folder / product.name)
        try:
            content = read_content(product, inputs)
            with door.reading(product, "what it says of its subtraction cannot be shown"):
                text, row = render(content), Row.of(content, page)
            write_page(text, page)
            done.page, done.gaps, done.row = page, content.gaps, row
        except WebbkgError as error:
            done.error = error
            done.row = Row(target=product.name, status="ERROR", reason=str(error))
        yield done


def write_reports_index(reports: Sequence[Report]) -> Path | None:
    """Write the index of several reports beside the first page; None where there is none.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    first = next((one.page for one in reports if one.page is not None), None)
    if first is None or len(reports) < 2:
        return None
    return write_index([one.row for one in reports], first.parent / INDEX_NAME)


def read_content(product: Path, inputs: Sequence[Path] = ()) -> Content:
    """Read what the page of a product tells; see `write_reports`.

    Raises
    ------
    InputError
        If it is none of webbkg's products, or cannot be read.
    """
    with open_model(product) as model:
        told = read_meta(model, "meta.background.webbkg")
        if not isinstance(told, Mapping):
            raise InputError(
                f"{product}: says nothing of a subtraction by webbkg; name one of its products"
            )
        with door.reading(product, "what it says of its subtraction cannot be read"):
            content = _from_tree(product, model, copy.deepcopy(dict(told)))
    return _with_pictures(content, product, _Search(product.parent, inputs))


def _from_tree(product: Path, model: Any, told: dict[str, Any]) -> Content:
    info = ExposureInfo.from_model(model)
    log = [str(line) for lines in (read_meta(model, "cal_logs") or {}).values() for line in lines]
    reason = str(told.get("reason", "None"))
    return Content(
        target=str(told.get("target") or product.name),
        status=str(told.get("status", "")),
        reason="" if reason == "None" else reason,
        told=told,
        unit=info.unit or "",
        facts=facts_of(info, np.shape(read_meta(model, "data"))),
        references=_references(read_meta(model, "meta.ref_file")),
        versions=_versions(model, told),
        product=product.name,
        log=tuple(log),
    )


def _references(tree: Any) -> Pairs:
    named = tree.items() if isinstance(tree, Mapping) else ()
    found = [(kind, one.get("name")) for kind, one in named if isinstance(one, Mapping)]
    return tuple((str(kind), str(name)) for kind, name in found if name)


def _versions(model: Any, told: Mapping[str, Any]) -> Pairs:
    known = {
        "webbkg": told.get("version"),
        "calibration software": read_meta(model, "meta.calibration_software_version"),
        "CRDS context": read_meta(model, "meta.ref_file.crds.context_used"),
    }
    return tuple((name, str(value)) for name, value in known.items() if value)


@dataclass(frozen=True)
class _Search:
    """Where inputs are looked for: as they were named, beside the product, here."""

    folder: Path
    given: Sequence[Path]

    def find(self, name: str) -> Path | None:
        """Find a file by its name; None if it is nowhere."""
        for one in self.given:
            if one.name == name and one.is_file():
                return one
        for folder in (*(one for one in self.given if one.is_dir()), self.folder, Path()):
            path = folder / Path(name).name
            if path.name and door.exists(path) and path.is_file():
                return path
        return None


def _with_pictures(content: Content, product: Path, search: _Search) -> Content:
    """Take the pictures from product and target; where that fails, say why there are none."""
    target = search.find(str(content.told.get("target", "")))
    if target is None:
        return replace(
            content,
            gaps=(f"The pictures: the target, {content.target}, is not found; name it, --input.",),
        )
    try:
        with door.reading(product.name, "its pictures cannot be made"):
            shot, gaps = _snapshot(content, product, target, search)
    except WebbkgError as error:
        return replace(content, gaps=(f"The pictures: {error}",))
    times = {} if shot.times is None else {content.target: shot.times}
    return replace(content, snapshot=shot, times=times, gaps=gaps)


def _snapshot(
    content: Content, product: Path, target: Path, search: _Search
) -> tuple[Snapshot, tuple[str, ...]]:
    _check_steps(product, target)
    with (
        Exposure.from_file(target, needed=("SCI", "DQ")) as before,
        Exposure.from_file(product, needed=("SCI", "DQ")) as after,
    ):
        if before.planes.shape != after.planes.shape:
            raise InputError(f"{target}: is of another shape than {product.name}; name its target")
        counts = _counts(content, product, before.shape)
        background = None
        if content.status == Status.COMPLETE:
            background = _difference(before.planes, after.planes, content, counts)
        outcome = Outcome(
            status=Status.COMPLETE,
            background=background,
            sky_mask=_sky_mask(content, product, before.shape),
            result=_result(content, before.shape[0]),
        )
        missing: list[str] = []
        shot = take(before.planes, outcome, _exposures(content, search, missing))
    gaps = [f"The sky of {name}: the file is not found." for name in missing]
    if content.mode == "image" and counts is None:
        gaps.append(
            "Samples a pixel: kept where the product was made with save_combined_background."
        )
    return shot, tuple(gaps)


def _check_steps(product: Path, target: Path) -> None:
    """Make sure that nothing but a subtraction lies between the two."""
    done = [_steps(path) for path in (product, target)]
    differing = sorted(
        name
        for name in done[0].keys() | done[1].keys()
        if name != "bkg_subtract" and done[0].get(name) != done[1].get(name)
    )
    if differing:
        raise InputError(
            f"{product.name}: was worked on since ({', '.join(differing)}), so that its difference "
            "from the target is no background"
        )


def _steps(path: Path) -> dict[str, Any]:
    is_asdf = path.suffix.lower() == ".asdf"
    with open_model(path) if is_asdf else open_header(path) as model:
        steps = read_meta(model, "meta.cal_step") or {}
        return {name: value for name, value in steps.items() if value is not None}


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class _Lost(Background):
    """What a cube lost, whose sky may have changed from integration to integration."""

    before: PlaneSource
    after: PlaneSource

    def sky(self, integration: int, rows: Any) -> FloatImage:
        """Return what rows (a slice, or their numbers) of an integration lost."""
        numbers = np.arange(self.sci.shape[0])[rows]
        found = np.empty((len(numbers), self.sci.shape[1]), np.float32)
        for row, line in zip(found, numbers.tolist(), strict=True):
            room = np.empty((2, 1, 1, len(row)), np.uint32)
            (one,), (other,) = (
                planes.rows(["SCI"], integration, line, line + 1, words)
                for planes, words in zip((self.before, self.after), room, strict=True)
            )
            with np.errstate(invalid="ignore"):
                row[:] = one[0] - other[0]
        return found


def _difference(
    before: PlaneSource, after: PlaneSource, content: Content, counts: CountImage | None
) -> Background:
    """Take the background as what the first integration lost."""
    _, rows, columns = before.shape
    sci, dq = np.empty((rows, columns), np.float32), np.empty((rows, columns), np.uint32)
    covered = np.ones((rows, columns), np.bool_)
    partly = bool(content.told.get("pixels_uncovered", 0))
    for start in range(0, rows, BAND_ROWS):
        stop = min(start + BAND_ROWS, rows)
        room = np.empty((2, 2, stop - start, columns), np.uint32)
        (one, flags), (other, others) = (
            planes.rows(["SCI", "DQ"], 0, start, stop, words)
            for planes, words in zip((before, after), room, strict=True)
        )
        with np.errstate(invalid="ignore"):
            sci[start:stop] = one - other
        dq[start:stop] = others & ~flags
        if partly:
            covered[start:stop] = sci[start:stop] != 0
    sci[~covered] = np.nan
    nothing: FloatImage = np.broadcast_to(np.float32(0), sci.shape)
    common: dict[str, Any] = {"sci": sci, "err": nothing, "dq": dq, "covered": covered}
    if counts is None and before.shape[0] > 1:
        return _Lost(**common, before=before, after=after)
    if counts is None:
        return Background(**common)
    none = SampleCounts()
    return CombinedBackground(**common, counts=counts, exposures=none, integrations=none)


def _counts(content: Content, product: Path, shape: tuple[int, int]) -> CountImage | None:
    """Read the samples a pixel from the saved average beside a product, if there is one."""
    name = product_path(product.name, "combinedbackground", output_dir=product.parent)
    if content.mode != "image" or not door.exists(name):
        return None
    with open_model(name) as model:
        found = read_meta(model, f"extra_fits.{COUNTS}.data")
        if np.shape(found) != shape:
            return None
        return np.array(found, np.uint32)


def _sky_mask(content: Content, product: Path, shape: tuple[int, int]) -> BoolImage | None:
    if content.mode != "wfss":
        return None
    mask: BoolImage = read_mask(product, shape, product.name, "mask")
    return mask


def _result(content: Content, rows: int) -> SossResult | None:
    """Say of a SOSS exposure where the jump of its template is; roughly, where that is not told."""
    if content.mode != "soss":
        return None
    propagated = content.told.get("propagated") or {}
    jump = np.array(propagated.get("jump") or np.resize(SOSS_STEP_COLUMNS, rows), np.int64)
    return SossResult(
        options=SossOptions(),
        reference="",
        segments=1,
        fit=TemplateFit(status=Status.COMPLETE, jump=jump),
    )


def _exposures(
    content: Content, search: _Search, missing: list[str]
) -> Iterator[tuple[str, PlaneSource]]:
    """Open the exposures that were averaged, one at a time; note those that are missing."""
    if content.mode != "image":
        return
    for name in map(str, content.told.get("backgrounds", ())):
        path = search.find(name)
        if path is None:
            missing.append(name)
            continue
        with Exposure.from_file(path, needed=("SCI", "DQ")) as exposure:
            yield name, exposure.planes
