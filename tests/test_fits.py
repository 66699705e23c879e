"""Headers are read as astropy reads them, which is asked where a card is out of the ordinary."""

import subprocess
import sys

import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from factories import make_model, ramp, save
from webbkg.errors import InputError
from webbkg.files.fits import FITS_BLOCK, Header, read_header

WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=90)
VALUES = WORDS | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)


def read(tmp_path, cards):
    """Write cards as a primary header, and read them: ours and astropy's."""
    text = "".join(f"{card:80}" for card in ("SIMPLE  =                    T", *cards, "END"))
    text += " " * (-len(text) % FITS_BLOCK)
    path = tmp_path / "h.fits"
    path.write_bytes(text.encode("latin-1"))
    return read_header(path), fits.Header.fromstring(text)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("headers")


REST = ("BITPIX  =                    8", "NAXIS   =                    0")


@given(values=st.lists(st.tuples(VALUES, WORDS), max_size=6))
@pytest.mark.filterwarnings("ignore:Card is too long")
def test_any_values(place, values):
    cards = [str(fits.Card(f"KEY{i}", *one)) for i, one in enumerate(values)]
    ours, theirs = read(place, [*REST, *cards])
    for keyword in theirs:
        if keyword not in ("", "CONTINUE"):
            assert (type(ours[keyword]), ours[keyword]) == (type(theirs[keyword]), theirs[keyword])
    assert len(ours) == len({*theirs} - {"", "CONTINUE"})


@pytest.mark.parametrize(
    ("card", "value"),
    [
        ("KEY     = 'it''s' / a comment", "it's"),
        ("KEY     = '        '", ""),
        ("KEY     =   007", 7),
        ("KEY     = -1.5D3 / old", -1500.0),
        ("KEY     = 1E999", float("inf")),
        ("KEY     =                      / nothing", None),
        ("KEY     = (1.0, 2.0)", 1 + 2j),
        ("key     = 5", 5),
        ("HISTORY KEY     = 3", None),
        ("HIERARCH ESO KEY = 3", None),
        ("KEY     = 'DP1.AXIS: 3'", "DP1.AXIS: 3"),
    ],
)
def test_odd_cards(tmp_path, card, value):
    ours, _ = read(tmp_path, [*REST, card])
    assert ours.get("KEY") == value


def test_the_first_of_two_cards_counts(tmp_path):
    ours, theirs = read(tmp_path, [*REST, "KEY     = 1", "KEY     = 2"])
    assert ours["KEY"] == theirs["KEY"] == 1


def test_a_damaged_card_is_told_when_it_is_read(tmp_path):
    ours, _ = read(tmp_path, [*REST, "KEY     = 'open", "FINE    = 1"])
    assert ours["FINE"] == 1
    with pytest.raises(InputError, match=r"h\.fits: the card KEY is damaged"):
        ours["KEY"]


@pytest.mark.parametrize(
    "first", ["SIMPLE  =                    F", "SIMPLE  = T\0\0\x80", "SIMPLE  ="]
)
def test_the_first_card_says_that_it_is_fits(tmp_path, first):
    text = "".join(f"{card:80}" for card in (first, *REST, "END"))
    path = tmp_path / "h.fits"
    path.write_bytes(f"{text:{FITS_BLOCK}}".encode("latin-1"))
    with pytest.raises(InputError, match=r"h\.fits.*SIMPLE"):
        read_header(path)


def test_a_mapping_will_do():
    assert Header({"NAXIS": 2}, "x").integer("NAXIS") == 2


def test_a_usual_product_is_read_without_astropy(tmp_path):
    path = save(make_model(ramp((4, 5)), meta__target__proposer_name="x" * 90), tmp_path / "a.fits")
    code = (
        "import sys; from pathlib import Path; from webbkg.files.exposures import Exposure;"
        "exposure = Exposure.from_file(Path(sys.argv[1]));"
        "assert exposure.info.filter == 'F200W'; assert 'astropy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, path], check=True)
