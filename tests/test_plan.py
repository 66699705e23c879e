"""The planner: headers of exposures to what is subtracted from what."""

import gzip
import random
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planning import expose, reasons, who
from webbkg.batch import Kind, plan
from webbkg.errors import MissingFileError, OptionError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("WEBBKG_CACHE_DIR", str(tmp_path / ".cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(paths):
    return tuple(path.name for path in paths)


def test_each_dither_has_the_others(folder):
    paths = [expose(folder, i, at=(3.0 * i, 0), PATT_NUM=i, NUMDTHPT=4) for i in (1, 2, 3, 4)]
    made = plan(folder)
    (group,) = made.groups
    assert group.kind is Kind.DITHERS
    assert group.name == "jw01234001001_02101_00001_mirimage"
    assert who(made) == {one.name: names(other for other in paths if other != one) for one in paths}
    assert made.left_out == ()


def test_neighbours_that_are_too_near_are_no_background(folder):
    one, two, three = (expose(folder, i, at=(x, 0)) for i, x in ((1, 0), (2, 0.49), (3, 0.98)))
    made = plan(folder)
    assert who(made) == {one.name: (three.name,), three.name: (one.name,)}
    assert "within 0.49 arcsec" in reasons(made)[two.name]
    assert "(min_separation = 0.5)" in reasons(made)[two.name]
    assert len(who(plan(folder, min_separation=0.48))[two.name]) == 2


def test_the_pole_and_zero_hours_are_no_edges(folder):
    pole = {"at": None, "TARGTYPE": "FIXED"}
    for number, ra in ((1, 359.99999), (2, 0.00001)):
        expose(folder, number, **pole, RA_V1=ra, DEC_V1=0.0)
    assert "0.072 arcsec" in reasons(plan(folder)).popitem()[1]


def test_what_differs_is_no_background(folder):
    one = expose(folder, 1, at=(0, 0))
    for number, change in enumerate(
        (
            {"FILTER": "F1000W"},
            {"DETECTOR": "MIRIFULONG"},
            {"READPATT": "SLOWR1"},
            {"SUBSTRT1": 9},
            {"VISIT": "002"},
            {"TARGPROP": "OTHER"},
            {"PATTTYPE": "CYCLING"},
            {"GWA_XTIL": 0.25},
        ),
        2,
    ):
        expose(folder, number, at=(9.0 * number, 0), **change)
    made = plan(folder)
    assert made.groups == ()
    assert len(made.left_out) == 9
    assert "(MIRI MIRIMAGE F770W)" in reasons(made)[one.name]


def test_dedicated_backgrounds_serve_all_of_their_setup(folder):
    targets = [expose(folder, i, at=(9 * i, 0)) for i in (1, 2)]
    other = expose(folder, 3, OBSERVTN="002", FILTER="F1000W")
    sky = {"BKGDTARG": True, "OBSERVTN": "003", "TARGPROP": "SKY", "at": (300, 0)}
    backgrounds = [expose(folder, i, **sky) for i in (4, 5)]
    foreign = expose(folder, 6, **{**sky, "PROGRAM": "04321"})
    made = plan(folder)
    (group,) = made.groups
    assert group.kind is Kind.DEDICATED
    assert who(made) == {one.name: names(backgrounds) for one in targets}
    told = reasons(made)
    assert told[backgrounds[0].name] == "is a background exposure, subtracted from 2 targets"
    assert "no target of its programme has its setup" in told[foreign.name]
    assert f"{backgrounds[0].name} comes nearest" in told[other.name]
    assert "FILTER F770W, its own F1000W" in told[other.name]


def test_a_target_named_as_background_is_one(folder):
    target = expose(folder, 1)
    sky = expose(folder, 2, OBSERVTN="002", TARGPROP="SKY-NORTH", at=(200, 0))
    assert plan(folder).groups == ()
    assert who(plan(folder, background_target="sky north")) == {target.name: (sky.name,)}
    with pytest.raises(OptionError, match="got 'SKY-SOUTH'; there are: SKY-NORTH, STAR"):
        plan(folder, background_target=["SKY-SOUTH"])


def test_of_several_background_observations_the_nearest_serves(folder):
    target = expose(folder, 5, at=(0, 0))
    sky = {"BKGDTARG": True, "TARGPROP": "SKY"}
    expose(folder, 1, at=(900, 0), OBSERVTN="002", **sky)
    expose(folder, 2, at=(300, 0), OBSERVTN="003", **sky)
    late = expose(folder, 6, at=(310, 0), OBSERVTN="004", **sky)
    assert who(plan(folder)) == {target.name: (late.name,)}


@pytest.mark.parametrize("order", ["ABAB", "ABBA"])
def test_repeats_of_two_nods_are_pairs(folder, order):
    places = {"A": (0, 0), "B": (5, 0)}
    paths = {}
    for number, nod in enumerate(order, 1):
        point = {"PATT_NUM": 1 + (nod == "B"), "NUMDTHPT": 2, "at": places[nod]}
        paths.setdefault(nod, []).append(expose(folder, number, **point).name)
    made = plan(folder)
    assert len(made.groups) == 2
    for a, b in zip(paths["A"], paths["B"], strict=True):
        assert who(made)[a] == (b,)
        assert who(made)[b] == (a,)
    together = plan(folder, pairs=False)
    assert who(together)[paths["A"][0]] == tuple(sorted(paths["B"]))


def test_unequal_repeats_take_the_nearest_in_time(folder):
    for number, (nod, x) in enumerate([(1, 0), (2, 5), (2, 5)], 1):
        expose(folder, number, PATT_NUM=nod, at=(x, 0))
    one, two, three = sorted(who(plan(folder)))
    assert who(plan(folder)) == {one: (two,), two: (one,), three: (one,)}


def test_subpixel_points_of_a_nod_are_not_its_background(folder):
    """Without positions, as jwst.associations does: by PATT_NUM and SUBPXPTS."""
    words = {"at": None, "SUBPXPTS": 2, "NUMDTHPT": 4}
    paths = [expose(folder, i, PATT_NUM=i, **words).name for i in (1, 2, 3, 4)]
    assert who(plan(folder)) == {
        **dict.fromkeys(paths[:2], tuple(paths[2:])),
        **dict.fromkeys(paths[2:], tuple(paths[:2])),
    }


def test_tiles_of_a_mosaic_keep_apart(folder):
    for number, (point, x) in enumerate([(1, 0), (2, 4), (1, 60), (2, 64)], 1):
        expose(folder, number, PATT_NUM=point, NUMDTHPT=2, at=(x, 0))
    one, two, three, four = sorted(who(plan(folder)))
    assert who(plan(folder)) == {one: (two,), two: (one,), three: (four,), four: (three,)}


def test_moving_targets_count_by_their_offsets(folder):
    """The pointing follows the target, so the sky says nothing of the dither."""
    moving = {"TARGTYPE": "MOVING", "YOFFSET": 0.0}
    for number, x in ((1, 0.0), (2, 0.1)):
        expose(folder, number, at=(100 * number, 0), XOFFSET=x, **moving)
    assert plan(folder).groups == ()


def test_unknown_pointings_are_told(folder):
    for number in (1, 2):
        expose(folder, number, at=None)
    assert "do not tell where it points" in reasons(plan(folder)).popitem()[1]


def test_one_file_of_an_exposure_is_planned(folder):
    for number in (1, 2):
        expose(folder, number, at=(5 * number, 0))
        expose(folder, number, kind="rateints", at=(5 * number, 0), shape=(2, 3, 4))
        expose(folder, number, kind="cal", at=(5 * number, 0))
    shutil.copy(next(folder.glob("*1_mirimage_rate.fits")), folder / "again_rate.fits")
    made = plan(folder)
    assert {name.rpartition("_")[2] for name in who(made)} == {"rate.fits"}
    assert len(made.left_out) == 5
    assert "is of the same exposure as" in made.left_out[0].reason


def test_unfit_files_are_left_out_with_their_reasons(folder):
    (folder / "torn_rate.fits").write_bytes(b"SIMPLE  =                    T" + b" " * 50)
    (folder / "table.fits").write_bytes(b"nothing")
    expose(folder, 1, kind="i2d")
    expose(folder, 2, S_BKDSUB="COMPLETE")
    expose(folder, 3, EXP_TYPE="MIR_TACQ")
    expose(folder, 4, IS_IMPRT=True)
    expose(folder, 5, shape=(1, 2, 3, 4))
    expose(folder, 6, INSTRUME=None)
    expose(folder, 7, name="mine.fits", S_RESAMP="COMPLETE")
    expose(folder, 8, PATT_NUM="one", FILTER=3)
    expose(folder, 9, name="sky.fits", REFTYPE="bkg", EXP_TYPE="MIR_WFSS")
    expose(folder, 10, kind="combinedbackground")
    made = plan(folder)
    assert made.groups == ()
    told = " | ".join(one.reason for one in made.left_out)
    assert len(made.left_out) == 12
    for part in (
        *("the file ends inside a header", "not a FITS file", "of the kind i2d"),
        *("subtracted already", "EXP_TYPE MIR_TACQ", "imprint", "has 4 axes", "lacks INSTRUME"),
        *("is resampled", "FILTER must be text (got 3)", "REFTYPE bkg", "kind combinedbackground"),
    ):
        assert part in told


def test_segments_are_together(folder):
    soss = {"INSTRUME": "NIRISS", "DETECTOR": "NIS", "EXP_TYPE": "NIS_SOSS", "EXSEGTOT": 3}
    for segment in (2, 1):
        name = f"jw01234001001_04101_00001-seg00{segment}_nis_rateints.fits"
        expose(folder, 1, name=name, shape=(2, 3, 4), EXSEGNUM=segment, **soss)
    whole = expose(folder, 1, name="jw01234001001_04101_00001_nis_rate.fits", **soss)
    made = plan(folder)
    (group,) = made.groups
    assert (group.kind, len(group.members)) == (Kind.SOSS, 2)
    assert "2 of 3 segments" in group.why
    assert "seg001_nis_rateints.fits, which is planned" in reasons(made)[whole.name]


def test_images_for_templates_are_planned_one_by_one(folder):
    for number in (1, 2):
        expose(folder, number, at=(3.0 * number, 0))
    background = expose(folder, 3, BKGDTARG=True)
    grism = expose(folder, 4, EXP_TYPE="MIR_WFSS", FILTER="P750L")
    cube = expose(folder, 5, kind="rateints", shape=(2, 3, 4))
    slit = expose(folder, 6, EXP_TYPE="MIR_LRS-FIXEDSLIT", FILTER="P750L")
    soss = {"INSTRUME": "NIRISS", "DETECTOR": "NIS", "EXP_TYPE": "NIS_SOSS"}
    series = expose(folder, 7, kind="rateints", shape=(2, 3, 4), **soss)
    made = plan(folder, templates=True)
    kinds = {group.members[0].target: group.kind for group in made.groups}
    assert kinds.pop(grism.name) is Kind.GRISM
    assert set(kinds.values()) == {Kind.TEMPLATE}
    assert len(kinds) == 3
    assert background.name in kinds
    assert not any(who(made).values())
    told = reasons(made)
    assert "rate product" in told[cube.name]
    assert "is no image" in told[slit.name]
    assert "override_bkg" in told[series.name]


GRISM = {"EXP_TYPE": "NIS_WFSS", "INSTRUME": "NIRISS", "DETECTOR": "NIS", "FILTER": "GR150C"}


def test_grism_exposures_have_their_catalogue(folder):
    expose(folder, 1, **GRISM, PUPIL="F200W")
    for name in ("f115w", "f200w"):
        for end in ("cat.ecsv", "i2d.fits", "segm.fits"):
            (folder / f"jw01234-o001_t001_niriss_clear-{name}_{end}").touch()
    (group,) = plan(folder).groups
    (member,) = group.members
    assert group.kind is Kind.GRISM
    assert member.catalog == "jw01234-o001_t001_niriss_clear-f200w_cat.ecsv"
    assert member.direct_image == "jw01234-o001_t001_niriss_clear-f200w_i2d.fits"
    assert member.segmentation == "jw01234-o001_t001_niriss_clear-f200w_segm.fits"
    given = folder / "mine.ecsv"
    given.touch()
    assert plan(folder, catalog=given).groups[0].members[0].catalog == "mine.ecsv"


def test_a_header_s_own_catalogue_comes_first(folder):
    (folder / "own.ecsv").touch()
    (folder / "beside_cat.ecsv").touch()
    expose(folder, 1, **GRISM, PUPIL="F200W", SCATFILE="own.ecsv")
    expose(folder, 2, **GRISM, PUPIL="F200W", SCATFILE="gone.ecsv")
    found = [one.members[0].catalog for one in plan(folder).groups]
    assert found == ["own.ecsv", "beside_cat.ecsv"]


def test_folders_are_searched_and_names_count_from_one(folder):
    inside = expose(folder / "a" / "b", 1, at=(0, 0))
    packed = expose(folder / "c", 2, at=(5, 0))
    packed.with_name(packed.name + ".gz").write_bytes(gzip.compress(packed.read_bytes()))
    packed.unlink()
    expose(folder / ".hidden", 3, at=(9, 0))
    made = plan(folder, folder=folder / "a")
    outside = f"{folder}/c/{packed.name}.gz"
    assert who(made) == {f"b/{inside.name}": (outside,), outside: (f"b/{inside.name}",)}
    assert made.folder == str(folder / "a")


def test_links_to_folders_are_followed_and_may_go_round(folder):
    for number in (1, 2):
        expose(folder / "archive" / str(number), number, at=(5 * number, 0))
    data = folder / "data"
    data.mkdir()
    for number in (1, 2):
        (data / f"obs{number}").symlink_to(folder / "archive" / str(number))
    (folder / "archive" / "1" / "round").symlink_to(data)
    (folder / "archive" / "1" / "again").symlink_to(folder / "archive" / "2")
    made = plan(data, folder=data)
    first, second = who(made)
    assert first.startswith("obs1/")
    assert who(made)[first] == (second,)
    assert made.left_out == ()


def test_a_link_to_nothing_is_told_as_one(folder):
    (folder / "lost_rate.fits").symlink_to(folder / "gone.fits")
    ((_, reason),) = reasons(plan(folder)).items()
    assert reason.endswith(
        f"is a link to {folder}/gone.fits, which is not there; mend or remove it"
    )


def test_groups_have_names_of_their_own(folder):
    words = {"EXP_TYPE": "MIR_WFSS", "OBSERVTN": None, "PROGRAM": "1"}
    for part, name in (("a", "x_rate"), ("b", "x_rate"), ("c", "x-2_rate")):
        expose(folder / part, 1, name=f"{name}.fits", **words)
    assert [one.name for one in plan(folder).groups] == ["x", "x-2", "x-2-2"]


def test_a_name_that_is_not_there_is_an_error(folder):
    path = expose(folder, 1)
    with pytest.raises(MissingFileError, match=f"did you mean .*{path.name}"):
        plan(folder / path.name.replace("rate", "rat"))
    with pytest.raises(OptionError, match="min_separation must be at least 0"):
        plan(folder, min_separation=float("nan"))


point = st.tuples(
    st.sampled_from([None, 1, 2, 3]),  # PATT_NUM
    st.sampled_from([0.0, 0.3, 1.0, 5.0]),  # where it points
    st.sampled_from(["001", "002"]),  # visit
    st.sampled_from(["F770W", "F1000W"]),
    st.sampled_from(["science", "sky", "done", "grism", "ints"]),
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(points=st.lists(point, min_size=1, max_size=9), seed=st.integers(0, 99))
def test_each_file_is_a_target_or_left_out(tmp_path_factory, points, seed):
    """Once; no target is its own background; the order of the files does not matter."""
    folder = tmp_path_factory.mktemp("plan")
    words = {
        "sky": {"BKGDTARG": True},
        "done": {"S_BKDSUB": "COMPLETE"},
        "grism": {"EXP_TYPE": "MIR_WFSS"},
        "ints": {"kind": "rateints"},
    }
    paths = []
    for number, (index, x, visit, optics, role) in enumerate(points, 1):
        more = {"PATT_NUM": index, "VISIT": visit, "FILTER": optics, **words.get(role, {})}
        paths.append(expose(folder, number, at=(x, 0), **more))
    made = plan(paths, folder=folder, cache=False)
    targets = [one.target for group in made.groups for one in group.members]
    assert sorted(targets + [one.file for one in made.left_out]) == sorted(names(paths))
    assert all(one not in backgrounds for one, backgrounds in who(made).items())
    assert all(len(set(those)) == len(those) for those in who(made).values())
    assert all(one.reason for one in made.left_out)
    random.Random(seed).shuffle(paths)
    assert plan(paths, folder=folder, cache=False) == made
    assert plan(folder, folder=folder, cache=False) == made
