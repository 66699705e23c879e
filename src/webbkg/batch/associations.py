"""Associations: read as they are, and written from a plan, as the pipeline takes them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from webbkg.batch.cache import HeaderCache, cache_file
from webbkg.batch.grisms import plan_series
from webbkg.batch.groups import Group, Kind, Member, Plan
from webbkg.batch.headers import FORM, Facts, read_facts
from webbkg.batch.planfile import check_new, is_plan, moved_to, write_texts
from webbkg.batch.screening import IMAGING, unfit
from webbkg.batch.setups import describe
from webbkg.errors import AssociationError, InputError
from webbkg.files import door
from webbkg.files.associations import products_of
from webbkg.files.output import make_folder
from webbkg.modes import SOSS, WFSS, find_mode

COMPANIONS = {"catalog": "sourcecat", "direct_image": "direct_image", "segmentation": "segmap"}
"""What a member of a plan has besides backgrounds, and its exptype."""


@dataclass(frozen=True)
class Entry:
    """One target of an association: its member, with whole paths, and the association's file."""

    member: Member
    source: Path

    @property
    def target(self) -> Path:
        """Its file."""
        return Path(self.member.target)


def read_associations(paths: Iterable[Path]) -> tuple[list[Entry], dict[Path, str]]:
    """Read what associations say, whether their files are there or not.

    Returns
    -------
    entries : list of Entry
        One for each target; where two name one, as the first says.
    left : dict of Path to str
        Associations that are of no use, and why.
    """
    entries: dict[str, Entry] = {}
    left: dict[Path, str] = {}
    for path in paths:
        try:
            products = products_of(path)
        except AssociationError as error:
            told = str(error).removeprefix(f"{path}: ")
            left[path] = "is a plan already; `webbkg run` runs it" if is_plan(path) else told
            continue
        made = [one for members in products for one in _entries(members, path)]
        for one in made:
            first = entries.setdefault(os.path.realpath(one.target), one)
            if first is not one:
                left[path] = f"its target {one.target.name} is planned as {first.source.name} says"
        if not made:
            left[path] = (
                "has no member with exptype 'science', so there is nothing to subtract from"
            )
    return list(entries.values()), left


def _entries(members: Mapping[str, Sequence[str]], source: Path) -> list[Entry]:
    def whole(name: str) -> str:
        return os.path.abspath(source.parent / name)  # noqa: PTH100 - links stay

    def first(exptype: str) -> str | None:
        return next((whole(name) for name in members.get(exptype, ())), None)

    backgrounds = list(dict.fromkeys(map(whole, members.get("background", ()))))
    companions = {word: first(exptype) for word, exptype in COMPANIONS.items()}
    made = []
    for target in map(whole, members.get("science", ())):
        others = tuple(one for one in backgrounds if one != target)
        made.append(Entry(Member(target=target, backgrounds=others, **companions), source))
    return made


def plan_associations(
    entries: Sequence[Entry], facts: Mapping[Path, Facts], unreadable: Mapping[Path, str]
) -> tuple[list[Group], dict[Path, str]]:
    """Group what associations name, as they say.

    Parameters
    ----------
    entries : sequence of Entry
        What they say.
    facts : mapping of Path to Facts
        Headers of the targets.
    unreadable : mapping of Path to str
        Why a target has none.
    """
    left: dict[Path, str] = {}
    usable: list[Entry] = []
    for one in entries:
        reason = unreadable.get(one.target) or _why_not(one, facts[one.target])
        if reason:
            left[one.target] = reason
        else:
            usable.append(one)
    modes = {one.target: find_mode(facts[one.target].info.exposure_type) for one in usable}
    series = [one for one in usable if modes[one.target] is SOSS]
    groups = plan_series([facts[one.target] for one in series])
    for one in usable:
        if modes[one.target] is WFSS:
            member = replace(one.member, backgrounds=())
            groups.append(_group(Kind.GRISM, [replace(one, member=member)], facts))
    rest = [one for one in usable if modes[one.target] not in (SOSS, WFSS)]
    return groups + _averaged(rest, facts), left


def _why_not(entry: Entry, facts: Facts) -> str | None:
    reason = unfit(facts)
    if reason is not None or find_mode(facts.info.exposure_type) in (SOSS, WFSS):
        return reason
    if not entry.member.backgrounds:
        return f"{entry.source.name} names no background for it"
    for name in entry.member.backgrounds:
        if not door.exists(Path(name)):
            return f"its background {Path(name).name} is not there, which {entry.source.name} names"
    return None


