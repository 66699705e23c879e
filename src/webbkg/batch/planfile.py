"""Plans as files, to be read and edited by people; their schema is ``plan.schema.json``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from webbkg.batch.groups import AVERAGED, Group, Kind, LeftOut, Member, Plan
from webbkg.errors import InputError, OutputError
from webbkg.files import door
from webbkg.files.disk import settle
from webbkg.files.json import read_json
from webbkg.files.output import make_folder, writing_whole

MARK, FORM = "webbkg_plan", 1
"""The key by which a plan is known, and the form of what follows."""

LONGEST = 2**28
"""Bytes of a plan; an exposure takes some 100 for each exposure that has it as its background."""

COMPANIONS = ("catalog", "direct_image", "segmentation")
OTHERS = "others"
"""In the place of backgrounds: the other targets of the group."""


def as_json(plan: Plan, *, short: bool = False) -> dict[str, Any]:
    """Turn a plan into what JSON can hold, as the schema says.

    Parameters
    ----------
    plan : Plan
        It.
    short : bool
        Whether backgrounds that all members of a group have are told once, for people.
    """
    as_group = _group_in_short if short else _group_as_json
    return {
        MARK: FORM,
        "groups": [as_group(one) for one in plan.groups],
        "left_out": [{"file": one.file, "reason": one.reason} for one in plan.left_out],
    }


def _group_as_json(group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "kind": str(group.kind),
        "why": group.why,
        "members": [_member_as_json(one) for one in group.members],
    }


def _group_in_short(group: Group) -> dict[str, Any]:
    """Tell what is shared once, and a target of which nothing else is to be told by its name."""
    told = _group_as_json(group)
    members = told["members"]
    if all(one.backgrounds == _others(group, one) for one in group.members):
        shared: Any = OTHERS
    else:
        shared = members[0].get("backgrounds")
    if group.kind in AVERAGED and (
        shared == OTHERS or all(one["backgrounds"] == shared for one in members)
    ):
        told = {**told, "backgrounds": shared, "members": members}
        for one in members:
            del one["backgrounds"]
    told["members"] = [one["target"] if len(one) == 1 else one for one in told.pop("members")]
    return told


def _others(group: Group, member: Member) -> tuple[str, ...]:
    return tuple(one.target for one in group.members if one is not member)


def _member_as_json(member: Member) -> dict[str, Any]:
    told: dict[str, Any] = {"target": member.target}
    if member.backgrounds:
        told["backgrounds"] = list(member.backgrounds)
    named = {word: getattr(member, word) for word in COMPANIONS}
    return told | {word: file for word, file in named.items() if file is not None}


def write_plan(plan: Plan, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write a plan as a file, whole or not at all.

    Parameters
    ----------
    plan : Plan
        Its names are written as they count from the file's folder.
    path : path
        Where to; its folder is made if need be.
    overwrite : bool
        Whether a file that is there, and says something else, may be replaced.

    Raises
    ------
    OutputError
        If it cannot be written, or is there already.
    """
    path = Path(path)
    moved = moved_to(plan, make_folder(path.parent))
    texts = {path: json.dumps(as_json(moved, short=True), indent=1) + "\n"}
    check_new(texts, overwrite)
    write_texts(texts)
    return path


def check_new(texts: Mapping[Path, str], overwrite: bool) -> None:
    """Refuse to replace files that say something else than what is to be written.

    Raises
    ------
    OutputError
        If one is there, unless all may be overwritten.
    """
    for path, text in texts.items():
        if not overwrite and door.exists(path) and not _says(path, text.encode()):
            raise OutputError(
                f"{path}: is there already, and may have been edited; choose another name, or "
                "overwrite it (overwrite=True, --overwrite)"
            )


def _says(path: Path, content: bytes) -> bool:
    same_size = path.is_file() and path.stat().st_size == len(content)
    return same_size and path.read_bytes() == content


def write_texts(texts: Mapping[Path, str]) -> None:
    """Write texts as files: all of them whole, or none.

    Raises
    ------
    OutputError
        If one cannot be written.
    """
    with writing_whole(list(texts)) as partials:
        for partial, text in zip(partials, texts.values(), strict=True):
            with partial.open("wb") as stream:
                stream.write(text.encode())
                settle(stream)


