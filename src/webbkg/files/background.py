"""Saved backgrounds without a data model: an image, with the metadata of the target it is for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from webbkg.files.cards import Cards, header_of, image_paths
from webbkg.files.fits import CARD
from webbkg.files.models import COUNTS, saved_flags
from webbkg.files.product import Part, Survey, hash_of, table_header, words_header, write_parts
from webbkg.files.tree import Tree
from webbkg.results import Background, CombinedBackground

MODELS = ("ImageModel", "CubeModel", "IFUImageModel")
"""Classes of targets whose metadata are those of an image."""

_ARRAYS = ("data", "err", "dq")


@dataclass(frozen=True, kw_only=True)
class BackgroundDraft:
    """A background that is to be written.

    Attributes
    ----------
    target : Survey
        The file of the target that it is for, of one of `MODELS`.
    values : mapping of str to object
        What the target's product says that the target did not; see `webbkg.files.product.Draft`.
    background : Background
        On the target's window.
    """

    target: Survey
    values: Mapping[str, Any]
    background: Background

    def write(self, stream: IO[bytes], name: str) -> None:
        """Write it to an open, empty file; `name` is its FILENAME.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        tree = Tree(self.target.asdf)
        values = {**tree.plain(image_paths()), **self._told(name)}
        del values["meta.cal_step.bkg_subtract"]  # a background is not background-subtracted
        cards = Cards.bare(self.target.hdus[0].raw)
        cards.put(values)
        parts = [Part(cards.as_bytes()), *self._planes()]
        tree.reduce(self.background.sci.shape, _ARRAYS)
        if isinstance(self.background, CombinedBackground):
            counts, named = self.background.counts, ("EXTNAME", COUNTS, "extension name")
            words = (counts ^ np.uint32(2**31)).astype(">u4").tobytes()
            parts.append(Part(words_header(counts.shape, named), content=words))
            tree.put_array(f"extra_fits.{COUNTS}.data", "dq", f"fits:{COUNTS},1")
        logs = {path: lines for path, lines in self.values.items() if path.startswith("cal_logs.")}
        for path, value in {**values, **logs}.items():
            tree.put(path, value)
        tree.put("_fits_hash", hash_of(part.raw for part in parts))
        content = tree.as_bytes()
        header = table_header(self.target.hdus[-1].raw, len(content))
        write_parts([*parts, Part(header, content=content)], self.target.path, stream)

    def _told(self, name: str) -> dict[str, Any]:
        """Return what has a keyword of what the product says, and what every file says of itself."""
        now = datetime.now(UTC).replace(tzinfo=None)
        return {
            "meta.cal_step.bkg_subtract": None,
            **{path: value for path, value in self.values.items() if path in image_paths()},
            "meta.model_type": "ImageModel",
            "meta.filename": name,
            "meta.date": now.isoformat(timespec="milliseconds"),
        }

    def _planes(self) -> list[Part]:
        background = self.background
        stored: dict[str, npt.NDArray[Any]] = {
            "SCI": background.sci.astype(">f4"),
            "ERR": background.err.astype(">f4"),
            "DQ": (saved_flags(background) ^ np.uint32(2**31)).astype(">u4"),
        }
        return [
            Part(_image_header(hdu.raw), content=stored[hdu.name].tobytes())
            for hdu in self.target.hdus
            if hdu.name in stored
        ]


def _image_header(raw: bytes) -> bytes:
    """Make the header of a cube that of an image."""
    text = raw.decode("ascii")
    cards = [text[start : start + CARD] for start in range(0, len(text), CARD)]
    cards = cards[: next(i for i, card in enumerate(cards) if card.rstrip() == "END")]
    kept = [card for card in cards if not card.startswith("NAXIS3  =")]
    return header_of(re.sub(r"^(NAXIS   = +)3", r"\g<1>2", card) for card in kept)
