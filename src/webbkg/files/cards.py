"""Cards of a primary header, put in at their place, as the data models would write them.

The place, the comment and the heading of a keyword are those of the stdatamodels schema that is
installed; it is read as a YAML text, and the package is not imported. The core schema has every
keyword of a primary header; those of the others are of extensions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from webbkg.errors import InputError
from webbkg.files.fits import CARD, FITS_BLOCK

_BLANK = " " * CARD
_STRUCTURE = re.compile(r"SIMPLE|BITPIX|NAXIS\d*|EXTEND")
_LONGEST_TEXT = CARD - len("KEYWORD = ''")
"""Characters between the quotes of a card."""

_LONGEST_PART, _LONGEST_COMMENT = 67, 64
"""Characters of a text, and of a comment, that a card with a CONTINUE after it holds."""


@dataclass(frozen=True)
class Keyword:
    """What the schema says of a keyword of the primary header.

    Attributes
    ----------
    name : str
        The keyword.
    path : str
        Of its metadata, such as ``meta.cal_step.bkg_subtract``.
    place : int
        Where it stands among the others.
    comment : str
        Of its card.
    headings : tuple of (str, str)
        Path and title of each section that it is in, the outermost first.
    """

    name: str
    path: str
    place: int
    comment: str
    headings: tuple[tuple[str, str], ...]

    def headings_after(self, former: Keyword | None) -> list[str]:
        """Return the cards of the headings between the keyword before and this one."""
        known = () if former is None else former.headings
        titles = [title for path, title in self.headings if (path, title) not in known]
        return [card for title in titles for card in (_BLANK, f"{'':8}{title}", _BLANK)]


@cache
def keywords() -> Mapping[str, Keyword]:
    """Read the keywords of a primary header, by their paths, from the installed schema."""
    found = (one for hdu, one in _walk(_schema("core.schema"), "", ()) if hdu == "PRIMARY")
    return MappingProxyType(
        {path: Keyword(name, path, place, *told) for place, (name, path, *told) in enumerate(found)}
    )


@cache
def image_paths() -> frozenset[str]:
    """Read which metadata of an image have a keyword, of whichever of its extensions."""
    return frozenset(path for _, (_, path, *_) in _walk(_schema("image.schema"), "", ()))


def _schema(name: str) -> Any:
    """Read a schema as YAML nodes."""
    import yaml

    package = find_spec("stdatamodels")  # of a package at the top level: nothing is imported
    assert package is not None
    assert package.submodule_search_locations is not None
    folder = Path(package.submodule_search_locations[0]) / "jwst" / "datamodels" / "schemas"
    text = (folder / f"{name}.yaml").read_bytes()
    return yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _walk(node: Any, path: str, headings: tuple[tuple[str, str], ...]) -> Iterator[Any]:
    """Yield the HDU of each keyword below a node, and its name, path, comment and headings."""
    said = {key.value: value for key, value in node.value}
    title = said["title"].value if "title" in said else ""
    if "$ref" in said:
        yield from _walk(_schema(said["$ref"].value), path, headings)
    elif "fits_keyword" in said:
        hdu = said["fits_hdu"].value if "fits_hdu" in said else "PRIMARY"
        description = said["description"].value if "description" in said else ""
        comment = (title or description).partition("\n")[0]
        yield hdu, (said["fits_keyword"].value, path, comment, headings)
    for one in said["allOf"].value if "allOf" in said else ():
        yield from _walk(one, path, headings)
    headings = (*headings, (path, title)) if title else headings
    for key, value in said["properties"].value if "properties" in said else ():
        yield from _walk(value, f"{path}.{key.value}".lstrip("."), headings)


class Cards:
    """The cards of a primary header, to change some of them.

    Parameters
    ----------
    raw : bytes
        The blocks of the header, in ASCII.
    """

    def __init__(self, raw: bytes) -> None:
        text = raw.decode("ascii")
        cards = [text[start : start + CARD] for start in range(0, len(text), CARD)]
        self._cards = cards[: next(i for i, card in enumerate(cards) if card.rstrip() == "END")]

    @classmethod
    def bare(cls, raw: bytes) -> Cards:
        """Take those alone that describe the file itself."""
        cards = cls(raw)
        del cards._cards[cards._begin() :]
        return cards

    def put(self, values: Mapping[str, Any]) -> None:
        """Set metadata, by their paths, that have a keyword; the others are passed over."""
        for path, value in values.items():
            keyword = keywords().get(path)
            if keyword is not None:
                self._put(keyword, format_card(keyword.name, value, keyword.comment))

    def _put(self, keyword: Keyword, new: list[str]) -> None:
        here, former, later = self._neighbours(keyword)
        if here is not None:
            start, stop = self._span(here)
            self._cards[start:stop] = new
            return
        start = stop = self._begin() if former is None else self._span(former.name)[1]
        new = [*_padded(keyword.headings_after(former)), *new]
        if later is not None:
            first = self._span(later.name)[0]
            if self._cards[start:first] == _padded(later.headings_after(former)):
                stop = first
                new += _padded(later.headings_after(keyword))
        self._cards[start:stop] = new

    def _neighbours(self, keyword: Keyword) -> tuple[str | None, Keyword | None, Keyword | None]:
        """Find a keyword, and those before and after it in the schema that are there."""
        present = {card[:8].rstrip() for card in self._cards if card[8:10] == "= "}
        known = [one for one in keywords().values() if one.name in present]
        before = [one for one in known if one.place < keyword.place]
        after = [one for one in known if one.place > keyword.place]
        return (
            keyword.name if keyword.name in present else None,
            before[-1] if before else None,
            after[0] if after else None,
        )

    def _span(self, name: str) -> tuple[int, int]:
        """Tell where a card begins, and where what continues it ends."""
        start = next(i for i, card in enumerate(self._cards) if card[:10] == f"{name:8}= ")
        stop = start + 1
        while stop < len(self._cards) and self._cards[stop].startswith("CONTINUE"):
            stop += 1
        return start, stop

    def _begin(self) -> int:
        """Tell where the cards that describe the file itself end."""
        kinds = (bool(_STRUCTURE.fullmatch(card[:8].rstrip())) for card in self._cards)
        return 1 + max(i for i, is_structure in enumerate(kinds) if is_structure)

    def put_cards(self, cards: Iterable[tuple[str, str, str]]) -> None:
        """Set cards (keyword, value, comment) that no schema knows; new ones come last."""
        for name, value, comment in cards:
            new = format_card(name, value, comment)
            if any(card[:10] == f"{name:8}= " for card in self._cards):
                start, stop = self._span(name)
            else:
                places = [i for i, card in enumerate(self._cards) if card[:8] == "HISTORY "]
                start = stop = places[0] if places else len(self._cards)
            self._cards[start:stop] = new

    @property
    def history(self) -> list[str]:
        """The texts of the HISTORY cards."""
        return [card[8:].rstrip() for card in self._cards if card[:8] == "HISTORY "]

    def add_history(self, entries: Iterable[str]) -> None:
        """Add HISTORY cards, for entries that each fit into one."""
        places = [i for i, card in enumerate(self._cards) if card[:8] == "HISTORY "]
        at = places[-1] + 1 if places else len(self._cards)
        self._cards[at:at] = [f"HISTORY {entry:72}" for entry in entries]

    def as_bytes(self) -> bytes:
        """Return the blocks of the header."""
        return header_of(self._cards)


def merged_cards(
    known: Iterable[Sequence[Any]], new: Iterable[tuple[str, str, str]]
) -> list[list[Any]]:
    """Put cards (keyword, value, comment) among others: where the keyword is, or at the end."""
    named = {str(card[0]): list(card) for card in known if card}
    return [*(named | {card[0]: list(card) for card in new}).values()]


def header_of(cards: Iterable[str]) -> bytes:
    """Join cards to the blocks of a header."""
    text = "".join([*cards, f"{'END':{CARD}}"])
    return (text + " " * (-len(text) % FITS_BLOCK)).encode("ascii")


def _padded(cards: Iterable[str]) -> list[str]:
    return [f"{card:{CARD}}"[:CARD] for card in cards]


def format_card(keyword: str, value: Any, comment: str = "") -> list[str]:
    """Write a card as astropy does, with those that continue a long text (FITS 4.0, 4.2.1.2).

    Raises
    ------
    InputError
        If the value is neither text, a truth value, nor a finite number.

    Examples
    --------
    >>> [card.rstrip() for card in format_card("NAXIS1", 5, "length")]
    ['NAXIS1  =                    5 / length']
    """
    text = _format_value(keyword, value)
    if isinstance(value, str) and len(text) > CARD - 10:
        return _padded(_continued(keyword, value.replace("'", "''"), comment))
    return _padded([f"{keyword:8}= {text}{f' / {comment}' if comment else ''}"])


def _format_value(keyword: str, value: Any) -> str:
    if isinstance(value, str):
        quoted = value.replace("'", "''")
        return f"'{quoted:8}'".ljust(20) if value else "''"
    if isinstance(value, bool):
        return f"{'T' if value else 'F':>20}"
    if isinstance(value, int):
        return f"{value:>20d}"
    if not isinstance(value, float) or value - value != 0:
        raise InputError(f"{keyword} must be text or a finite number (got {value!r})")
    digits, e, exponent = str(float(value)).replace("e", "E").partition("E")
    return f"{digits[: 20 - len(e + exponent)]}{e}{exponent}".rjust(20)


def _continued(keyword: str, quoted: str, comment: str) -> Iterator[str]:
    """Cut a text with its comment into cards, the first with the keyword."""
    parts = _pieces(quoted, _LONGEST_PART)
    for number, part in enumerate(parts):
        ampersand = "&" if comment or number < len(parts) - 1 else ""
        yield f"{'CONTINUE  ' if number else f'{keyword:8}= '}'{part}{ampersand}'"
    pieces = _pieces(comment, _LONGEST_COMMENT) if comment else []
    for number, piece in enumerate(pieces):
        ampersand = "&" if number < len(pieces) - 1 else ""
        yield f"CONTINUE  '{ampersand}' / {piece}"


def _pieces(text: str, width: int) -> list[str]:
    """Cut a text after blanks where it has some, into pieces of at most `width`."""
    pieces = []
    while len(text) >= width:
        cut = text.rfind(" ", 0, width) + 1 or width
        pieces.append(text[:cut])
        text = text[cut:]
    return [*pieces, text] if text else pieces