def moved_to(plan: Plan, folder: str | os.PathLike[str]) -> Plan:
    """Return a plan whose names count from another folder: whole paths where they are not below it."""
    here, there = Path(plan.folder).absolute(), Path(os.path.abspath(folder))  # noqa: PTH100
    if here == there:
        return replace(plan, folder=str(there))

    @cache
    def name(file: str) -> str:
        path = Path(os.path.abspath(here / file))  # noqa: PTH100
        return (path.relative_to(there) if path.is_relative_to(there) else path).as_posix()

    def moved(member: Member) -> Member:
        named = {word: getattr(member, word) for word in COMPANIONS}
        return replace(
            member,
            target=name(member.target),
            backgrounds=tuple(map(name, member.backgrounds)),
            **{word: None if file is None else name(file) for word, file in named.items()},
        )

    return Plan(
        groups=tuple(replace(one, members=tuple(map(moved, one.members))) for one in plan.groups),
        left_out=tuple(replace(one, file=name(one.file)) for one in plan.left_out),
        folder=str(there),
    )


def is_plan(path: str | os.PathLike[str]) -> bool:
    """Tell a plan from an association, both of which are JSON files, and from anything else."""
    try:
        content = _read_json(Path(path))
    except InputError:
        return False
    return isinstance(content, Mapping) and MARK in content


def read_plan(path: str | os.PathLike[str]) -> Plan:
    """Read a plan; its names count from the file's folder.

    Whether its files are there is seen when they are needed.

    Raises
    ------
    MissingFileError
        If there is no such file.
    InputError
        If it is no plan: with the place in the file, the value, and the way out.
    """
    path = Path(path)
    return _Reader(str(path)).plan(_read_json(path), os.path.abspath(path.parent))  # noqa: PTH100


def _read_json(path: Path) -> Any:
    return read_json(
        path,
        "plan",
        "a plan",
        LONGEST,
        wanted="a JSON file, as `webbkg plan -o` writes it",
        too_long="cut the plan into several",
        unique=True,
    )


