"""Grism exposures, each with its catalogue and direct image; the segments of SOSS time series."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from webbkg.batch.groups import Group, Kind, Member
from webbkg.batch.headers import Facts
from webbkg.batch.screening import by_name
from webbkg.batch.setups import describe

_ARCHIVE = re.compile(
    r"jw(?P<program>\d{5})-(?P<candidate>[oc]\d+)_\w+?_(?P<instrument>[a-z]+)_(?P<optics>[\w-]+)"
    r"_cat\.ecsv(\.gz)?",
    re.ASCII,
)
"""A catalogue's name in the archive: ``jw09505-o001_t001_miri_f560w_cat.ecsv``."""


def plan_grisms(
    exposures: Iterable[Facts],
    directs: Sequence[Facts],
    catalogs: Sequence[Path],
    given: Path | None,
) -> list[Group]:
    """Make a group of each grism exposure, with what tells its sources from the sky.

    Parameters
    ----------
    exposures : iterable of Facts
        Grism exposures.
    directs : sequence of Facts
        Images, among which theirs are.
    catalogs : sequence of Path
        Source catalogues that were found.
    given : Path or None
        The catalogue of all of them, whatever else is there.
    """
    groups = []
    for facts in exposures:
        catalog, how = _catalog(facts, directs, catalogs, given)
        companions = _companions(facts, catalog)
        member = Member(
            target=str(facts.path),
            catalog=None if catalog is None else str(catalog),
            direct_image=companions[0],
            segmentation=companions[1],
        )
        why = f"a grism exposure, {how}: {describe(facts)}"
        groups.append(Group(name="", kind=Kind.GRISM, members=(member,), why=why))
    return groups


def _catalog(
    facts: Facts, directs: Sequence[Facts], catalogs: Sequence[Path], given: Path | None
) -> tuple[Path | None, str]:
    if given is not None:
        return given, "its catalogue as given"
    named = _beside(facts, "SCATFILE")
    if named is not None:
        return Path(named), "its catalogue as its header says (SCATFILE)"
    of_archive = [(one, _rank(one, facts, directs)) for one in catalogs]
    ranked = sorted((rank, str(one)) for one, rank in of_archive if rank is not None)
    if ranked:
        return Path(ranked[0][1]), "with the catalogue of its direct image"
    near = [one for one in catalogs if one.parent == facts.path.parent]
    if len(near) == 1 and _ARCHIVE.fullmatch(near[0].name) is None:
        return near[0], "with the only catalogue beside it"
    return None, "without a catalogue"


def _rank(catalog: Path, facts: Facts, directs: Sequence[Facts]) -> int | None:
    """Tell how well a catalogue of the archive belongs to an exposure: 0 best, None not."""
    match = _ARCHIVE.fullmatch(catalog.name)
    info = facts.info
    if (
        match is None
        or match["instrument"] != (info.instrument or "").lower()
        or match["program"] != (info.program or "").zfill(5)
    ):
        return None
    candidate = match["candidate"]
    own = candidate == f"o{(info.observation or '').zfill(3)}"
    filters = _direct_filters(facts, directs)
    optics = match["optics"].upper().split("-")
    for rank, name in enumerate(filters):
        if name in optics and (own or candidate.startswith("c")):
            return 2 * rank + (not own)
    return None


def _direct_filters(facts: Facts, directs: Sequence[Facts]) -> list[str]:
    """Name the filters of an exposure's direct images, the likeliest first.

    NIRCam's grism is in the pupil wheel, its direct image is taken through the same FILTER; NIRISS's
    is in the filter wheel, with the same PUPIL. MIRI's direct image has another filter: that of
    the image that comes next (jwst.associations, `find_closest_direct`), else of any.
    """
    own = {"NIRCAM": facts.info.filter, "NIRISS": facts.info.pupil}.get(facts.info.instrument or "")
    if own is not None:
        return [own]
    start = facts.start or 0.0
    kin = [
        one
        for one in directs
        if one.info.filter
        and (one.info.program, one.info.observation, one.info.detector)
        == (facts.info.program, facts.info.observation, facts.info.detector)
    ]
    ordered = sorted(kin, key=lambda one: _after(one, start))
    return list(dict.fromkeys(one.info.filter for one in ordered if one.info.filter))


def _after(direct: Facts, start: float) -> tuple[bool, float, tuple[str, str]]:
    wait = (direct.start or 0.0) - start
    return wait < 0, abs(wait), by_name(direct)


def _beside(facts: Facts, keyword: str) -> str | None:
    """Return the file that a header names, if it is there."""
    name = facts.text(keyword)
    path = None if name is None else facts.path.parent / name
    return str(path) if path is not None and path.is_file() else None


def _companions(facts: Facts, catalog: Path | None) -> tuple[str | None, str | None]:
    """Find the direct image and the segmentation map, by the catalogue's name or the header."""
    found = []
    for keyword, suffix in (("DIRIMAGE", "i2d"), ("SEGMFILE", "segm")):
        path = _beside(facts, keyword)
        if path is None and catalog is not None and "_cat." in catalog.name:
            like = catalog.with_name(catalog.name.partition("_cat.")[0] + f"_{suffix}.fits")
            path = str(like) if like.is_file() else None
        found.append(path)
    return found[0], found[1]


def plan_series(exposures: Iterable[Facts]) -> list[Group]:
    """Put the segments of each SOSS exposure together."""
    series: dict[object, list[Facts]] = {}
    for facts in exposures:
        key = facts.path if facts.info.identity is None else facts.info.exposure
        series.setdefault(key, []).append(facts)
    groups = []
    for segments in series.values():
        total = segments[0].number("EXSEGTOT") or len(segments)
        told = f"{len(segments)} of {total}" if total > len(segments) else str(len(segments))
        why = f"{told} segment{'s' if total > 1 else ''} of a time series: {describe(segments[0])}"
        ordered = sorted(segments, key=lambda one: (one.info.segment or 0, by_name(one)))
        members = tuple(Member(target=str(one.path)) for one in ordered)
        groups.append(Group(name="", kind=Kind.SOSS, members=members, why=why))
    return groups
