"""Images to which templates of the user's own are scaled: each by itself."""

from __future__ import annotations

from collections.abc import Iterable

from webbkg.batch.groups import Group, Kind, Member
from webbkg.batch.headers import Facts
from webbkg.batch.screening import IMAGING
from webbkg.batch.setups import describe

NO_SERIES = (
    "is of a SOSS series, for which there are no templates of your own; plan it apart, and give a "
    "library of its skies as override_bkg"
)


def plan_images(
    exposures: Iterable[Facts],
) -> tuple[list[Group], list[tuple[Facts, str]]]:
    """Make a group of each image; tell what is none."""
    groups, left = [], []
    for facts in exposures:
        if facts.info.exposure_type not in IMAGING:
            kind = facts.info.exposure_type
            left.append((facts, f"is no image (EXP_TYPE {kind}), and templates are for images"))
        elif facts.axes != 2:
            left.append((facts, "has 3 axes; templates need its rate product, which has 2"))
        else:
            member = Member(target=str(facts.path))
            why = f"an image, for templates: {describe(facts)}"
            groups.append(Group(name="", kind=Kind.TEMPLATE, members=(member,), why=why))
    return groups, left
