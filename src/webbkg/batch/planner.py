"""The planner: from headers alone to what is subtracted from what."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache as once
from functools import partial
from itertools import count
from pathlib import Path

from webbkg.batch.associations import Entry, plan_associations, read_associations
from webbkg.batch.cache import HeaderCache, cache_file
from webbkg.batch.dedicated import assign, grouped, left_over, why_none
from webbkg.batch.dithers import plan_dithers
from webbkg.batch.grisms import plan_grisms, plan_series
from webbkg.batch.groups import Group, LeftOut, Member, Plan
from webbkg.batch.headers import FORM, Facts, read_facts, split_name
from webbkg.batch.images import NO_SERIES, plan_images
from webbkg.batch.inputs import Given, find_inputs
from webbkg.batch.screening import exposure_of, unfit, without_doubles
from webbkg.errors import OptionError
from webbkg.files.associations import find_file
from webbkg.modes import SOSS, WFSS, find_mode
from webbkg.options import MIN_SEPARATION


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a call wishes.

    Attributes
    ----------
    min_separation : float
        How far dithers must point from each other (arcsec).
    background_target : tuple of str
        Names of targets (TARGPROP or TARGNAME) whose exposures are backgrounds, besides those with
        BKGDTARG.
    pairs : bool
        Whether repeats of a two-point nod are taken pair by pair, not by the mean of all.
    catalog : Path or None
        Source catalogue of all grism exposures.
    templates : bool
        Whether each image is planned by itself, since templates are scaled to it.
    """

    min_separation: float = MIN_SEPARATION
    background_target: tuple[str, ...] = ()
    pairs: bool = True
    catalog: Path | None = None
    templates: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.min_separation) and self.min_separation >= 0):
            raise OptionError(
                f"min_separation must be at least 0, in arcsec (got {self.min_separation})"
            )


