"""What a programme comes to: groups of exposures that share their work, and what is left out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Why exposures are a group, and so what they share."""

    DEDICATED = "dedicated"  # exposures of the sky next to the targets: one combination for all
    DITHERS = "dithers"  # of one source, which lies elsewhere in the others: each by the others
    GRISM = "grism"  # one exposure, its sky scaled
    SOSS = "soss"  # the segments of one exposure, fitted together
    TEMPLATE = "template"  # one exposure, template images scaled


AVERAGED = (Kind.DEDICATED, Kind.DITHERS)
"""Those whose members have background exposures."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """One target of a group.

    Attributes
    ----------
    target : str
        Its file, absolute or from the plan's folder.
    backgrounds : tuple of str
        The files that are subtracted from it; empty where a template is.
    catalog : str or None
        Source catalogue of a grism exposure.
    direct_image : str or None
        The image that the catalogue was made from.
    segmentation : str or None
        The segmentation map that goes with it.
    """

    target: str
    backgrounds: tuple[str, ...] = ()
    catalog: str | None = None
    direct_image: str | None = None
    segmentation: str | None = None


@dataclass(frozen=True, kw_only=True)
class Group:
    """Exposures that are reduced together: the unit of work of a programme.

    Attributes
    ----------
    name : str
        Unique in its plan, the same each time that the same files are planned.
    kind : Kind
        What they share.
    members : tuple of Member
        Its targets, in the order of their names.
    why : str
        How it came about, in words.
    """

    name: str
    kind: Kind
    members: tuple[Member, ...]
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """An exposure of which nothing is planned.

    Attributes
    ----------
    file : str
        Its name.
    reason : str
        Why, and what would bring it in.
    """

    file: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is subtracted from what.

    Attributes
    ----------
    groups : tuple of Group
        In the order of their names.
    left_out : tuple of LeftOut
        In the order of their names.
    folder : str
        Where the names of its files count from.
    """

    groups: tuple[Group, ...]
    left_out: tuple[LeftOut, ...] = ()
    folder: str = "."
