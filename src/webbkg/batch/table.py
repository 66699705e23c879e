"""A plan as lines of text, for people."""

from __future__ import annotations

from collections.abc import Iterator

from webbkg.batch.groups import Group, Kind, Member, Plan

MOST_NAMES = 3
"""Backgrounds that are named; of more, the first and the last."""

MOST_LEFT = 12
"""Files that are named for one reason; the plan's file names them all."""


def lines(plan: Plan) -> Iterator[str]:
    """Tell what is subtracted from what, and what is left out, and why.

    Yields
    ------
    str
        Line by line; first the sum of it.
    """
    yield first_line(plan)
    for group in plan.groups:
        yield ""
        yield f"{group.name} ({group.kind}): {group.why}"
        width = max(len(one.target) for one in group.members)
        for one in group.members:
            yield f"  {one.target:<{width}}  {_subtracted(one, group)}"
    if plan.left_out:
        yield ""
        yield "left out"
        yield from _left_out(plan)


def first_line(plan: Plan) -> str:
    """Count the targets, and what is left out."""
    targets = sum(len(group.members) for group in plan.groups)
    return (
        f"{_counted(targets, 'target')} in {_counted(len(plan.groups), 'group')}, "
        f"{_counted(len(plan.left_out), 'file')} left out"
    )


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _subtracted(member: Member, group: Group) -> str:
    """Say what is subtracted from a target."""
    if group.kind in (Kind.GRISM, Kind.SOSS, Kind.TEMPLATE):
        told = [
            ("catalogue", member.catalog),
            ("direct image", member.direct_image),
            ("segmentation map", member.segmentation),
        ]
        named = ", ".join(f"{what} {file}" for what, file in told if file is not None)
        return f"- scaled template{f' ({named})' if named else ''}"
    names = member.backgrounds
    if len(names) <= MOST_NAMES:
        return "- " + ", ".join(names)
    others = {one.target for one in group.members} - {member.target}
    if others == set(names):
        return f"- the {len(names)} others"
    return f"- {len(names)} exposures, {names[0]} … {names[-1]}"


def _left_out(plan: Plan) -> Iterator[str]:
    reasons: dict[str, list[str]] = {}
    for one in plan.left_out:
        reasons.setdefault(one.reason, []).append(one.file)
    for reason, files in reasons.items():
        for file in files[:MOST_LEFT]:
            yield f"  {file}"
        if len(files) > MOST_LEFT:
            yield f"  … and {len(files) - MOST_LEFT} more"
        yield f"    {reason}"
