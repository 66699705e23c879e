"""All parameters, and what they are called on the command line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from webbkg.errors import OptionError
from webbkg.options.image import ImageOptions
from webbkg.options.run import RunOptions
from webbkg.options.soss import SossOptions
from webbkg.options.table import Options, Parameter
from webbkg.options.template import TemplateOptions
from webbkg.options.wfss import WfssOptions

KINDS: tuple[type[Options], ...] = (
    RunOptions,
    ImageOptions,
    SossOptions,
    WfssOptions,
    TemplateOptions,
)


def parameters() -> dict[str, Parameter]:
    """Tell all parameters by their names, those of every mode first."""
    return {one.name: one for kind in KINDS for one in kind.parameters().values()}


REFERENCES = ("override_bkg", "override_wavelengthrange")
"""What may be given besides the parameters: references in place of CRDS's choice."""


def check_names(given: Iterable[str], refused: Mapping[str, str] | None = None) -> None:
    """Refuse a parameter that does not exist: a misspelt one would be passed over.

    `refused` says of parameters that cannot be given here why.

    Raises
    ------
    OptionError
        Naming the first one, and what may have been meant.
    """
    refused = refused or {}
    known = [name for name in (*parameters(), *REFERENCES) if name not in refused]
    for name in given:
        if name in refused:
            raise OptionError(f"{name} must not be given here: {refused[name]}")
        if name not in known:
            near = get_close_matches(name, known, 1)
            meant = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"
            raise OptionError(f"there is no parameter {name!r}{meant}")


def option_name(name: str) -> str:
    """Give a parameter the name that it has on the command line.

    Examples
    --------
    >>> option_name("wfss_maxiter")
    '--wfss-maxiter'
    """
    return f"--{name.replace('_', '-')}"


_COMMAND_ONLY = (
    *("output_dir", "output_file", "override_bkg", "override_wavelengthrange"),
    *("background_target", "min_separation", "memory_limit"),
)
_ENGLISH = (
    *("sigma", "preset", "suffix", "template"),
    *("scheduler", "engine", "shard", "workers"),
)
"""Parameters whose names are words, too: they are meant where a message demands or offers them."""


def as_options(message: str) -> str:
    """Call the parameters in a message by the names that they have on the command line.

    What is part of another name, of a file's, say, stays.

    Examples
    --------
    >>> as_options("sigma must be at least 0; source_mask.fits: choose another suffix")
    '--sigma must be at least 0; source_mask.fits: choose another --suffix'
    >>> as_options("nothing to compare (match_background = scale)")
    'nothing to compare (--match-background scale)'
    """
    named = {*parameters(), *_COMMAND_ONLY} - {*_ENGLISH, "bkg_list"}
    plain = "|".join(sorted(named, key=len, reverse=True))
    words = "|".join(_ENGLISH)
    found = rf"{plain}|(?:^|(?<=another )|(?<=, )|(?<=or ))(?:{words})(?= must|$|[,;]| or | for )"
    pattern = rf"(?<![\w./'\"-])({found})(?![\w/'\"-]|\.\w)(?: = (?=\w))?"
    return re.sub(pattern, lambda met: _renamed(met[0], met[1]), message)


def _renamed(met: str, name: str) -> str:
    return option_name(name) + (" " if met != name else "")