def plan(
    inputs: Given | Iterable[Given],
    *,
    min_separation: float = MIN_SEPARATION,
    background_target: str | Sequence[str] = (),
    pairs: bool = True,
    catalog: Given | None = None,
    templates: bool = False,
    folder: Given | None = None,
    cache: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Plan:
    """Plan what is subtracted from what, from headers alone.

    Parameters
    ----------
    inputs : path or iterable of paths
        Folders (with all below them), exposures, catalogues and associations. The order does
        not matter.
    min_separation : float
        How far another exposure must point from a target to be its background (arcsec), where
        both look at the same source.
    background_target : str or sequence of str
        Names of targets (TARGPROP or TARGNAME) whose exposures are backgrounds, besides those
        taken as such (BKGDTARG).
    pairs : bool
        Whether the repeats of a two-point nod are subtracted pair by pair; if not, each by the
        mean of all on the other side.
    catalog : path, optional
        Source catalogue of all grism exposures, instead of those that are found.
    templates : bool
        Plan each image by itself and without backgrounds, to be run with templates of your own
        (`template`), which are scaled to it.
    folder : path, optional
        Where names of files count from; the current folder by default. What is not below it has
        its whole path.
    cache : bool
        Whether headers are kept in the user's cache, and taken from there.
    progress : callable, optional
        Called with the headers done and their number.

    Returns
    -------
    Plan
        Each exposure is a target once, or left out once with its reason.

    Raises
    ------
    MissingFileError
        If something that was named is not there.
    OptionError
        If an option is out of range, or no exposure is of a `background_target`.
    """
    names = (background_target,) if isinstance(background_target, str) else background_target
    given = None if catalog is None else Path(find_file(catalog, [Path()], "catalog")).absolute()
    rules = Rules(
        min_separation=min_separation,
        background_target=tuple(names),
        pairs=pairs,
        catalog=given,
        templates=templates,
    )
    found = find_inputs(inputs)
    entries, left = read_associations(found.associations)
    targets = {os.path.realpath(one.target) for one in entries}
    exposures = [
        one for one in found.exposures if not targets or os.path.realpath(one) not in targets
    ]
    known = HeaderCache(cache_file() if cache else None, FORM)
    facts, unreadable = read_facts([*exposures, *(one.target for one in entries)], known, progress)
    by_path = {one.path: one for one in facts}
    groups, out = plan_associations(entries, by_path, unreadable)
    free = [by_path[one] for one in exposures if one in by_path]
    claimed = Claimed.by(entries, by_path)
    more, reasons = _plan_exposures(free, found.catalogs, rules, claimed)
    left |= unreadable | out | reasons
    return _finished([*groups, *more], left, Path(os.path.abspath(folder or "")))  # noqa: PTH100


@dataclass(frozen=True)
class Claimed:
    """Exposures of which associations have told already.

    Attributes
    ----------
    exposures : mapping of object to list of Facts
        Their targets, segments of one exposure together.
    backgrounds : mapping of str to str
        The names of associations, by their backgrounds, links followed.
    """

    exposures: Mapping[object, Sequence[Facts]]
    backgrounds: Mapping[str, str]

    @classmethod
    def by(cls, entries: Iterable[Entry], facts: Mapping[Path, Facts]) -> Claimed:
        """Collect what they name; `facts` are the headers of their targets, where they have some."""
        exposures: dict[object, list[Facts]] = {}
        backgrounds: dict[str, str] = {}
        for one in entries:
            if one.target in facts:
                target = facts[one.target]
                exposures.setdefault(exposure_of(target), []).append(target)
            backgrounds |= dict.fromkeys(
                map(os.path.realpath, one.member.backgrounds), one.source.name
            )
        return cls(exposures, backgrounds)

    def reason(self, facts: Facts) -> str | None:
        """Say why a file is not planned once more; None if it is nothing that they name."""
        for target in self.exposures.get(exposure_of(facts), ()):
            if facts.product != target.product or facts.info.segment == target.info.segment:
                return f"is of the same exposure as {target.path.name}, which is planned"
        if not self.backgrounds:
            return None
        source = self.backgrounds.get(os.path.realpath(facts.path))
        return None if source is None else f"is a background exposure, as {source} says"


def _plan_exposures(
    facts: Sequence[Facts], catalogs: Sequence[Path], rules: Rules, claimed: Claimed
) -> tuple[list[Group], dict[Path, str]]:
    """Group exposures by what their headers say."""
    _check_names(rules.background_target, facts)
    judged = [(one, claimed.reason(one) or unfit(one)) for one in facts]
    exposures, left = without_doubles(one for one, reason in judged if reason is None)
    left += [(one, reason) for one, reason in judged if reason is not None]
    kinds: dict[str, list[Facts]] = {"series": [], "grism": [], "background": [], "science": []}
    for one in exposures:
        kinds[_kind(one, rules)].append(one)
    groups = plan_grisms(kinds["grism"], exposures, catalogs, rules.catalog)
    if rules.templates:
        series, *others = kinds["series"], kinds["background"], kinds["science"]
        more, unfit_ones = plan_images([one for those in others for one in those])
        left += unfit_ones + [(one, NO_SERIES) for one in series]
    else:
        more, alone = _plan_averages(kinds["science"], kinds["background"], rules)
        more += plan_series(kinds["series"])
        left += alone
    return groups + more, {one.path: reason for one, reason in left}


def _plan_averages(
    science: Sequence[Facts], backgrounds: Sequence[Facts], rules: Rules
) -> tuple[list[Group], list[tuple[Facts, str]]]:
    """Group exposures that are subtracted by others, and say why some are not."""
    assigned, rest = assign(science, backgrounds)
    dithers, alone = plan_dithers(rest, rules.min_separation, rules.pairs)
    left = left_over(backgrounds, assigned)
    left += [(one, reason + why_none(one, backgrounds)) for one, reason in alone]
    return [*grouped(assigned), *dithers], left


def _kind(facts: Facts, rules: Rules) -> str:
    mode = find_mode(facts.info.exposure_type)
    if mode is SOSS:
        return "series"
    if mode is WFSS:
        return "grism"
    wanted = {_folded(name) for name in rules.background_target}
    named = wanted & {_folded(name) for name in facts.targets}
    return "background" if facts.is_background or named else "science"


def _check_names(names: Iterable[str], facts: Iterable[Facts]) -> None:
    there = sorted({name for one in facts for name in one.targets})
    folded = {_folded(name) for name in there}
    for name in names:
        if _folded(name) not in folded:
            told = ", ".join(there[:10]) or "no exposure has a name"
            raise OptionError(
                f"background_target must name a target of the exposures (got {name!r}; there are: "
                f"{told})"
            )


def _folded(name: str) -> str:
    """Take HD-36805, HD 36805 and hd_36805 for one."""
    return " ".join(name.replace("-", " ").replace("_", " ").casefold().split())


def _finished(groups: Iterable[Group], left: dict[Path, str], folder: Path) -> Plan:
    """Put a plan in order, and name its files from a folder."""
    name = once(partial(name_from, str(folder)))  # one text a file, however often it is named
    named = [
        replace(group, members=tuple(_renamed(one, name) for one in group.members))
        for group in groups
    ]
    ordered = sorted((_sorted(one) for one in named), key=lambda one: one.members[0].target)
    outs = [LeftOut(file=name(str(one)), reason=left[one]) for one in left]
    return Plan(
        groups=tuple(sorted(_with_names(ordered), key=lambda one: one.name)),
        left_out=tuple(sorted(outs, key=lambda one: one.file)),
        folder=str(folder),
    )


def _sorted(group: Group) -> Group:
    return replace(group, members=tuple(sorted(group.members, key=lambda one: one.target)))


def _with_names(groups: Iterable[Group]) -> list[Group]:
    """Name groups after their first targets."""
    taken: set[str] = set()
    named = []
    for group in groups:
        stem = split_name(Path(group.members[0].target))[0]
        tried = (stem if number == 1 else f"{stem}-{number}" for number in count(1))
        name = next(one for one in tried if one not in taken)
        taken.add(name)
        named.append(replace(group, name=name))
    return named


def _renamed(member: Member, name: Callable[[str], str]) -> Member:
    def maybe(file: str | None) -> str | None:
        return None if file is None else name(file)

    return Member(
        target=name(member.target),
        backgrounds=tuple(map(name, member.backgrounds)),
        catalog=maybe(member.catalog),
        direct_image=maybe(member.direct_image),
        segmentation=maybe(member.segmentation),
    )


def name_from(folder: str, file: str) -> str:
    """Name a file from a folder, if it is below it; otherwise by its whole path.

    Examples
    --------
    >>> name_from("/data", "/data/a/b.fits"), name_from("/data", "/datum/b.fits")
    ('a/b.fits', '/datum/b.fits')
    """
    return file.removeprefix(folder.rstrip("/") + "/")
