"""Sky images of one's own: wrapped as the reference background that a mode reads, or as they are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from webbkg.errors import InputError
from webbkg.files import door
from webbkg.files.exposures import FULL_FRAME, ExposureInfo, window_of
from webbkg.files.fits import checked_hdus, open_bytes, read_headers
from webbkg.files.models import open_model, read_meta
from webbkg.files.naming import plain_ascii
from webbkg.files.output import save_whole
from webbkg.files.references import TemplateImage, check_detector, cut_template, open_images
from webbkg.files.windows import Place
from webbkg.options import DO_NOT_USE

_TAKEN = (
    "meta.telescope",
    "meta.instrument.name",
    "meta.instrument.detector",
    "meta.instrument.channel",
    "meta.instrument.module",
    "meta.instrument.filter",
    "meta.instrument.pupil",
    "meta.exposure.type",
)


def make_template(
    image: str | Path, like: str | Path, output: str | Path, *, name: str | None = None
) -> Path:
    """Wrap a bare sky image into a BKG reference file for exposures like a given one.

    Parameters
    ----------
    image : path
        FITS (zipped and gzipped too) or NumPy ``.npy`` file with a 2-D image (rows, columns), a
        count rate in the target's unit; the first image of the file. Pixels that are not finite
        become NaN with DO_NOT_USE.
    like : path
        A target, whose instrument, detector, filter, pupil and exposure type are taken.
    output : path
        The file to write, ``.fits``.
    name : str, optional
        Who is to be named as the author.

    Returns
    -------
    Path
        `output`. ERR is 0: a bare image does not tell its uncertainty.

    Raises
    ------
    InputError
        If the image is not 2-D, or is neither a full frame nor of the window of `like`.
    """
    model = template_model(image, like, name=name)
    return save_whole(model, output, [Path(image), Path(like)])


def template_model(image: str | Path, like: str | Path, *, name: str | None = None) -> Any:
    """Wrap a bare sky image into a model of a BKG reference, named as the image's file is.

    See `make_template`, which writes it, for the parameters and the errors.
    """
    from stdatamodels.jwst import datamodels

    sky = _read_image(Path(image))
    with open_model(like) as target:
        model = datamodels.WfssBkgModel()
        model.data = np.where(np.isfinite(sky), sky, np.nan).astype(np.float32)
        model.err = np.zeros(sky.shape, np.float32)
        model.dq = np.where(np.isfinite(sky), 0, DO_NOT_USE).astype(np.uint32)
        for path in _TAKEN:
            value = read_meta(target, path)
            if value is not None:
                model[path] = value
        _set_window(model, target, sky.shape, Path(image).name)
        model.meta.reftype = "bkg"
        model.meta.author = name or "webbkg make-template"
        model.meta.pedigree = "GROUND"
        model.meta.useafter = "2021-12-25T00:00:00"
        model.meta.description = f"Sky image {Path(image).name} as a template"
        model.meta.filename = plain_ascii(Path(image).name)
    return model


@dataclass(frozen=True)
class OwnTemplate:
    """A template of the user's own on a target's window, and what its headers say."""

    image: TemplateImage
    info: ExposureInfo

    @property
    def usable(self) -> npt.NDArray[np.float32]:
        """Its SCI, with NaN where it is not finite or has DO_NOT_USE."""
        sci, dq = self.image.sci, self.image.dq
        flagged = False if dq is None else (dq & DO_NOT_USE) != 0
        return np.where(np.isfinite(sci) & ~np.asarray(flagged), sci, np.float32(np.nan))


def read_template(path: Any, target: Place, info: ExposureInfo) -> OwnTemplate:
    """Read a template of the user's own for a target: a reference file, or a bare sky image.

    Parameters
    ----------
    path : path
        FITS (gzipped and zipped too) or NumPy ``.npy`` file.
    target : Place
        Where the target lies; a full frame is cut to it.
    info : ExposureInfo
        What the target's headers say.

    Returns
    -------
    OwnTemplate
        On the target's window.

    Raises
    ------
    InputError
        If it cannot be read, does not cover the target, or has no finite pixel there.
    MismatchError
        If it is of another instrument or detector.
    """
    path = Path(path)
    if is_bare_image(path, "template"):
        headers, image = ExposureInfo(), _cut_bare(path, target, info)
    else:
        with open_images(path, "WfssBkgModel", needed=("SCI",)) as images:
            check_detector(images, info, target.name, "template")
            headers, cut = images.info, cut_template(images, target)
        if isinstance(cut, str):
            raise InputError(
                f"{path}: does not suit {target.name}: {cut}; take a full frame, or a template of "
                "the target's window"
            )
        image = cut
    if not np.isfinite(image.sci).any():
        raise InputError(f"{path}: this template has no finite pixel where {target.name} lies")
    return OwnTemplate(replace(image, name=path.name), headers)


def _cut_bare(path: Path, target: Place, info: ExposureInfo) -> TemplateImage:
    sky = _read_image(path)
    full = FULL_FRAME.get(info.instrument or "", (2048, 2048))
    if sky.shape == full != target.shape:
        window = target.window
        sky = sky[window.y : window.y + window.rows, window.x : window.x + window.columns]
    elif sky.shape != target.shape:
        raise InputError(
            f"{path}: the shape of a template must be that of {target.name}, {target.shape}, or of "
            f"a full frame, {full} (got {sky.shape}); cut it to the target's window"
        )
    with np.errstate(over="ignore"):
        return TemplateImage(path.name, sky.astype(np.float32), None, None)


def is_bare_image(path: str | Path, role: str = "override_bkg") -> bool:
    """Tell a bare sky image (NumPy's, or FITS without an extension SCI) from a reference file.

    Raises
    ------
    MissingFileError
        If there is no such file.
    InputError
        If it is a FITS file by its name, and none by its content.
    """
    path = door.regular_file(path, role, "a reference file or a sky image")
    if path.suffix.lower() == ".npy":
        return True
    if not path.name.lower().endswith((".fits", ".fits.gz", ".fits.zip")):
        return False
    with open_bytes(path) as stream:
        names = [str(header.get("EXTNAME", "")) for header, _ in read_headers(stream, path.name)]
    return all(name.strip().upper() != "SCI" for name in names)


def _read_image(path: Path) -> npt.NDArray[np.float64]:
    door.regular_file(path)
    with door.reading(path, "neither a FITS nor a NumPy file"):
        image = np.asarray(_load_array(path) if path.suffix == ".npy" else _first_image(path))
    if image.ndim != 2 or 0 in image.shape or image.dtype.kind not in "biuf":
        raise InputError(
            f"{path}: a 2-D sky image of real numbers is needed (got {image.dtype} "
            f"of shape {image.shape})"
        )
    return np.asarray(image, dtype=np.float64)


def _load_array(path: Path) -> Any:
    """Map a ``.npy`` file, which compares its header with the file's length; no pickles."""
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _first_image(path: Path) -> Any:
    """Return the first image of a FITS file, gzipped and zipped ones too."""
    from astropy.io import fits

    with checked_hdus(path) as stream, fits.open(stream, memmap=False) as hdus:
        return next((hdu.data for hdu in hdus if hdu.is_image and hdu.data is not None), 0)


def _set_window(model: Any, target: Any, shape: tuple[int, ...], name: str) -> None:
    """Place the template: on the target's window if it has that shape, else on the full frame."""
    info = ExposureInfo.from_model(target)
    like = str(read_meta(target, "meta.filename"))
    data = read_meta(target, "data")
    if np.ndim(data) not in (2, 3):
        raise InputError(f"{like}: has no 2-D or 3-D image to make a template for")
    window = window_of(info, data.shape[-2:], like)
    full = FULL_FRAME.get(info.instrument or "", (2048, 2048))
    subarray = model.meta.subarray
    subarray.ysize, subarray.xsize = shape
    if shape == window.shape:
        subarray.xstart, subarray.ystart = window.x + 1, window.y + 1
    elif shape == full:
        subarray.xstart, subarray.ystart = 1, 1
    else:
        raise InputError(
            f"{name}: its shape must be that of the target, {window.shape}, or of a full frame, "
            f"{full} (got {shape})"
        )