class _Reader:
    """Reads a plan; every fault is told with the file and the place in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.places: dict[str, str] = {}

    def plan(self, content: Any, folder: str) -> Plan:
        if not isinstance(content, Mapping) or MARK not in content:
            raise InputError(
                f"{self.name}: is no plan (it has no {MARK!r}); make one with `webbkg plan … -o "
                "plan.json`"
            )
        self._keys(content, "the plan", ("$schema", MARK, "groups", "left_out"), (MARK, "groups"))
        if content[MARK] != FORM:
            raise self._wrong(MARK, content[MARK], f"must be {FORM}, the form that is known")
        groups = self._list(content["groups"], "groups")
        found = tuple(self._group(one, f"groups[{i}]") for i, one in enumerate(groups))
        names = [one.name for one in found]
        for i, name in enumerate(names):
            if name in names[:i]:
                first = f"groups[{names.index(name)}]"
                raise self._wrong(f"groups[{i}].name", name, f"is that of {first}, too; rename one")
        left = self._list(content.get("left_out", []), "left_out")
        outs = tuple(self._left_out(one, f"left_out[{i}]") for i, one in enumerate(left))
        return Plan(groups=found, left_out=outs, folder=folder)

    def _group(self, content: Any, at: str) -> Group:
        known = ("name", "kind", "why", "backgrounds", "members")
        self._keys(content, at, known, ("name", "kind", "members"))
        kinds = [str(one) for one in Kind]
        if content["kind"] not in kinds:
            way = f"must be one of {', '.join(kinds)}"
            raise self._wrong(f"{at}.kind", content["kind"], way)
        kind = Kind(content["kind"])
        listed = self._list(content["members"], f"{at}.members")
        if not listed:
            raise self._wrong(f"{at}.members", listed, "must name a target; or take the group out")
        places = [f"{at}.members[{i}]" for i in range(len(listed))]
        members = [{"target": one} if isinstance(one, str) else one for one in listed]
        targets = [self._target(*one) for one in zip(members, places, strict=True)]
        shared = content.get("backgrounds", [])
        made = []
        for one, target, place in zip(members, targets, places, strict=True):
            where = f"{place if 'backgrounds' in one else at}.backgrounds"
            names = self._backgrounds(one.get("backgrounds", shared), targets, target, where)
            self._check_backgrounds(names, target, kind, where)
            made.append(self._member(one, target, names, place))
        return Group(
            name=self._text(content["name"], f"{at}.name"),
            kind=kind,
            why=self._text(content.get("why", ""), f"{at}.why", free=True),
            members=tuple(made),
        )

    def _target(self, content: Any, at: str) -> str:
        self._keys(content, at, ("target", "backgrounds", *COMPANIONS), ("target",))
        target = self._text(content["target"], f"{at}.target")
        before = self.places.setdefault(os.path.normpath(target), at)
        if before != at:
            way = f"is the target of {before}, too; take one of them out"
            raise self._wrong(f"{at}.target", target, way)
        return target

    def _backgrounds(self, content: Any, targets: Sequence[str], target: str, at: str) -> list[str]:
        if content == OTHERS:
            return [one for one in targets if one != target]
        listed = self._list(content, at, f", or {OTHERS!r} for the group's other targets")
        return [self._text(one, f"{at}[{i}]") for i, one in enumerate(listed)]

    def _member(
        self, content: Mapping[str, Any], target: str, names: Sequence[str], at: str
    ) -> Member:
        named = {word: content.get(word) for word in COMPANIONS}
        return Member(
            target=target,
            backgrounds=tuple(names),
            **{
                word: None if file is None else self._text(file, f"{at}.{word}")
                for word, file in named.items()
            },
        )

    def _check_backgrounds(self, names: list[str], target: str, kind: Kind, at: str) -> None:
        if kind in AVERAGED and not names:
            way = f"must name at least one exposure (the group is of the kind {kind})"
            raise self._wrong(at, names, f"{way}; or take {target} out")
        if kind not in AVERAGED and names:
            way = f"must be left out (the group is of the kind {kind}, whose sky is scaled)"
            raise self._wrong(at, names, way)
        seen: set[str] = set()
        plain = [os.path.normpath(name) for name in names]
        for i, name in enumerate(names):
            if plain[i] == os.path.normpath(target):
                way = f"is the target itself, {target}; take it out"
            elif plain[i] in seen:
                way = "stands twice; take one out"
            else:
                seen.add(plain[i])
                continue
            raise self._wrong(f"{at}[{i}]", name, way)

    def _left_out(self, content: Any, at: str) -> LeftOut:
        self._keys(content, at, ("file", "reason"), ("file", "reason"))
        return LeftOut(
            file=self._text(content["file"], f"{at}.file"),
            reason=self._text(content["reason"], f"{at}.reason", free=True),
        )

    def _keys(self, content: Any, at: str, known: Sequence[str], needed: Sequence[str]) -> None:
        if not isinstance(content, Mapping):
            raise self._wrong(at, content, f"must be an object with {', '.join(needed)}")
        for key in content:
            if key not in known:
                near = get_close_matches(key, known, n=1)
                way = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
                raise InputError(f"{self.name}: {at} has the key {_shown(key)}, unknown; {way}")
        for key in needed:
            if key not in content:
                raise InputError(f"{self.name}: {at} lacks {key}; add it")

    def _list(self, content: Any, at: str, more: str = "") -> list[Any]:
        if not isinstance(content, list):
            raise self._wrong(at, content, f"must be a list{more}")
        return content

    def _text(self, content: Any, at: str, *, free: bool = False) -> str:
        """Check a text: a name, or for people alone, which may be anything."""
        if not isinstance(content, str) or not (free or (content and "\0" not in content)):
            raise self._wrong(at, content, "must be a text")
        return content

    def _wrong(self, at: str, value: Any, way: str) -> InputError:
        return InputError(f"{self.name}: {at} {way} (got {_shown(value)})")


def _shown(value: Any) -> str:
    text = door.brief(ValueError(json.dumps(value)))
    return text if len(text) <= 80 else text[:80] + "…"
