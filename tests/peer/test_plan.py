"""The planner beside jwst.associations: the same pools of exposures, the same members."""

import warnings
from pathlib import Path

import pytest

from planning import expose, who
from webbkg.batch import plan, write_associations

pytestmark = pytest.mark.peer
POOLS = (
    "pool_010_spec_nirspec_lv2bkg.csv",  # dedicated backgrounds
    "pool_023b_nirspec_msa_3nod_subpix.csv",
    "pool_024_nirspec_fss_nods.csv",
    "pool_024b_nirspec_fss_nods.csv",  # five points in a short slit
)
SAME = (
    *("INSTRUME", "DETECTOR", "EXP_TYPE", "FILTER", "PUPIL", "GRATING", "FXD_SLIT", "PATTTYPE"),
    *("VISIT", "TARGPROP", "MSAMETFL", "SUBARRAY"),
)


@pytest.fixture(scope="module")
def peer():
    pytest.importorskip("jwst", reason="the jwst package (extra 'compare') is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import jwst.associations.load_as_asn
        from jwst.associations.main import Main
        from jwst.associations.tests import helpers
    return jwst.associations, Main, helpers


def test_the_same_backgrounds_as_the_archive(peer, tmp_path):
    package, main, helpers = peer
    rules = ["--dry-run", "-r", str(package.libpath() / "rules_level2b.py"), "--ignore-default"]
    compared = 0
    for number, name in enumerate(POOLS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pool = helpers.combine_pools(Path(package.__file__).parent / "tests" / "data" / name)
            found = main.cli(rules, pool=pool).associations
        folder = tmp_path / str(number)
        rows = [row for row in pool if str(row["filename"]).endswith(".fits")]
        for index, row in enumerate(rows, 1):
            expose_row(folder, index, row)
        ours = who(plan(folder, folder=folder, cache=False))
        for science, backgrounds in (one for asn in found for one in products(asn) if one[1]):
            assert sorted(ours[science]) == backgrounds, (name, science)
            compared += 1
    assert compared == 3 + 18 + 20 + 10


def expose_row(folder, number, row):
    """Write an exposure with the headers that a row of a pool would give it."""

    def told(word):
        value = str(row[word.lower()]).upper() if word.lower() in row.colnames else "NULL"
        return None if value in ("NULL", "NONE") else value

    words = {word: told(word) for word in SAME}
    words |= {"PROGRAM": told("PROGRAM"), "OBSERVTN": told("OBS_NUM"), "READPATT": "NRSRAPID"}
    words |= {"BKGDTARG": told("BKGDTARG") in ("T", "Y")}
    for word in ("GWA_XTIL", "GWA_YTIL"):
        words[word] = float((told(word) or "0").rstrip("F"))
    counts = {"PATT_NUM": told("PATT_NUM"), "NUMDTHPT": told("NUMDTHPT")}
    counts["SUBPXPTS"] = told("SUBPXPTS") or told("SUBPXPNS")
    words |= {word: None if value is None else int(value) for word, value in counts.items()}
    name = str(row["filename"]).replace("_uncal", "_rate")
    expose(folder, number, name=name, at=None, **words)


def products(association):
    for product in association["products"]:
        by_type = {}
        for one in product["members"]:
            by_type.setdefault(one["exptype"], []).append(one["expname"])
        yield by_type["science"][0], sorted(by_type.get("background", []))


def test_written_associations_are_loaded_by_the_pipeline(peer, tmp_path):
    package = peer[0]
    for number in (1, 2, 3):
        expose(tmp_path, number, at=(5 * number, 0))
    expose(tmp_path, 4, EXP_TYPE="MIR_WFSS", FILTER="P750L")
    (tmp_path / "own_cat.ecsv").touch()
    made = plan(tmp_path, folder=tmp_path, cache=False)
    written = write_associations(made, tmp_path)
    for path, (target, backgrounds) in zip(written, who(made).items(), strict=True):
        with path.open() as stream:
            assert package.load_asn(stream)["asn_rule"] == "DMSLevel2bBase"  # valid by its schema
        loaded = package.load_as_asn.LoadAsLevel2Asn.load(str(path))
        assert loaded.filename == str(path)  # not made up from the name, as of what it cannot read
        by_type = {}
        for one in loaded["products"][0]["members"]:
            by_type.setdefault(one["exptype"], []).append(one["expname"])
        assert by_type["science"] == [target]
        assert tuple(by_type.get("background", ())) == backgrounds
        assert by_type.get("sourcecat", []) == (["own_cat.ecsv"] if not backgrounds else [])