def _averaged(entries: Sequence[Entry], facts: Mapping[Path, Facts]) -> list[Group]:
    """Put together targets that are each other's backgrounds, and those that have the same ones."""
    circles = _grouped(entries, lambda one: {one.member.target, *one.member.backgrounds})
    dithers = [those for those in circles if len(those) > 1]
    inside = {one.target for those in dithers for one in those}
    rest = [one for one in entries if one.target not in inside]
    shared = _grouped(rest, lambda one: set(one.member.backgrounds))
    return [
        *(_group(Kind.DITHERS, those, facts) for those in dithers),
        *(_group(Kind.DEDICATED, those, facts) for those in shared),
    ]


def _grouped(entries: Sequence[Entry], files_of: Callable[[Entry], set[str]]) -> list[list[Entry]]:
    groups: dict[frozenset[str], list[Entry]] = {}
    for one in entries:
        groups.setdefault(frozenset(files_of(one)), []).append(one)
    return list(groups.values())


def _group(kind: Kind, entries: Sequence[Entry], facts: Mapping[Path, Facts]) -> Group:
    sources = sorted({one.source.name for one in entries})
    told = sources[0] if len(sources) == 1 else f"{sources[0]} and {len(sources) - 1} more"
    return Group(
        name="",
        kind=kind,
        members=tuple(one.member for one in entries),
        why=f"as {told} say{'s' if len(sources) == 1 else ''}: "
        + describe(facts[entries[0].target]),
    )


def write_associations(
    plan: Plan, folder: str | os.PathLike[str], *, overwrite: bool = False
) -> list[Path]:
    """Write a plan as level-2 associations, one a target, as calwebb_image2 and _spec2 take them.

    Parameters
    ----------
    plan : Plan
        Its targets' headers are read.
    folder : path
        Where to; made if need be. Best that of the exposures: what is not below it is named by
        its whole path, of which the pipeline warns.
    overwrite : bool
        Whether files that are there, and say something else, may be replaced.

    Returns
    -------
    list of Path
        All of them written, or none.

    Raises
    ------
    InputError
        If a target cannot be read.
    OutputError
        If one cannot be written, or is there already.
    """
    folder = make_folder(folder)
    members = [one for group in moved_to(plan, folder).groups for one in group.members]
    paths = [Path(os.path.abspath(folder / one.target)) for one in members]  # noqa: PTH100
    facts, unreadable = read_facts(paths, HeaderCache(cache_file(), FORM))
    for path, reason in unreadable.items():
        raise InputError(f"{path}: {reason}")
    texts: dict[Path, str] = {}
    for member, one in zip(members, facts, strict=True):
        kind = "image2" if one.info.exposure_type in IMAGING else "spec2"
        path = _free_name(folder / f"{one.stem}_{kind}_asn.json", texts)
        texts[path] = json.dumps(_as_association(member, one, kind), indent=4) + "\n"
    check_new(texts, overwrite)
    write_texts(texts)
    return list(texts)


def _free_name(path: Path, taken: Mapping[Path, str]) -> Path:
    """Number a name where exposures in two folders have the same."""
    number = 2
    free = path
    while free in taken:
        free = path.with_name(path.name.replace("_asn.json", f"_{number}_asn.json"))
        number += 1
    return free


def _as_association(member: Member, facts: Facts, kind: str) -> dict[str, object]:
    """Say what the archive says, as far as a plan knows it; the rule is that of lists by hand."""
    named = [(member.target, "science"), *((one, "background") for one in member.backgrounds)]
    companions = [(getattr(member, word), exptype) for word, exptype in COMPANIONS.items()]
    named += [(file, exptype) for file, exptype in companions if file is not None]
    return {
        "asn_type": kind,
        "asn_rule": "DMSLevel2bBase",
        "version_id": None,
        "degraded_status": "No known degraded exposures in association.",
        "program": facts.info.program or "noprogram",
        "constraints": "No constraints",
        "asn_id": "a3001",
        "asn_pool": "none",
        "target": facts.targets[0] if facts.targets else "none",
        "products": [
            {
                "name": facts.stem,
                "members": [{"expname": file, "exptype": exptype} for file, exptype in named],
            }
        ],
    }
