"""Nods and dithers: exposures of one source that are each other's background."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from webbkg.batch.groups import Group, Kind, Member
from webbkg.batch.headers import Facts
from webbkg.batch.screening import by_name
from webbkg.batch.setups import Places, describe, places_of, separations, setup_of

SAME = 0.1
"""Pointings that are nearer than this are one, come back to (arcsec). Offsets inside a visit are
good to some milliarcseconds (JWST user documentation, "JWST Pointing Performance")."""

Found = tuple[list[Group], list[tuple[Facts, str]]]
"""Groups, and exposures that are left out, each with its reason."""


def plan_dithers(exposures: Iterable[Facts], min_separation: float, pairs: bool) -> Found:
    """Group exposures of one pattern: each has the others as its background.

    Parameters
    ----------
    exposures : iterable of Facts
        Science exposures without dedicated backgrounds.
    min_separation : float
        How far another exposure must point from one (arcsec), or it would subtract its source from itself.
    pairs : bool
        Whether the repeats of a two-point nod are taken pair by pair.
    """
    groups: list[Group] = []
    left: list[tuple[Facts, str]] = []
    for pattern in _patterns(exposures):
        places = places_of(pattern)
        if len(pattern) < 2:
            left.append((pattern[0], _alone(pattern[0])))
        elif places is None:
            left += [(one, UNKNOWN) for one in pattern]
        else:
            for tile in _tiles(pattern, places, min_separation):
                members = [pattern[i] for i in tile]
                found = _plan_tile(members, places[tile], min_separation, pairs)
                groups += found[0]
                left += found[1]
    return groups, left


UNKNOWN = (
    "its headers do not tell where it points (RA_V1, S_REGION, RA_REF, XOFFSET, PATT_NUM), so its "
    "dithers are not known from it"
)


def _alone(facts: Facts) -> str:
    return (
        f"no other exposure of its visit has its setup ({describe(facts)}), and no background "
        "exposure has; name a background's target with background_target"
    )


def _patterns(exposures: Iterable[Facts]) -> list[list[Facts]]:
    """Put together what one visit took of one target with one setup and pattern, by time."""
    patterns: dict[object, list[Facts]] = {}
    for facts in exposures:
        info, words = facts.info, ("PATTTYPE", "NOD_TYPE", "MSAMETFL", "MSAMETID")
        key = (
            setup_of(facts),
            (info.program, info.observation, info.visit),
            facts.targets,
            tuple(facts.text(word) for word in words),
            (facts.number("NUMDTHPT"), facts.number("SUBPXPTS")),
        )
        patterns.setdefault(key, []).append(facts)
    return [sorted(pattern, key=_by_time) for pattern in patterns.values()]


def _by_time(facts: Facts) -> tuple[float, tuple[str, str]]:
    return (facts.start or 0.0, by_name(facts))


def _tiles(pattern: Sequence[Facts], places: Places, min_separation: float) -> list[list[int]]:
    """Take apart the tiles of a mosaic, in each of which the numbers of the pattern come again.

    A number that comes again where it was before is a repeat, and stays in its tile.
    """
    near = max(SAME, min_separation)
    tiles: list[dict[int | None, int]] = []
    members: list[list[int]] = []
    for index, facts in enumerate(pattern):
        number = facts.number("PATT_NUM")
        for tile, those in reversed(list(zip(tiles, members, strict=True))):
            first = index if number is None else tile.setdefault(number, index)
            if np.linalg.norm(places[first] - places[index]) <= near:
                those.append(index)
                break
        else:
            tiles.append({number: index})
            members.append([index])
    return members


def _plan_tile(
    pattern: Sequence[Facts], places: Places, min_separation: float, pairs: bool
) -> Found:
    """Give each exposure of a pattern those as backgrounds that point far enough away."""
    by_names = np.array(sorted(range(len(pattern)), key=lambda i: by_name(pattern[i])))
    others: list[Sequence[int]] = []
    for index in range(len(pattern)):
        far = separations(places, index) >= min_separation
        far[index] = False
        others.append(by_names[far[by_names]].tolist())
    halves = _halves(pattern, places, min_separation) if pairs else None
    if halves is not None:
        return _in_pairs(pattern, halves), []
    chosen = [index for index, those in enumerate(others) if those]
    near = [index for index, those in enumerate(others) if not those]
    farthest = max((separations(places, index).max() for index in near), default=0.0)
    reason = _too_near(len(pattern) - 1, farthest, min_separation)
    left = [(pattern[index], reason) for index in near]
    if not chosen:
        return [], left
    members = [_member(pattern[i], [pattern[j] for j in others[i]]) for i in chosen]
    return [_group(members, _told(pattern, len(members)))], left


def _too_near(others: int, farthest: float, min_separation: float) -> str:
    if not others:
        return "is the only exposure of its pattern in its tile of a mosaic"
    told = f"the {others} others of its pattern point" if others > 1 else "the other one points"
    return (
        f"{told} within {farthest:.2g} arcsec of it, too near (min_separation = "
        f"{min_separation:g}): it would subtract its source from itself"
    )


def _halves(
    pattern: Sequence[Facts], places: Places, min_separation: float
) -> tuple[list[int], list[int]] | None:
    """Split the repeats of a two-point nod into its points; None if it is none."""
    numbers = [one.number("PATT_NUM") for one in pattern]
    if len(pattern) < 3 or (None not in numbers and len(set(numbers)) == len(numbers)):
        return None
    near = max(SAME, min_separation)
    at_first = separations(places, 0) < near
    if at_first.all():
        return None
    second = int(np.flatnonzero(~at_first)[0])
    at_second = separations(places, second) < near
    if not (at_first ^ at_second).all():
        return None
    return np.flatnonzero(at_first).tolist(), np.flatnonzero(at_second).tolist()


def _in_pairs(pattern: Sequence[Facts], halves: tuple[list[int], list[int]]) -> list[Group]:
    """Pair the first with the first, the second with the second; or each with the nearest in time."""
    if len(halves[0]) == len(halves[1]):
        why = f"a pair of nods, one of {len(halves[0])} repeats, by time: {describe(pattern[0])}"
        made = []
        for a, b in zip(*halves, strict=True):
            one, other = pattern[a], pattern[b]
            made.append(_group([_member(one, [other]), _member(other, [one])], why))
        return made
    members = [
        _member(pattern[i], [_nearest(pattern, i, opposite)])
        for here, opposite in (halves, halves[::-1])
        for i in here
    ]
    return [_group(members, f"nods, each with the nearest in time: {describe(pattern[0])}")]


def _nearest(pattern: Sequence[Facts], index: int, others: Sequence[int]) -> Facts:
    start = pattern[index].start or 0.0
    return pattern[min(others, key=lambda j: (abs((pattern[j].start or 0.0) - start), j))]


def _told(pattern: Sequence[Facts], count: int) -> str:
    kind = pattern[0].text("PATTTYPE") or pattern[0].text("NOD_TYPE")
    return f"{count} dithers{f' ({kind})' if kind else ''}: {describe(pattern[0])}"


def _member(target: Facts, backgrounds: Sequence[Facts]) -> Member:
    return Member(target=str(target.path), backgrounds=tuple(str(one.path) for one in backgrounds))


def _group(members: Iterable[Member], why: str) -> Group:
    return Group(name="", kind=Kind.DITHERS, members=tuple(members), why=why)
