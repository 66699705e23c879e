"""Dedicated backgrounds: exposures of empty sky, taken for exposures of something else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from webbkg.batch.groups import Group, Kind, Member
from webbkg.batch.headers import Facts
from webbkg.batch.screening import by_name
from webbkg.batch.setups import describe, difference, places_of, separations, setup_of

ONE_PLACE = 30.0
"""Background observations that are this near each other are of one place (arcsec)."""

Assigned = list[tuple[Facts, tuple[Facts, ...]]]
"""Targets, each with its backgrounds."""


def assign(targets: Iterable[Facts], backgrounds: Sequence[Facts]) -> tuple[Assigned, list[Facts]]:
    """Give each target the background observation of its programme and setup that is nearest.

    On the sky; of several at one place, in time.

    Returns
    -------
    assigned : list of (Facts, tuple of Facts)
        Targets with all exposures of that observation.
    rest : list of Facts
        Those for which there is none.
    """
    by_setup: dict[object, dict[object, list[Facts]]] = {}
    for one in backgrounds:
        observation = (one.info.observation, one.targets)
        by_setup.setdefault(_kin(one), {}).setdefault(observation, []).append(one)
    assigned: Assigned = []
    rest = []
    for target in targets:
        offered = by_setup.get(_kin(target))
        if offered is None:
            rest.append(target)
        else:
            assigned.append((target, tuple(_nearest(target, list(offered.values())))))
    return assigned, rest


def _kin(facts: Facts) -> object:
    return facts.info.program, setup_of(facts)


def _nearest(target: Facts, offered: Sequence[list[Facts]]) -> list[Facts]:
    if len(offered) == 1:
        return offered[0]
    places = places_of([target, *(one[0] for one in offered)])
    far = np.zeros(len(offered)) if places is None else separations(places, 0)[1:]
    near = [i for i, distance in enumerate(far) if distance <= far.min() + ONE_PLACE]
    start = target.start or 0.0
    return offered[
        min(near, key=lambda i: (abs((offered[i][0].start or 0.0) - start), by_name(offered[i][0])))
    ]


def grouped(assigned: Assigned) -> list[Group]:
    """Put targets with the same backgrounds and setup together."""
    groups: dict[object, list[Facts]] = {}
    for target, backgrounds in assigned:
        key = tuple(one.path for one in backgrounds), setup_of(target)
        groups.setdefault(key, []).append(target)
    chosen = {tuple(one.path for one in those): those for _, those in assigned}
    return [_group(targets, chosen[key[0]]) for key, targets in groups.items()]  # type: ignore[index]


def _group(targets: Sequence[Facts], backgrounds: Sequence[Facts]) -> Group:
    names = tuple(str(one.path) for one in backgrounds)
    members = tuple(Member(target=str(one.path), backgrounds=names) for one in targets)
    count = f"{len(names)} exposure{'s' if len(names) > 1 else ''}"
    of = f" of {backgrounds[0].targets[0]}" if backgrounds[0].targets else ""
    return Group(
        name="",
        kind=Kind.DEDICATED,
        members=members,
        why=f"{count}{of}, taken as background: {describe(targets[0])}",
    )


def why_none(target: Facts, backgrounds: Iterable[Facts]) -> str:
    """Say why no background exposure of its programme serves a target; empty if it has none."""
    own = target.info
    kin = [
        one
        for one in backgrounds
        if (one.info.program, one.info.instrument) == (own.program, own.instrument)
    ]
    if not kin:
        return ""
    ours = setup_of(target)
    nearest = min(
        kin,
        key=lambda one: (
            sum(a != b for a, b in zip(ours, setup_of(one), strict=True)),
            by_name(one),
        ),
    )
    return f"; of the background exposures, {nearest.path.name} comes nearest to its setup: " + (
        difference(ours, setup_of(nearest))
    )


def left_over(backgrounds: Iterable[Facts], assigned: Assigned) -> list[tuple[Facts, str]]:
    """Say of each background exposure what it serves for: nothing is subtracted from it."""
    served: dict[Facts, int] = {}
    for _, those in assigned:
        for one in those:
            served[one] = served.get(one, 0) + 1
    return [
        (one, f"is a background exposure, subtracted from {_counted(served[one])}")
        if one in served
        else (one, "is a background exposure, and no target of its programme has its setup")
        for one in backgrounds
    ]


def _counted(number: int) -> str:
    return f"{number} target{'s' if number > 1 else ''}"
